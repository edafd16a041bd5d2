"""A response comes before the client's time has passed (wire.md §3, §4)."""

import asyncio
import inspect
import time

from support.forwarders import OPERATIONS, SOURCE
from support.internals import begin_exchange
from support.scripted_server import HANG, http, scripted_server, unused_url
from support.serving import reply

LATE_SECONDS = 8
"""How late a response may come on a busy machine. A hop without a deadline would take ten seconds or more."""


async def timed(hop, operation, milliseconds: int):
    began = time.monotonic()
    response = await hop.send(operation, X_Request_Timeout_Ms=str(milliseconds))
    return response, time.monotonic() - began


async def test_a_next_hop_that_hangs_is_504_at_the_deadline(start_hop, forwarder):
    for milliseconds in (600, 8_000):  # on a busy machine 600 ms may pass before the requests leave
        async with scripted_server(HANG) as next_hop:
            hop = await start_hop(forwarder, next_url=next_hop.url)
            timings = await asyncio.gather(*(timed(hop, each, milliseconds) for each in OPERATIONS.values()))
        if len(OPERATIONS) == len(next_hop.requests):
            break

    for response, seconds in timings:
        assert (504, "UpstreamTimeoutError") == (response.status, response.id)
        assert response.json["message"].startswith(f"{hop.forwarder.next_service} did not answer in time.")
        assert milliseconds / 1000 - 0.01 < seconds < milliseconds / 1000 + LATE_SECONDS
    assert {response.json["message"]} == {line["cause"] for line in hop.log.events}
    assert len(OPERATIONS) == len(next_hop.requests)


async def test_a_response_that_stays_incomplete_is_504_at_the_deadline(hop):
    async def half(seen):
        response = await reply(200, {})(seen)
        response.content_length = 99
        return response

    hop.next_hop.answer = half
    response, seconds = await timed(hop, SOURCE, 150)

    assert response.status in {502, 504}
    assert seconds < 0.15 + LATE_SECONDS


async def test_an_unreachable_next_hop_is_502_at_once(start_hop, forwarder):
    hop = await start_hop(forwarder, next_url=unused_url())
    for operation in OPERATIONS.values():
        response, seconds = await timed(hop, operation, 60_000)

        assert (502, "UpstreamError") == (response.status, response.id)
        assert hop.forwarder.next_service in response.json["message"]
        assert seconds < LATE_SECONDS


async def test_a_directory_that_hangs_is_504_at_the_deadline(start_hop, operation):
    async with scripted_server(HANG) as directory:
        hop = await start_hop("spsp-client-proxy", directory_url=directory.url)

        response, seconds = await timed(hop, operation, 150)

        assert (504, "UpstreamTimeoutError") == (response.status, response.id)
        assert response.json["message"].startswith("The central directory did not answer in time.")
        assert 0.14 < seconds < 0.15 + LATE_SECONDS
        assert [] == hop.next_hop.seen


async def test_the_directory_and_the_next_hop_share_one_deadline(proxy):
    async def slow_directory(seen):
        await asyncio.sleep(0.5)
        return await reply(200, {"spspReceiver": "http://spsp-server"})(seen)

    async def hangs(_seen):
        await asyncio.sleep(60)

    proxy.directory.answer, proxy.next_hop.answer = slow_directory, hangs

    response, seconds = await timed(proxy, SOURCE, 2_000)

    assert (504, "UpstreamTimeoutError") == (response.status, response.id)
    assert seconds < 2 + LATE_SECONDS
    assert all(int(seen.headers["X-Request-Timeout-Ms"]) <= 1_500 for seen in proxy.next_hop.seen)


async def test_a_hop_works_again_after_its_next_hop_hung(start_hop, forwarder):
    async with scripted_server(HANG, http(200, b'{"a":1}')) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)

        while not next_hop.requests:  # on a busy machine 50 ms may pass before the request leaves
            assert 504 == (await timed(hop, SOURCE, 50))[0].status
        assert 200 == (await timed(hop, SOURCE, 30_000))[0].status


async def test_one_millisecond_is_a_time(hop):
    response, _ = await timed(hop, SOURCE, 1)

    assert response.status in {200, 504}


async def test_work_whose_deadline_passes_before_it_begins_is_closed(hop):
    """Python warns of a coroutine that is never awaited, and in tests a warning is an error."""

    async def work():
        raise AssertionError("it must not begin")

    coroutine = work()
    exchange, statuses = begin_exchange(hop.app)
    exchange.run(coroutine)
    exchange.end()
    for _ in range(10):
        await asyncio.sleep(0)

    assert ([504], inspect.CORO_CLOSED) == (statuses, inspect.getcoroutinestate(coroutine))
