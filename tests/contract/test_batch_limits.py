"""Batches of requests that are late, large, slow, or too many (wire.md §8)."""

import asyncio
from dataclasses import replace

import pytest

from chassis import batching
from support.batch_senders import MAX_BODY_BYTES, echo_trace_id, numbered, until_in_flight
from support.batches import Line, peer
from support.forwarders import FORWARDERS, SOURCE, ClientRequest
from support.internals import limit_waiting_requests
from support.messages import TRACE


async def test_a_request_whose_deadline_passes_in_the_queue_is_504_and_never_sent(sender):
    tasks = await sender.waiting(
        *numbered(2, X_Request_Timeout_Ms="1000"), (SOURCE, {TRACE: "trace-in-time"})
    )
    late = await asyncio.gather(*tasks[:2])
    sender.peer.release()
    in_time = await tasks[2]

    assert [(504, "UpstreamTimeoutError")] * 2 == [(response.status, response.id) for response in late]
    assert 200 == in_time.status
    sent = [line["headers"][TRACE] for batch in sender.peer.batches for line in batch]
    sent += [seen.headers[TRACE] for seen in sender.peer.single]
    assert ["trace-in-time"] == sent


async def test_a_batch_does_not_wait_for_a_request_after_its_deadline(sender):
    go_on = asyncio.Event()

    async def slow(line: Line) -> tuple[int, dict[str, str], str]:
        if line["headers"][TRACE] == "trace-0":
            await go_on.wait()
        return await echo_trace_id(line)

    sender.peer.answer = slow
    responses = await sender.together(*numbered(1, X_Request_Timeout_Ms="1000"), *numbered(4)[1:])
    go_on.set()

    assert [504, 200, 200, 200] == [response.status for response in responses]


async def test_a_slow_response_delays_no_other(sender):
    """Neither in its batch nor after it."""
    go_on = asyncio.Event()

    async def slow(line: Line) -> tuple[int, dict[str, str], str]:
        if line["headers"][TRACE] == "trace-0":
            await go_on.wait()
        return await echo_trace_id(line)

    sender.peer.answer = slow
    tasks = await sender.waiting(*numbered(5))
    sender.peer.release()
    assert [200] * 4 == [response.status for response in await asyncio.gather(*tasks[1:])]
    for _ in range(3):
        assert [200] * 4 == [response.status for response in await sender.together(*numbered(5)[1:])]
    assert not tasks[0].done()
    go_on.set()

    assert {"for": "trace-0"} == (await tasks[0]).json


@pytest.mark.parametrize("body", [b'{"a": "\xff"}', b"\xff", b'{"a": "\xed\xa0\x80"}'], ids=repr)
async def test_a_body_that_is_not_utf_8_goes_alone_beside_the_batch(sender, body):
    invalid = (replace(SOURCE, body=body), {TRACE: "invalid"})
    responses = await sender.together(invalid, *numbered(3))

    assert [200] * 4 == [response.status for response in responses]
    assert [3] == [len(batch) for batch in sender.peer.batches]
    assert [("invalid", body)] == [(seen.headers[TRACE], seen.body) for seen in sender.peer.single]


@pytest.mark.parametrize("unit", [b"x", b"\x01", "ü".encode(), "\U0001f4b6".encode(), b'"', b"\\"], ids=repr)
async def test_no_batch_is_over_4_mib_and_no_body_is_changed(sender, unit):
    """A line that does not fit goes alone: 64 KiB of control characters are 384 KiB of JSON."""
    seen: dict[str, bytes] = {}

    async def keep(line: Line) -> tuple[int, dict[str, str], str]:
        seen[line["headers"][TRACE]] = (line["body"] or "").encode()
        return await echo_trace_id(line)

    sender.peer.answer = keep
    body = unit * (MAX_BODY_BYTES // len(unit))
    large = [(replace(SOURCE, body=body), more) for _, more in numbered(63)]
    responses = await sender.together(*large)

    assert [200] * 63 == [response.status for response in responses]
    assert {body} == {seen[f"trace-{each}"] for each in range(63)}
    assert all(len(envelope.body) <= 4 * 2**20 for envelope in sender.peer.envelopes)
    assert len(sender.peer.batches[0]) > 8


async def test_requests_beyond_the_limit_of_waiting_ones_are_503_and_the_others_go_on(sender_of, monkeypatch):
    limit_waiting_requests(monkeypatch, 5)
    sender = await sender_of()
    tasks = await sender.waiting(*numbered(5))
    rejected = await sender.hop.send()
    sender.peer.release()

    assert (503, "UnavailableError") == (rejected.status, rejected.id)
    assert "Retry-After" in rejected.headers
    assert [200] * 5 == [response.status for response in await asyncio.gather(*tasks)]


async def test_a_slow_response_of_the_directory_delays_no_other(window, start_hop):
    """Directory look-ups go in batches, too."""
    go_on = asyncio.Event()
    blocking = asyncio.Event()

    async def look_up(line: Line) -> tuple[int, dict[str, str], str]:
        if "=slow" in line["path"]:
            await go_on.wait()
        if "=blocking" in line["path"]:
            await blocking.wait()
        return 200, {"Content-Type": "application/json"}, '{"spspReceiver": "http://spsp-server"}'

    def of(identifier: str) -> ClientRequest:
        assert SOURCE.body is not None
        return replace(SOURCE, body=SOURCE.body.replace(b"30754016", identifier.encode()))

    async with peer(answer=look_up) as directory:
        hop = await start_hop(FORWARDERS["spsp-client-proxy"], batch_lines="64", directory_url=directory.url)
        assert 200 == (await hop.send()).status
        held = []
        for number in range(batching.WINDOW):
            held.append(asyncio.create_task(hop.send(of(f"blocking-{number}"))))
            await directory.until_received(2 + number)
        slow = asyncio.create_task(hop.send(of("slow")))
        quick = [asyncio.create_task(hop.send(of(f"quick-{each}"))) for each in range(5)]
        await until_in_flight(hop, len(held) + 6)
        blocking.set()

        assert [200] * 5 == [response.status for response in await asyncio.gather(*quick)]
        assert [200] * len(held) == [response.status for response in await asyncio.gather(*held)]
        assert 200 == (await hop.send(of("later"))).status
        assert not slow.done()
        go_on.set()
        assert 200 == (await slow).status
    assert [6] == [len(batch) for batch in directory.batches]
