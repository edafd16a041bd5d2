"""A connection serves one request after another: in parts, early, late, or never complete.

Each test runs with every implementation of HTTP (`QUOTES_HTTP`).
"""

import asyncio
from dataclasses import replace

import pytest

from chassis.http import adapter, server
from support.client import is_error_object, responses_in
from support.forwarders import LOOK_UP, QUOTE_REPLY, SOURCE, response_from
from support.internals import end_connections_with, fail_requests, is_idle
from support.messages import TRACE
from support.payee import until
from support.serving import Seen, connection, loop_iterations, reply
from support.settings import HTTP


class Held:
    """A next hop that responds when the test says."""

    def __init__(self) -> None:
        self.received, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, seen: Seen):
        self.received.set()
        await self.go_on.wait()
        return await reply(200, QUOTE_REPLY)(seen)


@pytest.fixture(params=HTTP)
def http(request) -> str:
    return request.param


@pytest.fixture
async def hop(start_hop, http):
    return await start_hop("spsp-server", http=http)


async def test_requests_in_parts_and_whole_ones_follow_each_other_on_one_connection(hop):
    request = hop.request_bytes(SOURCE, Connection="keep-alive")
    async with connection(hop.url) as (reader, writer):
        for at in [len(request), 20, len(request) - 20, len(request), 1]:
            writer.write(request[:at])
            await asyncio.sleep(0.02)
            writer.write(request[at:])

            assert 200 == (await response_from(reader)).status


async def test_requests_that_come_while_one_is_in_flight_are_answered_after_it(hop):
    """However large they are: the service stops reading before they fill the memory."""
    hop.next_hop.answer = held = Held()
    request = hop.request_bytes(SOURCE, Connection="keep-alive")
    large = replace(SOURCE, body=b"x" * 300_000)
    async with connection(hop.url) as (reader, writer):
        writer.write(request)
        await held.received.wait()
        writer.write(hop.request_bytes(LOOK_UP, Connection="keep-alive", L1p_Trace_Id="second"))
        writer.write(hop.request_bytes(large, Connection="keep-alive", L1p_Trace_Id="large"))
        await loop_iterations()
        held.go_on.set()
        responses = [await response_from(reader) for _ in range(3)]

    assert [200, 200, 413] == [response.status for response in responses]
    assert ["second", "large"] == [response.headers[TRACE] for response in responses[1:]]


async def test_a_connection_is_closed_when_it_has_been_idle_and_not_while_it_is_used(
    start_hop, http, monkeypatch
):
    monkeypatch.setattr(server, "KEEPALIVE_SECONDS", 0.3)
    monkeypatch.setitem(adapter.OPTIONS, "keepalive_timeout", 0.3)
    hop = await start_hop("spsp-server", http=http)
    loop = asyncio.get_running_loop()
    last_used = 0.0

    async def slow(seen: Seen):
        nonlocal last_used
        await asyncio.sleep(0.5)
        last_used = loop.time()
        return await reply(200, QUOTE_REPLY)(seen)

    hop.next_hop.answer = slow
    async with connection(hop.url) as (reader, writer):
        writer.write(2 * hop.request_bytes(SOURCE, Connection="keep-alive"))
        for _ in range(2):
            assert 200 == (await response_from(reader)).status
        assert b"" == await reader.read()
        idle_seconds = loop.time() - last_used

    assert idle_seconds >= 0.2


async def test_a_client_that_closes_its_side_gets_its_response_and_the_connection_ends(hop):
    hop.next_hop.answer = held = Held()
    async with connection(hop.url) as (reader, writer):
        writer.write(hop.request_bytes(SOURCE, Connection="keep-alive"))
        await held.received.wait()
        writer.write_eof()
        await loop_iterations()
        held.go_on.set()
        [response] = responses_in(await reader.read())

    assert (200, "close") == (response.status, response.headers["Connection"])


@pytest.mark.parametrize("path", ["/nothing", "/v1/quoteSourceAmount"])
async def test_a_connection_ends_when_its_client_leaves_after_an_early_response(hop, path, monkeypatch):
    """The response cannot say that the connection ends: it was sent before the end of the body arrived."""
    end_connections_with(monkeypatch, b"}")
    async with connection(hop.url) as (reader, writer):
        writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n{{".encode())
        response = await response_from(reader)
        writer.write(b" " * 199_998 + b"}")
        rest = await reader.read()

    assert response.status in {401, 404}
    assert b"" == rest


async def test_a_client_that_goes_away_while_its_request_is_in_flight_does_no_harm(hop):
    hop.next_hop.answer = held = Held()
    async with connection(hop.url) as (_, writer):
        writer.write(hop.request_bytes(SOURCE, Connection="keep-alive"))
        await held.received.wait()
        writer.transport.abort()
        await loop_iterations()
    held.go_on.set()

    async def idle() -> bool:
        return is_idle(hop.app)

    await until(idle)
    assert 200 == (await hop.send()).status


async def test_an_unexpected_failure_is_an_error_object_and_closes_the_connection(hop, monkeypatch):
    fail_requests(monkeypatch, RuntimeError("broken"))
    async with connection(hop.url) as (reader, writer):
        writer.write(hop.request_bytes(SOURCE, Connection="keep-alive"))
        response = await response_from(reader)

    assert 503 == response.status
    assert is_error_object(response)
    assert "RuntimeError: broken" in hop.log.text
