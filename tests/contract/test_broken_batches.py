"""What becomes of each request where the answers to a batch break off, or are none (wire.md §8)."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from support.batch_senders import echo_trace_id, numbered
from support.batches import NDJSON, Line, Peer, batch_bytes
from support.messages import KEY


def saying(*parts: bytes, then: str = "ends") -> Any:
    """Streams this in place of answers; then ends, or breaks off."""

    async def envelope(self: Peer, request: web.Request, _lines: list[Line]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": NDJSON, **self.announcement})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0.01)
        if then == "breaks":
            assert request.transport is not None
            request.transport.abort()
        await response.write_eof()
        return response

    return envelope


def answered(id_: Any, content: Any = None, **more: Any) -> bytes:
    body = json.dumps(content or {"for": id_})
    return batch_bytes([{"id": id_, "status": 200, "headers": {}, "body": body, **more}])


@pytest.mark.parametrize("then", ["ends", "breaks"])
async def test_where_the_answers_end_too_soon_the_others_are_502(sender, then):
    sender.peer.envelope = saying(answered(1), answered(3), then=then)
    answers = await sender.together(*numbered(4))

    assert [502, 200, 502, 200] == [answer.status for answer in answers]
    assert [{"for": 1}, {"for": 3}] == [answers[1].json, answers[3].json]
    assert (1, []) == (len(sender.peer.batches), sender.peer.single)


async def test_a_repetition_with_the_same_key_completes_what_broke(sender):
    sender.peer.envelope = saying(answered(0), then="breaks")
    broken = await sender.together(*numbered(3))
    sender.peer.envelope = None
    sender.peer.answer = echo_trace_id
    repeated = await sender.together(*numbered(3))

    assert [200, 502, 502] == [answer.status for answer in broken]
    assert ["key-1", "key-2"] == [answer.headers[KEY] for answer in broken[1:]]
    assert [200] * 3 == [answer.status for answer in repeated]
    one, two = ([line["headers"][KEY] for line in batch] for batch in sender.peer.batches)
    assert one == two


STRANGE = {
    "no JSON": b"{\n",
    "nothing": b"\n",
    "no UTF-8": b'{"id": 1, "status": 200, "headers": {}, "body": "\xff"}\n',
    "nested without end": b'{"id": 1, "x":' + b"[" * 100_000 + b"\n",
    "half a surrogate": b'{"id": 1, "status": 200, "headers": {}, "body": "\\ud800"}\n',
    "no status": b'{"id": 1, "headers": {}, "body": "{}"}\n',
    "a status that is text": b'{"id": 1, "status": "200", "headers": {}, "body": "{}"}\n',
    "an id nobody sent": answered(9),
    "a negative id": answered(-1),
    "an id that is text": answered("1"),
    "a huge id": answered(2**70),
    "a line that is none": answered(None, line=9),
    "neither id nor line": answered(None),
    "a line that is text": answered(None, line="1"),
    "the line before the first": answered(None, line=0),
}


@pytest.mark.parametrize("strange", STRANGE.values(), ids=STRANGE.keys())
async def test_a_line_that_is_no_answer_is_nobodys_and_the_others_go_on(sender, strange):
    sender.peer.envelope = saying(answered(0), strange, answered(2))
    answers = await sender.together(*numbered(3))

    assert [200, 502, 200] == [answer.status for answer in answers]


async def test_the_first_answer_to_a_request_stands(sender):
    sender.peer.envelope = saying(answered(0, {"a": 1}), answered(0, {"a": 2}), answered(1))
    answers = await sender.together(*numbered(2))

    assert {"a": 1} == answers[0].json
    assert 200 == answers[1].status


async def test_a_line_that_could_not_be_read_there_is_answered_by_its_number(sender):
    refused = answered(None, {"id": "InvalidBodyError"}, status=400, line=2)
    sender.peer.envelope = saying(answered(0), refused)
    answers = await sender.together(*numbered(2))

    assert [200, 400] == [answer.status for answer in answers]


async def test_a_line_without_end_breaks_the_stream_off(sender):
    sender.peer.envelope = saying(answered(0), *[b"x" * 2**16] * 20, answered(1))
    answers = await sender.together(*numbered(2))

    assert [200, 502] == [answer.status for answer in answers]


async def test_answers_may_come_in_any_pieces(sender):
    said = b"".join(answered(each, {"for": each}) for each in (2, 0, 1))
    sender.peer.envelope = saying(*(said[at : at + 7] for at in range(0, len(said), 7)))
    answers = await sender.together(*numbered(3))

    assert [{"for": 0}, {"for": 1}, {"for": 2}] == [answer.json for answer in answers]


async def test_the_last_answer_needs_its_newline(sender):
    """Without it nobody knows whether it is whole."""
    sender.peer.envelope = saying(answered(0), answered(1)[:-1])
    answers = await sender.together(*numbered(2))

    assert [200, 502] == [answer.status for answer in answers]


@pytest.mark.parametrize(("closes", "statuses"), [(1, [200] * 3), (2, [502] * 3)])
async def test_a_connection_closed_before_the_first_byte_is_repeated_once(sender, closes, statuses):
    left = closes

    async def envelope(self: Peer, request: web.Request, lines: list[Line]) -> web.StreamResponse:
        nonlocal left
        if left:
            left -= 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return await self.each(request, lines)

    sender.peer.envelope = envelope
    answers = await sender.together(*numbered(3))

    assert statuses == [answer.status for answer in answers]
    one, two = sender.peer.batches
    assert one == two
