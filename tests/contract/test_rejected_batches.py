"""Outcomes of requests in a batch that is rejected as a whole (wire.md §8)."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from support.batch_senders import MAX_BODY_BYTES, echo_trace_id, numbered
from support.batches import Line, Peer
from support.forwarders import SOURCE
from support.messages import TRACE


def rejecting(
    status: int, *, still: bool = False, content: Any = None, type_: str = "application/json"
) -> Any:
    """Reject whole batches with this response. ``still`` goes on announcing batches."""

    async def envelope(self: Peer, _request: web.Request, _lines: list[Line]) -> web.StreamResponse:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        headers = {"Content-Type": type_, "Retry-After": "9", **(self.announcement if still else {})}
        return web.Response(status=status, body=body, headers=headers)

    return envelope


@pytest.mark.parametrize("status", [404, 405, 415])
async def test_where_a_peer_takes_no_batches_any_more_each_request_goes_alone_at_once(each_sender, status):
    sender = each_sender
    sender.peer.answer = echo_trace_id

    sender.peer.envelope = rejecting(status)
    responses = await sender.together(*numbered(10))

    assert [(200, {"for": f"trace-{each}"}) for each in range(10)] == [(a.status, a.json) for a in responses]
    assert 1 == len(sender.peer.batches)
    assert 10 == len(sender.peer.single)
    sender.peer.announces = None
    await sender.hop.send()
    sender.peer.hold()
    tasks = [asyncio.create_task(sender.hop.send()) for _ in range(10)]
    await sender.peer.until_holding(10)
    sender.peer.release()
    await asyncio.gather(*tasks)
    assert 1 == len(sender.peer.batches)


async def test_waiting_requests_leave_at_once_when_a_peer_stops_announcing(sender):
    """All of them, each alone: not a few at a time, as for a batch."""
    go_on = asyncio.Event()

    async def slow(line: Line) -> tuple[int, dict[str, str], str]:
        if line["headers"].get(TRACE, "").startswith("trace-"):
            await go_on.wait()
        return await echo_trace_id(line)

    sender.peer.answer = slow
    tasks = await sender.waiting(*numbered(100))
    sender.peer.announces = None
    sender.peer.release()
    await sender.peer.until_received(100)
    go_on.set()

    assert [200] * 100 == [response.status for response in await asyncio.gather(*tasks)]
    assert [] == sender.peer.batches


async def test_a_peer_that_announces_again_gets_batches_again(sender):
    sender.peer.envelope = rejecting(404)
    await sender.together(*numbered(5))
    sender.peer.envelope = None
    await sender.together(*numbered(5))

    assert [5, 5] == [len(batch) for batch in sender.peer.batches]


async def test_the_requests_of_a_batch_that_is_too_large_go_alone_and_the_next_batch_is_sent(sender):
    sender.peer.envelope = rejecting(413, still=True)
    responses = await sender.together(*numbered(5))
    sender.peer.envelope = None
    await sender.together(*numbered(6))

    assert [200] * 5 == [response.status for response in responses]
    assert [5, 6] == [len(batch) for batch in sender.peer.batches]


async def test_a_smaller_announcement_with_a_413_counts(sender):
    sender.peer.announces = "2"
    sender.peer.envelope = rejecting(413, still=True)
    sender.peer.release()
    tasks = await sender.waiting(*numbered(6))
    sender.peer.release()
    await asyncio.gather(*tasks)
    sender.peer.envelope = None
    sender.peer.batches.clear()
    await sender.together(*numbered(6))

    assert 2 == max(len(batch) for batch in sender.peer.batches)


async def test_a_deadline_ends_one_request_alone_where_all_go_alone(sender):
    async def slow(line: Line) -> tuple[int, dict[str, str], str]:
        if line["headers"].get(TRACE, "").startswith("trace-"):
            await asyncio.sleep(1.5)
        return await echo_trace_id(line)

    sender.peer.answer = slow
    sender.peer.envelope = rejecting(404)
    short = (SOURCE, {TRACE: "trace-short", "X-Request-Timeout-Ms": "1000"})
    responses = await sender.together(short, *numbered(3, X_Request_Timeout_Ms="30000"))

    assert [504, 200, 200, 200] == [response.status for response in responses]


UNAVAILABLE = {
    "id": "UnavailableError",
    "message": "The service is shutting down.",
    "service": "theirs",
    "traceId": "t",
}


async def test_a_503_for_a_batch_is_a_503_for_each_request_with_its_own_trace_id(each_sender):
    each_sender.peer.envelope = rejecting(503, still=True, content=UNAVAILABLE)
    responses = await each_sender.together(*numbered(5))

    assert [(503, {**UNAVAILABLE, "traceId": f"trace-{each}"}, "9") for each in range(5)] == [
        (response.status, response.json, response.headers["Retry-After"]) for response in responses
    ]
    assert (1, []) == (len(each_sender.peer.batches), each_sender.peer.single)


@pytest.mark.parametrize(
    "envelope",
    [
        rejecting(503, content=b"<html>", type_="text/html"),
        rejecting(503, content=b"x" * (MAX_BODY_BYTES + 1)),
        rejecting(200, content={"amount": "1"}),
        rejecting(200, content=b"", type_="text/plain"),
        rejecting(204),
        rejecting(302),
        rejecting(400, content={"id": "InvalidBodyError"}),
        rejecting(401),
        rejecting(429),
        rejecting(500),
        rejecting(502, content=UNAVAILABLE),
    ],
    ids=["503 html", "503 long", "200 json", "200 text", "204", "302", "400", "401", "429", "500", "502"],
)
async def test_any_other_response_to_a_batch_is_502_for_each_request(sender, envelope):
    sender.peer.envelope = envelope
    responses = await sender.together(*numbered(3))

    assert [(502, "UpstreamError")] * 3 == [(response.status, response.id) for response in responses]
    assert [f"trace-{each}" for each in range(3)] == [response.json["traceId"] for response in responses]
    assert (1, []) == (len(sender.peer.batches), sender.peer.single)
