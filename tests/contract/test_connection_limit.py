"""A service at its limit of connections: it closes idle ones, refuses new ones, says so, and still answers."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from network.ports import find_first_port
from support.service_process import service_process
from support.serving import SECONDS
from support.settings import HTTP

LIVE = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
STARTED = b"POST /v1/quoteSourceAmount HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n"
AGGRESSIVE = "127.0.0.2"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Running:
    """A service as a process with a limit of eight connections, six of one address."""

    port: int
    log: Path
    stack: contextlib.AsyncExitStack

    async def connect(self, address: str = "127.0.0.1") -> Connection:
        made = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))
        self.stack.callback(made[1].close)
        return made

    async def metric(self, name: str) -> float:
        reader, writer = await self.connect("127.0.0.9")
        writer.write(
            LIVE.replace(b"/health/live", b"/metrics").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
        lines = (await reader.read()).decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(name))

    def refusals(self) -> list[dict]:
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line for line in lines if line.get("event") == "connections cannot be accepted"]


async def is_live(connection: Connection) -> bool:
    """Whether a request on the connection is answered with 200; False where the connection closes."""
    reader, writer = connection
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(LIVE)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len('{"status": "live"}'))
    except (ConnectionError, asyncio.IncompleteReadError):
        return False
    return head.startswith(b"HTTP/1.1 200 ")


async def eventually(check) -> None:
    async with asyncio.timeout(SECONDS):
        while not await check():
            await asyncio.sleep(0.02)


@pytest.fixture(params=HTTP)
async def service(request, tmp_path, users_file) -> AsyncIterator[Running]:
    port, log = find_first_port(), tmp_path / "log"
    settings = {"QUOTES_HTTP": request.param, "QUOTES_MAX_CONNECTIONS": "8"}
    with service_process("spsp_server", port, users_file, log, **settings):
        async with contextlib.AsyncExitStack() as stack:
            yield Running(port, log, stack)


async def test_at_the_limit_the_oldest_idle_connection_makes_room(service):
    """All come from one address, as behind a load balancer."""
    connections = [await service.connect() for _ in range(6)]
    assert all([await is_live(each) for each in connections])
    newest = await service.connect()

    assert await is_live(newest)
    assert not await is_live(connections[0])
    assert all([await is_live(each) for each in connections[1:]])
    assert [] == service.refusals()


async def test_requests_that_never_arrive_whole_make_room_for_others(service):
    """Nothing of them has begun: 2,048 of them kept a service from accepting anybody for 75 s."""
    for _ in range(6):
        _, writer = await service.connect(AGGRESSIVE)
        writer.write(STARTED)
    # its response comes after the service has begun to serve them
    assert 7 == await service.metric("connections_open")
    for _ in range(6):
        assert await is_live(await service.connect(AGGRESSIVE))
        assert await is_live(await service.connect())


async def test_a_network_at_its_share_is_refused_and_others_are_served(service, users_file):
    """Each of its connections has a request whose body does not arrive, which counts as begun."""
    begun = STARTED.replace(b"Content-Length: 2\r\n", b"Content-Length: 2\r\nExpect: 100-continue\r\n")
    begun += b"Authorization: Basic dGVzdDoxMjM=\r\nContent-Type: application/json\r\n\r\n"
    for _ in range(6):
        reader, writer = await service.connect(AGGRESSIVE)
        writer.write(begun)
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await reader.readuntil(b"\r\n\r\n")

    refused = [await is_live(await service.connect(AGGRESSIVE)) for _ in range(5)]
    assert [False] * 5 == refused
    assert await is_live(await service.connect())
    assert 5 == await service.metric('connections_refused_total{reason="share"}')
    first = service.refusals()[0]
    assert "one network has 6 of at most 8 connections" == first["cause"]
    assert len(service.refusals()) <= 5
