"""An answer comes before the caller's time is used up (wire.md §3, §4)."""

import asyncio
import time

import pytest

from support.forwarders import ASKS, hop_of
from support.serving import reply
from support.sockets import HANG, http, sockets, unused_url

LATE_SECONDS = 8  # as long as a slow machine may take; a hop that kept no deadline would take ten or more
"""How much later than its deadline an answer may come on a machine that others share."""


@pytest.fixture(params=ASKS.values(), ids=ASKS.keys())
def ask(request):
    return request.param


async def timed(hop, ask, milliseconds: int):
    began = time.monotonic()
    answer = await hop.send(ask, X_Request_Timeout_Ms=str(milliseconds))
    return answer, time.monotonic() - began


async def test_a_next_hop_that_hangs_is_504_at_the_deadline(forwarder, users_file, client, ask):
    async with (
        sockets(HANG) as next_hop,
        hop_of(forwarder, users_file, client, next_url=next_hop.url) as hop,
    ):
        answer, seconds = await timed(hop, ask, 150)

        assert (504, "UpstreamTimeoutError") == (answer.status, answer.id)
        assert 0.14 < seconds < 0.15 + LATE_SECONDS
        assert 1 == len(next_hop.requests)


async def test_a_body_that_stays_half_is_504_at_the_deadline(forwarder, users_file, client):
    async def half(seen):
        response = await reply(200, {})(seen)
        response.content_length = 99
        return response

    async with hop_of(forwarder, users_file, client) as hop:
        hop.next_hop.answer = half
        answer, seconds = await timed(hop, ASKS["source"], 150)

        assert answer.status in {502, 504}
        assert seconds < 0.15 + LATE_SECONDS


async def test_an_unreachable_next_hop_is_502_at_once(forwarder, users_file, client, ask):
    async with hop_of(forwarder, users_file, client, next_url=unused_url()) as hop:
        answer, seconds = await timed(hop, ask, 60_000)

        assert (502, "UpstreamError") == (answer.status, answer.id)
        assert hop.forwarder.next_service in answer.json["message"]
        assert seconds < 1


async def test_a_directory_that_hangs_is_504_at_the_deadline(proxy, hop_to, ask):
    async with sockets(HANG) as directory:
        hop = await hop_to(proxy.forwarder, directory_url=directory.url)

        answer, seconds = await timed(hop, ask, 150)

        assert (504, "UpstreamTimeoutError") == (answer.status, answer.id)
        assert 0.14 < seconds < 0.15 + LATE_SECONDS
        assert [] == hop.next_hop.seen


async def test_the_directory_and_the_next_hop_share_one_deadline(proxy):
    async def slow_directory(seen):
        await asyncio.sleep(0.15)
        return await reply(200, {"spspReceiver": "http://spsp-server"})(seen)

    async def slow_next_hop(seen):
        await asyncio.sleep(0.3)
        return await reply(200, {})(seen)

    proxy.directory.answer, proxy.next_hop.answer = slow_directory, slow_next_hop

    answer, seconds = await timed(proxy, ASKS["source"], 300)

    assert (504, "UpstreamTimeoutError") == (answer.status, answer.id)
    assert seconds < 0.3 + LATE_SECONDS
    assert int(proxy.next_hop.seen[0].headers["X-Request-Timeout-Ms"]) < 160


async def test_a_hop_is_well_again_after_its_next_hop_hung(forwarder, users_file, client):
    async with (
        sockets(HANG, http(200, b'{"a":1}')) as next_hop,
        hop_of(forwarder, users_file, client, next_url=next_hop.url) as hop,
    ):
        assert 504 == (await timed(hop, ASKS["source"], 50))[0].status
        assert 200 == (await timed(hop, ASKS["source"], 5_000))[0].status


async def test_one_millisecond_is_a_time(hop):
    answer, _ = await timed(hop, ASKS["source"], 1)

    assert answer.status in {200, 504}
