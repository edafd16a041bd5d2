"""Services and stand-ins for their neighbours, in the test's own process and on real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from support.internals import runner_of

SECONDS: Final = 60
"""Limit for what answers at once; long, because a busy machine may stand still for a while."""

Responder = Callable[["Seen"], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Base URL of a service, served in the same way as by `chassis.run`."""
    async with listening(runner_of(app)) as url:
        yield url


@asynccontextmanager
async def listening(runner: web.AppRunner, port: int = 0) -> AsyncIterator[str]:
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Seen:
    """A request that a stub received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    transport: asyncio.Transport | None = None
    """Its connection, for responders that close it."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Stub:
    """A next hop, or a directory, that responds as the test says and keeps the requests that it received."""

    answer: Responder
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method, request.raw_path, dict(request.headers), await request.read(), request.transport
        )
        self.seen.append(seen)
        return await self.answer(seen)


def reply(status: int = 200, content: Any = None, **headers: str) -> Responder:
    """Respond with this content: as JSON, unless it is bytes."""

    async def answer(_seen: Seen) -> web.Response:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        made.setdefault("Content-Type", "application/json")
        return web.Response(status=status, body=body, headers=made)

    return answer


@asynccontextmanager
async def stub(answer: Responder, port: int = 0) -> AsyncIterator[Stub]:
    """A stub that listens on ``port``, else on a free one."""
    made = Stub(answer)
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{any:.*}", made.handle)
    async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1), port) as made.url:
        yield made


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server, closed at the end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        writer.close()


class _Received(asyncio.Protocol):
    """Keeps what a server sends, also where the server resets the connection after it."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost.set_result(None)


async def send_bytes(url: str, *parts: bytes, half_close: bool = False) -> bytes:
    """Send bytes, and return everything that the server sends until it closes the connection.

    A server in this process reads each part before the next is sent. ``half_close`` closes the client's side after the
    last part.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    transport, received = await loop.create_connection(_Received, host, int(port))
    try:
        for part in parts:
            transport.write(part)
            if len(parts) > 1:
                # the server shares the loop: one turn to find the socket readable, one to read it, one to act
                for _ in range(3):
                    await asyncio.sleep(0)
        if half_close and not transport.is_closing():
            with contextlib.suppress(OSError):  # the server has reset the connection
                transport.write_eof()
        async with asyncio.timeout(SECONDS):
            await received.is_lost
    finally:
        transport.abort()
    return bytes(received.data)


@asynccontextmanager
async def client_session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client that adds no header, repeats no request and opens as many connections as it needs."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60),
        connector=aiohttp.TCPConnector(limit=0),
        skip_auto_headers=("Accept-Encoding",),
    ) as session:
        session._retry_connection = False
        yield session
