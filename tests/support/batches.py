"""Both sides of `POST /v1/batch` (wire.md §8): a sender that writes any line, and a next hop that takes batches."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

from support.messages import headers
from support.payee import until
from support.serving import Seen, listening

BATCH: Final = "/v1/batch"
NDJSON: Final = "application/x-ndjson"
QUOTE_BATCH: Final = "Quote-Batch"

Line = Mapping[str, Any]
"""One request or one answer of a batch, as JSON says it."""


def line(
    id_: int | str, method: str, path: str, body: bytes | None = None, **more: str | None
) -> dict[str, Any]:
    """A well-formed request; keyword names are headers with _ for -, None leaves one out."""
    made = {name: value for name, value in headers().items() if name == "Authorization"}
    for name, value in more.items():
        made[name.replace("_", "-")] = value
    given = {name: value for name, value in made.items() if value is not None}
    return {
        "id": id_,
        "method": method,
        "path": path,
        "headers": given,
        "body": None if body is None else body.decode(),
    }


def written(lines: Sequence[Line | bytes]) -> bytes:
    """The body of a batch; bytes stand for lines of the test's own."""
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )


@dataclass(frozen=True)
class Batch:
    """The reply to a batch."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.body.splitlines()]

    @property
    def by_id(self) -> dict[Any, dict[str, Any]]:
        return {each["id"]: each for each in self.lines}

    @property
    def outcomes(self) -> dict[Any, tuple[int, str | None]]:
        """Status and, where it is an error, its id."""
        return {each["id"]: (each["status"], json.loads(each["body"]).get("id")) for each in self.lines}


async def send_batch(
    client: aiohttp.ClientSession, url: str, lines: Sequence[Line | bytes] | bytes, **more: str | None
) -> Batch:
    """Sends one; ``more`` are headers of the envelope."""
    given = {"Content-Type": NDJSON} | {name.replace("_", "-"): value for name, value in more.items()}
    data = lines if isinstance(lines, bytes) else written(lines)
    async with client.post(
        url + BATCH,
        data=io.BytesIO(data),
        headers={name: value for name, value in given.items() if value is not None},
    ) as reply:
        return Batch(reply.status, dict(reply.headers), await reply.read())


Reply = tuple[int, Mapping[str, str], str | None]
"""Status, headers and body."""
Envelope = Callable[["Peer", web.Request, list[Line]], Awaitable[web.StreamResponse]]


def good(body: str = '{"amount" : "13.75",  "uuid":"x"}', **more: str) -> Callable[[Line], Awaitable[Reply]]:
    """Answers each request 200."""

    async def answer(_asked: Line) -> Reply:
        return 200, {"Content-Type": "application/json", **more}, body

    return answer


@dataclass
class Peer:
    """A next hop that takes batches and does with each request, alone or not, what the test says."""

    answer: Callable[[Line], Awaitable[Reply]] = field(default_factory=good)
    announces: str | None = "64"
    envelope: Envelope | None = None
    """Instead of answering a batch line by line."""
    url: str = ""
    alone: list[Seen] = field(default_factory=list)
    batches: list[list[Line]] = field(default_factory=list)
    envelopes: list[Seen] = field(default_factory=list)
    _gate: asyncio.Event = field(default_factory=asyncio.Event)
    holding: int = 0

    def __post_init__(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        """Leaves what comes alone without an answer until `let_go`."""
        self._gate.clear()

    def let_go(self) -> None:
        self._gate.set()

    async def until_holding(self, number: int) -> None:
        """Returns when so many requests that came alone have no answer yet."""

        async def is_so() -> bool:
            return self.holding == number

        await until(is_so)

    async def until_come(self, number: int) -> None:
        """Returns when so many requests have come alone."""

        async def is_so() -> bool:
            return len(self.alone) == number

        await until(is_so)

    @property
    def announcement(self) -> dict[str, str]:
        return {} if self.announces is None else {QUOTE_BATCH: self.announces}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(
            request.method, request.raw_path, dict(request.headers), await request.read(), request.transport
        )
        if request.path == BATCH:
            self.envelopes.append(seen)
            lines = [json.loads(each) for each in seen.body.splitlines()]
            self.batches.append(lines)
            return await (self.envelope or Peer.each)(self, request, lines)
        self.alone.append(seen)
        self.holding += 1
        await self._gate.wait()
        self.holding -= 1
        body = seen.body.decode("utf-8", "surrogateescape") if seen.body else None
        asked = {
            "id": None,
            "method": seen.method,
            "path": seen.target,
            "headers": seen.headers,
            "body": body,
        }
        status, told, answered = await self.answer(asked)
        return web.Response(
            status=status, headers={**told, **self.announcement}, body=(answered or "").encode()
        )

    async def each(self, request: web.Request, lines: list[Line]) -> web.StreamResponse:
        """Each line answered for itself, in the order of completion."""
        response = web.StreamResponse(headers={"Content-Type": NDJSON, **self.announcement})
        await response.prepare(request)

        async def one(asked: Line) -> bytes:
            status, told, body = await self.answer(asked)
            return written([{"id": asked["id"], "status": status, "headers": dict(told), "body": body}])

        for answered in asyncio.as_completed([one(asked) for asked in lines]):
            await response.write(await answered)
        await response.write_eof()
        return response


@asynccontextmanager
async def peer(**more: Any) -> AsyncIterator[Peer]:
    made = Peer(**more)
    app = web.Application(client_max_size=2**23)
    app.router.add_route("*", "/{any:.*}", made.handle)
    async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1)) as made.url:
        yield made
