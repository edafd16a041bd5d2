"""The answers of a batch come as they are there, after the whole batch and none for another (wire.md §8)."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from chassis.app import SERVICE
from support.batch_servers import BatchServer, batch_server_of
from support.batches import BATCH, NDJSON, batch_bytes
from support.forwarders import FORWARDERS, hop_of
from support.messages import TRACE
from support.payee import until
from support.serving import Seen, reply


class Gates:
    """A next hop whose answers the test lets go one by one, by trace id."""

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
    """A forwarder, and what lets its next hop answer."""
    hop = await start_hop(FORWARDERS["spsp-server"], batch_lines="64")
    gates = Gates()
    gates.open("alone")
    hop.next_hop.answer = gates.answer
    return batch_server_of(hop), gates


@asynccontextmanager
async def connection(
    batch_server: BatchServer,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*batch_server.url.removeprefix("http://").split(":"))
    try:
        yield reader, writer
    finally:
        writer.close()


def request(batch_server: BatchServer, names: Sequence[str]) -> bytes:
    """A batch of requests with these trace ids, in bytes."""
    data = batch_bytes([batch_server.line(name, L1p_Trace_Id=name) for name in names])
    head = (
        f"POST {BATCH} HTTP/1.1\r\nHost: x\r\nContent-Type: {NDJSON}\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


async def test_answers_come_in_the_order_of_completion_and_none_waits_for_another(gated):
    batch_server, gates = gated
    async with connection(batch_server) as (reader, writer):
        writer.write(request(batch_server, ["a", "b", "c", "d"]))
        for name in ["c", "a", "d", "b"]:
            gates.open(name)
            while not (said := await asyncio.wait_for(reader.readline(), 5)).startswith(b"{"):
                pass  # heads, sizes of chunks
            answered = json.loads(said)

            assert (name, 200) == (answered["id"], answered["status"])
            assert {"for": name} == json.loads(answered["body"])
        assert b"\r\n0\r\n\r\n" == await asyncio.wait_for(reader.readexactly(7), 5)


async def test_nothing_is_begun_before_the_whole_batch_is_there(gated):
    batch_server, gates = gated
    data = request(batch_server, ["a", "b"])
    async with connection(batch_server) as (reader, writer):
        writer.write(data[:-1])
        assert 200 == (await batch_server.alone(L1p_Trace_Id="alone")).status
        assert ["alone"] == [event["traceId"] for event in batch_server.log.events]
        assert 1 == batch_server.app[SERVICE].in_hand

        gates.open("a")
        gates.open("b")
        writer.write(data[-1:])
        assert b"HTTP/1.1 200 OK\r\n" == await asyncio.wait_for(reader.readline(), 5)


async def test_nothing_is_said_before_the_first_answer(gated):
    """Until then a connection that breaks may be repeated."""
    batch_server, gates = gated
    async with connection(batch_server) as (reader, writer):
        writer.write(request(batch_server, ["a", "b"]))
        assert 200 == (await batch_server.alone(L1p_Trace_Id="alone")).status
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        gates.open("b")

        assert b"HTTP/1.1 200 OK\r\n" == await asyncio.wait_for(reader.readline(), 5)
        gates.open("a")


async def test_who_goes_away_in_the_middle_stops_nothing_and_is_no_failure(gated):
    batch_server, gates = gated
    async with connection(batch_server) as (reader, writer):
        writer.write(request(batch_server, ["a", "b", "c"]))
        gates.open("a")
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.transport.abort()
    assert 200 == (await batch_server.alone(L1p_Trace_Id="alone")).status
    for count, name in [(3, "b"), (4, "c")]:
        gates.open(name)
        await batch_server.logged(count)
    await until(lambda: _is_idle(batch_server))

    assert [("a", 200), ("alone", 200), ("b", 200), ("c", 200)] == [
        (event["traceId"], event["status"]) for event in batch_server.log.events
    ]


async def _is_idle(batch_server: BatchServer) -> bool:
    return batch_server.app[SERVICE].in_hand == 0


async def test_a_batch_under_way_ends_with_its_service(users_file, client):
    """Where there is no more time to finish it: neither a line nor the reply goes on."""
    gates = Gates()
    async with hop_of(FORWARDERS["spsp-server"], users_file, client, batch_lines="64") as hop:
        hop.next_hop.answer = gates.answer
        reader, writer = await asyncio.open_connection(*hop.url.removeprefix("http://").split(":"))
        writer.write(request(batch_server_of(hop), ["a", "b"]))
        await until(lambda: _has(hop.next_hop.seen, 2))

    assert b"" == await asyncio.wait_for(reader.read(), 5)
    assert 0 == hop.app[SERVICE].in_hand
    writer.close()


async def _has(seen: list[Seen], count: int) -> bool:
    return len(seen) >= count
