"""The responses of a batch come as soon as they are there, and none waits for another (wire.md §8)."""

import asyncio
import json
from collections.abc import Sequence

import pytest
from aiohttp import web

from support.batch_servers import BatchServer, batch_server_of
from support.batches import BATCH, NDJSON, batch_bytes
from support.forwarders import FORWARDERS, hop_of
from support.internals import is_idle, requests_in_flight
from support.messages import TRACE
from support.payee import until
from support.serving import SECONDS, Seen, connection, reply


class Gates:
    """A next hop whose responses the test releases one by one, by trace id."""

    def __init__(self) -> None:
        self._gates: dict[str, asyncio.Event] = {}

    def open(self, trace: str) -> None:
        self._gate(trace).set()

    def _gate(self, trace: str) -> asyncio.Event:
        return self._gates.setdefault(trace, asyncio.Event())

    async def answer(self, seen: Seen) -> web.StreamResponse:
        await self._gate(seen.headers[TRACE]).wait()
        return await reply(200, {"for": seen.headers[TRACE]})(seen)


@pytest.fixture
async def gated(start_hop) -> tuple[BatchServer, Gates]:
    """A forwarder, and the gates of its next hop."""
    hop = await start_hop("spsp-server", batch_lines="64")
    gates = Gates()
    gates.open("alone")
    hop.next_hop.answer = gates.answer
    return batch_server_of(hop), gates


def request(server: BatchServer, names: Sequence[str]) -> bytes:
    """A batch of requests with these trace ids, in bytes."""
    data = batch_bytes([server.line(name, L1p_Trace_Id=name) for name in names])
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def test_responses_come_in_the_order_of_completion(gated):
    server, gates = gated
    async with connection(server.url) as (reader, writer):
        writer.write(request(server, ["a", "b", "c", "d"]))
        for name in ["c", "a", "d", "b"]:
            gates.open(name)
            while not (received := await reader.readline()).startswith(b"{"):
                pass  # heads, sizes of chunks
            response = json.loads(received)

            assert (name, 200) == (response["id"], response["status"])
            assert {"for": name} == json.loads(response["body"])
        assert b"\r\n0\r\n\r\n" == await reader.readexactly(7)


@pytest.mark.parametrize(("lines", "is_in_slices"), [(2, False), (40, True)])
async def test_a_large_batch_is_begun_in_slices(either_batch_server, lines, is_in_slices):
    """Other requests have their turn between the slices, and the response begins after the first one."""
    data = (b"x" * 100_000 + b"\n") * lines
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    async with connection(either_batch_server.url) as (reader, writer):
        writer.write(head.encode() + data)
        response = await reader.readuntil(b"\r\n\r\n")
        end = f'"line":{lines}}}\n'.encode()
        while end not in (received := await reader.readline()):
            assert b"InvalidBodyError" in received or not received.startswith(b"{")

    assert response.startswith(b"HTTP/1.1 200 ")
    assert is_in_slices == (b"transfer-encoding: chunked" in response.lower())


async def test_no_line_starts_before_the_whole_batch_has_come(gated):
    server, gates = gated
    data = request(server, ["a", "b"])
    async with connection(server.url) as (reader, writer):
        writer.write(data[:-1])
        assert 200 == (await server.alone(L1p_Trace_Id="alone")).status
        assert ["alone"] == [event["traceId"] for event in server.log.events]
        assert requests_in_flight(server.app) <= 1  # the envelope at most

        gates.open("a")
        gates.open("b")
        writer.write(data[-1:])
        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()


async def test_nothing_is_sent_before_the_first_response(gated):
    """Until then the client may repeat the batch if the connection breaks."""
    server, gates = gated
    async with connection(server.url) as (reader, writer):
        writer.write(request(server, ["a", "b"]))
        assert 200 == (await server.alone(L1p_Trace_Id="alone")).status
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        gates.open("b")

        assert b"HTTP/1.1 200 OK\r\n" == await reader.readline()
        gates.open("a")


async def test_a_client_that_goes_away_stops_no_line_and_is_no_failure(gated):
    server, gates = gated
    async with connection(server.url) as (reader, writer):
        writer.write(request(server, ["a", "b", "c"]))
        gates.open("a")
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()
    assert 200 == (await server.alone(L1p_Trace_Id="alone")).status
    for count, name in [(3, "b"), (4, "c")]:
        gates.open(name)
        await server.logged(count)

    async def idle() -> bool:
        return is_idle(server.app)

    await until(idle)
    assert [("a", 200), ("alone", 200), ("b", 200), ("c", 200)] == [
        (event["traceId"], event["status"]) for event in server.log.events
    ]


async def test_a_batch_in_flight_ends_with_its_service(users_file, client):
    """When the time to finish it is over, neither a line nor the response goes on."""
    gates = Gates()
    async with hop_of(FORWARDERS["spsp-server"], users_file, client, batch_lines="64") as hop:
        hop.next_hop.answer = gates.answer
        reader, writer = await asyncio.open_connection(*hop.url.removeprefix("http://").split(":"))
        writer.write(request(batch_server_of(hop), ["a", "b"]))

        async def both_came() -> bool:
            return len(hop.next_hop.seen) == 2

        await until(both_came)

    assert b"" == await asyncio.wait_for(reader.read(), SECONDS)
    assert is_idle(hop.app)
    writer.close()
