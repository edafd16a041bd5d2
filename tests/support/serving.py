"""Services and stand-ins for their neighbours, in the test's own process and on real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from chassis.listener import Runner

Answer = Callable[["Seen"], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    """Base URL of a service as `chassis.run` serves it."""
    async with listening(Runner(app)) as url:
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
    """A request that a stub got."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    transport: asyncio.Transport | None = None
    """The connection it came on, for answers that close it."""

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Stub:
    """A next hop, or a directory, that answers what the test says and remembers what it was asked."""

    answer: Answer
    url: str = ""
    seen: list[Seen] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method, request.raw_path, dict(request.headers), await request.read(), request.transport
        )
        self.seen.append(seen)
        return await self.answer(seen)


def reply(status: int = 200, content: Any = None, **headers: str) -> Answer:
    """Answers with this, in JSON unless it is bytes."""

    async def answer(_seen: Seen) -> web.Response:
        body = content if isinstance(content, bytes) else orjson.dumps(content)
        made = {name.replace("_", "-"): value for name, value in headers.items()}
        made.setdefault("Content-Type", "application/json")
        return web.Response(status=status, body=body, headers=made)

    return answer


@asynccontextmanager
async def stub(answer: Answer, port: int = 0) -> AsyncIterator[Stub]:
    """A stub on a port of its own, or on the one where somebody looks for it."""
    made = Stub(answer)
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/{any:.*}", made.handle)
    async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1), port) as made.url:
        yield made


async def raw(url: str, data: bytes, *, half_close: bool = False, seconds: float = 15) -> bytes:
    """What a socket answers to these bytes until it closes; `half_close` ends our side after them."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        await writer.drain()
        if half_close:
            writer.write_eof()
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()
