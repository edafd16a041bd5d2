"""`POST /v1/traces`: takes the spans that services export, and stores them before it answers."""

import asyncio
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Final

from aiohttp import web

from chassis.app import EXCHANGE
from chassis.batching import Batcher, FutureItem, Item
from chassis.errors import Fault, InvalidHeaderError, UnavailableError
from chassis.http.body import read
from console.traces.otlp import MAX_SENT_BYTES, Export, decompressed, media_type_of, read_export
from console.traces.span import Span
from console.traces.span_repository import SpanRepository

PATH: Final = "/v1/traces"
MAX_READING: Final = 32
"""Maximum number of exports that wait to be read; one is read at a time."""
MAX_WAITING: Final = 64
"""Maximum number of exports that wait to be stored."""
MAX_WAITING_SPANS: Final = 32_768
"""Maximum number of spans in all exports that are being stored or wait for it; one takes up to 4 KB of memory."""
EXPORTS_PER_STATEMENT: Final = 8
MAX_STATEMENTS: Final = 2
"""Maximum number of statements at the same time, so that other statements find a connection while Postgres is slow."""
STORE_SECONDS: Final = 8.0
"""OpenTelemetry's exporters give up after ten seconds by default."""


class TraceReceiver:
    """Reads exports one at a time, and stores many with one statement. Each queue has a limit."""

    def __init__(self, repository: SpanRepository, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        """Senders in the networks `trusted` need no credentials."""
        self._repository = repository
        self._trusted = trusted
        self._batcher: Batcher[tuple[Span, ...], None] = Batcher(
            self._store,
            window=1,
            max_items=EXPORTS_PER_STATEMENT,
            max_in_flight=MAX_STATEMENTS,
            max_waiting=MAX_WAITING,
        )
        self._turn = asyncio.Lock()
        self._reading = 0
        self._spans = 0
        """Spans that are being stored or wait for it."""

    async def handle(self, request: web.Request) -> web.Response:
        """Answer an export: 200 when its spans are stored, and 503 with Retry-After when a queue is full.

        Raises UnauthorizedError, TooManyRequestsError, UnsupportedMediaTypeError, PayloadTooLargeError, InvalidHeaderError, InvalidBodyError, UnavailableError,
        UpstreamTimeoutError.
        """
        exchange = request[EXCHANGE]
        if not self._is_trusted(request.remote):
            await exchange.authenticate()
        media_type = media_type_of(request.headers)
        encodings = request.headers.getall("Content-Encoding", ())
        if len(encodings) > 1:
            raise InvalidHeaderError(faults=[Fault("Content-Encoding", "may be given once")])
        body = await read(request, MAX_SENT_BYTES)
        encoding = encodings[0].strip().lower() if encodings else ""
        export = await self._read(body, encoding, media_type)
        if export.spans:
            await self._wait_until_stored(export.spans)
        exchange.is_logged = False  # each service sends one every second under load
        return web.Response(body=export.response(media_type), content_type=media_type)

    async def _wait_until_stored(self, spans: tuple[Span, ...]) -> None:
        if self._spans + len(spans) > MAX_WAITING_SPANS:
            raise UnavailableError("Too many spans wait to be stored. Retry after 1 s.")
        self._spans += len(spans)
        try:
            item = FutureItem[tuple[Span, ...], None](spans, time.monotonic() + STORE_SECONDS)
            self._batcher.add(item)
            await item.result
        finally:
            self._spans -= len(spans)

    def _is_trusted(self, address: str | None) -> bool:
        try:
            found = ip_address((address or "").partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in network for network in self._trusted)

    async def close(self) -> None:
        await self._batcher.close()

    async def _read(self, body: bytes, encoding: str, media_type: str) -> Export:
        """Read an export in a thread, so that a large one delays no other request."""
        if self._reading >= MAX_READING:
            raise UnavailableError("Too many exports of traces wait to be read. Retry after 1 s.")
        self._reading += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(_read_body, body, encoding, media_type)
        finally:
            self._reading -= 1

    async def _store(self, items: list[Item[tuple[Span, ...], None]], _free_slot: Callable[[], None]) -> None:
        spans = {(span.trace_id, span.span_id): span for item in items for span in item.value}
        await self._repository.insert(list(spans.values()), max(item.deadline for item in items))
        for item in items:
            item.settle(None)


def _read_body(body: bytes, encoding: str, media_type: str) -> Export:
    return read_export(decompressed(body, encoding), media_type)
