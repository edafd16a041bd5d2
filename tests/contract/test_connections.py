"""A connection that serves one request after another: what comes in pieces, early, late, or not at all."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from chassis import connection, listener
from chassis.app import SERVICE
from chassis.plain import plain
from support.forwarders import FORWARDERS, LOOK_UP, QUOTE_REPLY, SOURCE, answers_in, is_error_object
from support.serving import Seen, reply

SECONDS = 10


@pytest.fixture
async def hop(hop_to):
    return await hop_to(FORWARDERS["spsp-server"])


@contextlib.asynccontextmanager
async def connected(hop):
    host, _, port = hop.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        writer.close()


async def one(reader):
    """One whole response."""
    head = await reader.readuntil(b"\r\n\r\n")
    [answer] = answers_in(head)
    return replace(answer, body=await reader.readexactly(int(answer.headers["Content-Length"])))


@pytest.fixture
def read_here(monkeypatch):
    """Which requests were plain and in whole, in their order."""
    found = []

    def noted(data):
        request = plain(data)
        found.append(request is not None and not request.missing)
        return request

    monkeypatch.setattr(connection, "plain", noted)
    return found


async def test_after_a_request_in_pieces_the_next_is_read_here_again(hop, read_here):
    request = hop.written(SOURCE, Connection="keep-alive")
    async with connected(hop) as (reader, writer):
        for data in (request[:-20], request[-20:]):
            writer.write(data)
            await asyncio.sleep(0.02)
        first = await one(reader)
        await asyncio.sleep(0.02)
        writer.write(request)
        second = await one(reader)

    assert [False, True] == read_here
    assert [200, 200] == [first.status, second.status]


async def test_what_comes_while_a_request_is_answered_has_its_turn_after_it(hop, read_here):
    """However much it is: reading stops before it fills the memory."""
    hop.next_hop.answer = slow(0.2)
    request = hop.written(SOURCE, Connection="keep-alive")
    large = hop.written(replace(SOURCE, body=b"x" * 300_000), Connection="keep-alive", L1p_Trace_Id="large")
    async with connected(hop) as (reader, writer):
        writer.write(request)
        await asyncio.sleep(0.05)
        writer.write(hop.written(LOOK_UP, Connection="keep-alive", L1p_Trace_Id="second") + large)
        answers = [await one(reader), await one(reader), await one(reader)]

    assert [200, 200, 413] == [answer.status for answer in answers]
    assert ["second", "large"] == [answer.headers["L1p-Trace-Id"] for answer in answers[1:]]
    assert read_here[0]


async def test_a_connection_is_kept_while_it_is_used_and_closed_when_it_has_been_idle(
    hop_to, monkeypatch, read_here
):
    monkeypatch.setattr(listener, "KEEPALIVE_SECONDS", 0.3)
    hop = await hop_to(FORWARDERS["spsp-server"])
    hop.next_hop.answer = slow(0.8)
    request = hop.written(SOURCE, Connection="keep-alive")
    loop = asyncio.get_running_loop()
    async with connected(hop) as (reader, writer):
        for _ in range(2):
            await asyncio.sleep(0.05)
            writer.write(request)
            assert 200 == (await one(reader)).status
        began = loop.time()
        assert b"" == await reader.read()
        idle_seconds = loop.time() - began

    assert [True, True] == read_here
    assert idle_seconds >= 0.2


async def test_a_request_that_never_ends_does_not_keep_a_connection(hop_to, monkeypatch):
    monkeypatch.setattr(listener, "KEEPALIVE_SECONDS", 0.3)
    hop = await hop_to(FORWARDERS["spsp-server"])
    async with connected(hop) as (reader, writer):
        writer.write(b"GET /v1/quote HTTP/1.1\r\n")
        while not reader.at_eof():
            writer.write(b"X-More: yes\r\n")
            await asyncio.sleep(0.02)

        assert b"" == await reader.read()


async def test_a_caller_that_sends_no_more_gets_its_answer(hop, read_here):
    hop.next_hop.answer = slow(0.1)
    async with connected(hop) as (reader, writer):
        await asyncio.sleep(0.05)
        writer.write(hop.written(SOURCE, Connection="keep-alive"))
        await asyncio.sleep(0.02)
        writer.write_eof()
        answers = answers_in(await reader.read())

    assert [True] == read_here
    assert [200] == [answer.status for answer in answers]
    assert "close" == answers[0].headers["Connection"]


async def test_a_caller_that_goes_away_meanwhile_does_no_harm(hop, read_here):
    hop.next_hop.answer = slow(0.1)
    async with connected(hop) as (_, writer):
        await asyncio.sleep(0.05)
        writer.write(hop.written(SOURCE, Connection="keep-alive"))
        await asyncio.sleep(0.02)
        writer.transport.abort()
    await asyncio.sleep(0.3)

    assert [True] == read_here
    assert 0 == hop.app[SERVICE].in_hand
    assert 200 == (await hop.send()).status


async def test_a_fault_of_our_own_is_an_error_object_and_the_last_on_its_connection(hop, read_here):
    async def fails():
        raise RuntimeError("broken")

    hop.app[SERVICE].direct.insert(0, lambda _asked: fails())
    async with connected(hop) as (reader, writer):
        await asyncio.sleep(0.05)
        writer.write(hop.written(SOURCE, Connection="keep-alive"))
        [answer] = answers_in(await reader.read())

    assert [True] == read_here
    assert 503 == answer.status
    assert is_error_object(answer)
    assert "RuntimeError('broken')" in hop.lines.text


def slow(seconds: float):
    answer = reply(200, QUOTE_REPLY)

    async def slowly(seen: Seen):
        await asyncio.sleep(seconds)
        return await answer(seen)

    return slowly
