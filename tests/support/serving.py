"""Run services, and stubs in place of their neighbours, in the test's process and on real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import aiohttp
import orjson
from aiohttp import web

from support.internals import runner_of

SECONDS: Final = 60
"""Time limit for responses that come at once. It is long, because a busy machine may pause for a while."""

Responder = Callable[["Seen"], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Serve an application with the server that `chassis.run` uses; return its base URL."""
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
        await _stop_accepting(site)
        await runner.cleanup()


async def _stop_accepting(site: web.TCPSite) -> None:
    """Give the server all accepted connections. Of one that comes while a server closes, asyncio leaves the socket open."""
    server = cast("asyncio.Server", site._server)
    for listener in server.sockets:
        asyncio.get_running_loop().remove_reader(listener.fileno())
    await loop_iterations(3)


@dataclass
class Seen:
    """A request that a stub received."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    transport: asyncio.Transport | None = None
    """The request's connection, for responders that close the connection."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Stub:
    """A next hop or a directory that responds with `answer`, and keeps the requests that it received in `seen`."""

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
    """Return a responder that responds with this status and content. Content that is not bytes is sent as JSON."""

    async def answer(_seen: Seen) -> web.Response:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        made.setdefault("Content-Type", "application/json")
        return web.Response(status=status, body=body, headers=made)

    return answer


@asynccontextmanager
async def stub(answer: Responder, port: int = 0) -> AsyncIterator[Stub]:
    """Run a stub that responds with `answer`, on this port or, with 0, on a free one."""
    made = Stub(answer)
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{any:.*}", made.handle)
    async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1), port) as made.url:
        yield made


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a server; close it at the end of the block."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(SECONDS):
            yield reader, writer
    finally:
        writer.close()


async def loop_iterations(number: int = 20) -> None:
    """Let a server in this process, which shares the event loop, do what it can without waiting.

    20 iterations are enough to accept a connection and to read a request or the end of the connection. Unlike a pause,
    they do not depend on the machine's speed.
    """
    for _ in range(number):
        await asyncio.sleep(0)


class _Received(asyncio.Protocol):
    """Keeps all bytes that a server sends, even if the server then resets the connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.is_lost = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, _error: Exception | None) -> None:
        self.is_lost.set_result(None)


async def send_bytes(url: str, *parts: bytes, half_close: bool = False) -> bytes:
    """Send bytes on a new connection. Return everything that the server sends until it closes the connection.

    If there are several parts, a server in this process reads each part before the next one is sent. With
    ``half_close``, the client closes its sending side after the last part.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    transport, received = await loop.create_connection(_Received, host, int(port))
    try:
        for part in parts:
            transport.write(part)
            if len(parts) > 1:
                await loop_iterations(3)  # one each to poll, to read and to act
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
    """Return a client session that adds no headers, repeats no requests and opens as many connections as it needs."""
    async with aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=60),
        connector=aiohttp.TCPConnector(limit=0),
        skip_auto_headers=("Accept-Encoding",),
    ) as session:
        session._retry_connection = False
        yield session
