"""Memory that rejected requests leave behind. Collections are rare, so that no cycle may hold received data."""

import gc

import pytest
from aiohttp import StreamReader

from chassis.http.adapter import AiohttpConnection
from support.forwarders import Hop
from support.internals import open_connections
from support.messages import basic
from support.payee import until
from support.serving import connection, loop_iterations

SIZE = 200_000
LARGE = 5_000


def http(first_line: str, *header_lines: str) -> bytes:
    return "\r\n".join([first_line, "Host: x", *header_lines, "", ""]).encode() + b"A" * SIZE


RESERVE = "POST /v1/quoteSourceAmount HTTP/1.1"
JSON = "Content-Type: application/json"
LENGTH = f"Content-Length: {SIZE}"
REQUESTS = {
    "no HTTP": b"A" * SIZE,
    "a malformed header": http("GET / HTTP/1.1", "Bad Header: x"),
    "a malformed chunk": http(
        RESERVE, f"Authorization: {basic('test', '123')}", JSON, "Transfer-Encoding: chunked"
    ),
    "two framings": http(RESERVE, JSON, "Transfer-Encoding: gzip, chunked"),
    "an upgrade": http("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c"),
    "an unknown path": http("POST /nothing HTTP/1.1", LENGTH),
    "no credentials": http(RESERVE, JSON, LENGTH),
    "too long": http(RESERVE, f"Authorization: {basic('test', '123')}", JSON, LENGTH),
}


async def send_three(hop: Hop, kind: str) -> None:
    """Send requests of this kind that are rejected, and wait until the service has done with their connections."""
    before = open_connections(hop.app)
    for _ in range(3):
        async with connection(hop.url) as (reader, writer):
            writer.write(REQUESTS[kind])
            response = await reader.readuntil(b"\r\n\r\n")
            assert response.split()[1].startswith(b"4")

    async def are_closed() -> bool:
        return open_connections(hop.app) <= before

    await until(are_closed)
    await loop_iterations()


@pytest.mark.parametrize("kind", REQUESTS)
async def test_no_cycle_holds_received_data(hop, kind):
    gc.collect()
    gc.disable()
    try:
        await send_three(hop, kind)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        held = [
            len(data)
            for garbage in gc.garbage
            for data in gc.get_referents(garbage)
            if isinstance(data, (bytes, bytearray)) and len(data) > LARGE
        ]
        connections = sum(isinstance(each, AiohttpConnection) for each in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()

    assert ([], 0) == (held, connections)


@pytest.mark.parametrize("kind", REQUESTS)
async def test_no_received_data_stays_after_a_collection(hop, kind):
    """The garbage collector does not look into a `Request`, so a cycle of references through one would never be freed."""
    await send_three(hop, kind)
    gc.collect()

    assert [] == [
        each for each in gc.get_objects() if type(each) is StreamReader and each.total_bytes > LARGE
    ]
