"""Both sides of `POST /v1/batch` (wire.md §8): send a batch with any lines, and receive batches as a next hop."""

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
"""One request or one response of a batch, parsed from its JSON line."""


def line(
    id_: int | str, method: str, path: str, body: bytes | None = None, **more: str | None
) -> dict[str, Any]:
    """Return a request as a line of a batch. Keywords are headers with "_" in place of "-"; None leaves one out."""
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


def batch_bytes(lines: Sequence[Line | bytes]) -> bytes:
    """Return the body of a batch. A line that is already bytes is used as it is."""
    return b"".join(
        (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in lines
    )


@dataclass(frozen=True)
class BatchResponse:
    """The response to a batch."""

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
        """Status, and the error's id or None, by the id of the line."""
        return {each["id"]: (each["status"], json.loads(each["body"]).get("id")) for each in self.lines}


async def send_batch(
    client: aiohttp.ClientSession, url: str, lines: Sequence[Line | bytes] | bytes, **more: str | None
) -> BatchResponse:
    """Send a batch. Keywords are headers of the HTTP request that carries the lines, with "_" in place of "-"."""
    given = {"Content-Type": NDJSON} | {name.replace("_", "-"): value for name, value in more.items()}
    data = lines if isinstance(lines, bytes) else batch_bytes(lines)
    async with client.post(
        url + BATCH,
        data=io.BytesIO(data),
        headers={name: value for name, value in given.items() if value is not None},
    ) as response:
        return BatchResponse(response.status, dict(response.headers), await response.read())


LineResponse = tuple[int, Mapping[str, str], str | None]
"""Status, headers and body."""
Envelope = Callable[["Peer", web.Request, list[Line]], Awaitable[web.StreamResponse]]


def good(body: str = '{"amount" : "13.75",  "uuid":"x"}') -> Callable[[Line], Awaitable[LineResponse]]:
    """Respond 200 to each request."""

    async def answer(_line: Line) -> LineResponse:
        return 200, {"Content-Type": "application/json"}, body

    return answer


@dataclass
class Peer:
    """A next hop that receives single requests and batches, and responds to each request with `answer`."""

    answer: Callable[[Line], Awaitable[LineResponse]] = field(default_factory=good)
    announces: str | None = "64"
    envelope: Envelope | None = None
    """Function that responds to a whole batch. If it is None, `answer` responds to each line."""
    url: str = ""
    single: list[Seen] = field(default_factory=list)
    """Requests that came without a batch."""
    batches: list[list[Line]] = field(default_factory=list)
    envelopes: list[Seen] = field(default_factory=list)
    holding: int = 0
    """Single requests that wait for `release`."""
    _gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._gate.set()

    def hold(self) -> None:
        """Stop responding to single requests until `release` is called."""
        self._gate.clear()

    def release(self) -> None:
        self._gate.set()

    async def until_holding(self, number: int) -> None:
        """Wait until exactly this number of single requests waits for `release`."""

        async def is_so() -> bool:
            return self.holding == number

        await until(is_so)

    async def until_received(self, number: int) -> None:
        """Wait until exactly this number of single requests has arrived."""

        async def is_so() -> bool:
            return len(self.single) == number

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
        self.single.append(seen)
        self.holding += 1
        await self._gate.wait()
        self.holding -= 1
        body = seen.body.decode("utf-8", "surrogateescape") if seen.body else None
        received = {
            "id": None,
            "method": seen.method,
            "path": seen.target,
            "headers": seen.headers,
            "body": body,
        }
        status, given, content = await self.answer(received)
        return web.Response(
            status=status, headers={**given, **self.announcement}, body=(content or "").encode()
        )

    async def each(self, request: web.Request, lines: list[Line]) -> web.StreamResponse:
        """Respond to each line with `answer`, and send each response as soon as it is ready."""
        response = web.StreamResponse(headers={"Content-Type": NDJSON, **self.announcement})
        await response.prepare(request)

        async def one(received: Line) -> bytes:
            status, given, body = await self.answer(received)
            return batch_bytes(
                [{"id": received["id"], "status": status, "headers": dict(given), "body": body}]
            )

        for content in asyncio.as_completed([one(received) for received in lines]):
            await response.write(await content)
        await response.write_eof()
        return response


@asynccontextmanager
async def peer(**more: Any) -> AsyncIterator[Peer]:
    made = Peer(**more)
    app = web.Application(client_max_size=2**23)
    app.router.add_route("*", "/{any:.*}", made.handle)
    async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1)) as made.url:
        yield made
