"""Outcomes of requests in a batch whose response breaks off or is malformed (wire.md §8)."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from support.batch_senders import echo_trace_id, numbered
from support.batches import NDJSON, Line, Peer, batch_bytes
from support.messages import KEY


def sending(*parts: bytes, then: str = "ends") -> Any:
    """Send these bytes in place of responses; then end, or abort the connection."""

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


def response_line(id_: Any, content: Any = None, **more: Any) -> bytes:
    body = json.dumps(content or {"for": id_})
    return batch_bytes([{"id": id_, "status": 200, "headers": {}, "body": body, **more}])


@pytest.mark.parametrize("then", ["ends", "breaks"])
async def test_requests_without_a_response_are_502(sender, then):
    sender.peer.envelope = sending(response_line(1), response_line(3), then=then)
    responses = await sender.together(*numbered(4))

    assert [502, 200, 502, 200] == [response.status for response in responses]
    assert [{"for": 1}, {"for": 3}] == [responses[1].json, responses[3].json]
    assert (1, []) == (len(sender.peer.batches), sender.peer.single)


async def test_a_repetition_with_the_same_key_completes_a_broken_batch(sender):
    sender.peer.envelope = sending(response_line(0), then="breaks")
    broken = await sender.together(*numbered(3))
    sender.peer.envelope = None
    sender.peer.answer = echo_trace_id
    repeated = await sender.together(*numbered(3))

    assert [200, 502, 502] == [response.status for response in broken]
    assert ["key-1", "key-2"] == [response.headers[KEY] for response in broken[1:]]
    assert [200] * 3 == [response.status for response in repeated]
    one, two = ([line["headers"][KEY] for line in batch] for batch in sender.peer.batches)
    assert one == two


MALFORMED = {
    "no JSON": b"{\n",
    "nothing": b"\n",
    "no UTF-8": b'{"id": 1, "status": 200, "headers": {}, "body": "\xff"}\n',
    "nested without end": b'{"id": 1, "x":' + b"[" * 100_000 + b"\n",
    "half a surrogate": b'{"id": 1, "status": 200, "headers": {}, "body": "\\ud800"}\n',
    "no status": b'{"id": 1, "headers": {}, "body": "{}"}\n',
    "a status that is text": b'{"id": 1, "status": "200", "headers": {}, "body": "{}"}\n',
    "an unknown id": response_line(9),
    "a negative id": response_line(-1),
    "an id that is text": response_line("1"),
    "a huge id": response_line(2**70),
    "an unknown line": response_line(None, line=9),
    "neither id nor line": response_line(None),
    "a line that is text": response_line(None, line="1"),
    "the line before the first": response_line(None, line=0),
}


async def test_malformed_lines_are_ignored_and_the_others_go_on(sender):
    for name, malformed in MALFORMED.items():
        sender.peer.envelope = sending(response_line(0), malformed, response_line(2))
        responses = await sender.together(*numbered(3))

        assert [200, 502, 200] == [response.status for response in responses], name


async def test_the_first_response_to_a_request_counts(sender):
    sender.peer.envelope = sending(response_line(0, {"a": 1}), response_line(0, {"a": 2}), response_line(1))
    responses = await sender.together(*numbered(2))

    assert {"a": 1} == responses[0].json
    assert 200 == responses[1].status


async def test_a_response_may_name_a_malformed_line_by_its_number(sender):
    refused = response_line(None, {"id": "InvalidBodyError"}, status=400, line=2)
    sender.peer.envelope = sending(response_line(0), refused)
    responses = await sender.together(*numbered(2))

    assert [200, 400] == [response.status for response in responses]


async def test_a_line_over_the_limit_ends_the_response(sender):
    sender.peer.envelope = sending(response_line(0), *[b"x" * 2**16] * 20, response_line(1))
    responses = await sender.together(*numbered(2))

    assert [200, 502] == [response.status for response in responses]


async def test_responses_may_come_in_any_parts(sender):
    data = b"".join(response_line(each, {"for": each}) for each in (2, 0, 1))
    sender.peer.envelope = sending(*(data[at : at + 7] for at in range(0, len(data), 7)))
    responses = await sender.together(*numbered(3))

    assert [{"for": 0}, {"for": 1}, {"for": 2}] == [response.json for response in responses]


async def test_a_response_without_its_newline_is_incomplete(sender):
    sender.peer.envelope = sending(response_line(0), response_line(1)[:-1])
    responses = await sender.together(*numbered(2))

    assert [200, 502] == [response.status for response in responses]


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
    responses = await sender.together(*numbered(3))

    assert statuses == [response.status for response in responses]
    one, two = sender.peer.batches
    assert one == two
