"""Sends requests to the services that a service calls, in batches if the peer takes batches.

A service that takes batches announces this in a header of its responses. If a peer has not announced it, or no longer
does, each request is sent as a separate HTTP request. So any other implementation of the Quote API can be used
anywhere in the chain, and never receives a batch (wire.md §8).
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import orjson
from aiohttp import hdrs
from yarl import URL

from chassis.batching import MAX_WAITING, Batcher, Item, Items
from chassis.content import JSON, MAX_BODY_BYTES, is_of_type
from chassis.http.pool import BufferedResponse, ConnectionPool, NoResponseError, PeerResponse
from chassis.http.request import Headers, joined
from chassis.json_object import object_in
from chassis.spans import Attributes, Tracer, batch_span
from chassis.tracing import BATCH_SPANS_HEADER, TRACE_HEADER, TRACEPARENT_HEADER, Line
from quoting.batch_format import (
    BATCH_HEADER,
    BATCH_PATH,
    LINE_ERRORS,
    MAX_BATCH_BYTES,
    MEDIA_TYPE,
    Splitter,
    read_answer,
    request_line,
)

FORGET_AFTER: Final = frozenset({404, 405, 415})
"""After a batch gets one of these statuses, the peer gets no batch until it announces batches again."""
ALONE_AFTER: Final = FORGET_AFTER | {413}
"""After a batch gets one of these statuses, each of its requests is sent alone."""

_BATCH_HEADERS: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: MEDIA_TYPE}
_SPAN_NAME: Final = f"{hdrs.METH_POST} {BATCH_PATH}"
_ANNOUNCEMENT: Final = BATCH_HEADER.lower()
_MAX_ANNOUNCEMENT_DIGITS: Final = 5


class PeerRequest(Protocol):
    """One request to a peer: a call, or a look-up in the central directory."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str:
        """Path and query."""

    @property
    def body(self) -> bytes | None: ...

    def headers(self, now: float) -> dict[str, str]:
        """Return the headers of wire.md §3. They include the time that is left at `now` on the monotonic clock."""


Waiting = Item[PeerRequest, PeerResponse]


class Peers:
    """The services that one service calls, by base URL. The configuration limits their number."""

    def __init__(self, pool: ConnectionPool, max_lines: int, tracer: Tracer | None) -> None:
        """`max_lines` limits the requests in one batch. With 0 no batch is ever sent."""
        self._pool = pool
        self._max_lines = max_lines
        self._tracer = tracer
        self._peers: dict[str, _Peer] = {}

    def send(self, base: str, item: Waiting) -> None:
        """Send a request to the service at `base`. The response settles the item.

        The item fails with NoResponseError if no response arrives, and with TimeoutError or UpstreamTimeoutError after
        its deadline. Raises UnavailableError if too many requests are waiting already.
        """
        peer = self._peers.get(base)
        if peer is None:
            peer = self._peers[base] = _Peer(self._pool, base, self._max_lines, self._tracer)
        peer.send(item)

    @property
    def waiting(self) -> int:
        """Requests that wait for the next batch."""
        return sum(peer.waiting for peer in self._peers.values())

    async def close(self) -> None:
        for peer in self._peers.values():
            await peer.close()


class _Peer:
    """One service that is called, with all its replicas."""

    def __init__(self, pool: ConnectionPool, base: str, max_lines: int, tracer: Tracer | None) -> None:
        self._pool = pool
        self._base = base
        self._max_lines = max_lines
        self._tracer = tracer
        self._span_attributes = _span_attributes(base)
        self._announced = 0
        """Maximum number of lines that the peer takes in one batch; 0 if it takes no batches."""
        self._batcher: Batcher[PeerRequest, PeerResponse] = Batcher(self._send_batch)
        self._alone: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        return self._batcher.waiting

    def send(self, item: Waiting) -> None:
        if self._announced:
            self._batcher.add(item)
            return
        task = asyncio.get_running_loop().create_task(self._send_alone(item))
        self._alone.add(task)
        task.add_done_callback(self._alone.discard)

    async def close(self) -> None:
        await self._batcher.close()
        tasks = list(self._alone)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _note_announcement(self, headers: Headers) -> None:
        value = headers.get(_ANNOUNCEMENT, "")
        is_number = value.isascii() and value.isdigit() and len(value) <= _MAX_ANNOUNCEMENT_DIGITS
        self._announced = min(int(value) if is_number else 0, self._max_lines)
        # if the peer no longer takes batches, the requests that wait are sent at once, each alone
        self._batcher.max_items = self._announced or MAX_WAITING

    async def _send_alone(self, item: Waiting) -> None:
        request = item.value
        headers = {hdrs.ACCEPT: JSON, **request.headers(time.monotonic())}
        if self._tracer is not None and (span := item.needed_span()) is not None:
            headers[TRACEPARENT_HEADER] = span.traceparent
        if request.body is not None:
            headers[hdrs.CONTENT_TYPE] = JSON
        try:
            received = await self._pool.request(
                request.method, self._base, request.target, headers, request.body, item.deadline
            )
        except Exception as error:  # noqa: BLE001 - the item's own caller gets it
            item.fail(error)
        except BaseException as error:
            item.fail(error)
            raise
        else:
            self._note_announcement(received.headers)
            item.settle(received)

    async def _send_batch(self, items: Items[PeerRequest, PeerResponse], release: Callable[[], None]) -> None:
        if len(items) == 1 or not self._announced:
            await self._send_each_alone(items)
            return
        batch = _Batch(items, is_traced=self._tracer is not None)
        if not batch.others:
            await self._exchange(batch, release)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._exchange(batch, release))
            group.create_task(self._send_each_alone(batch.others))

    async def _send_each_alone(self, items: Items[PeerRequest, PeerResponse]) -> None:
        if len(items) == 1:
            await self._send_alone(items[0])
        else:
            await asyncio.gather(*map(self._send_alone, items))

    async def _exchange(self, batch: "_Batch", release: Callable[[], None]) -> None:
        """Send one batch and settle its items. The latest of their deadlines limits the time."""
        if not batch.lines:
            return
        sink = _BatchResponse(batch, self._note_announcement, release)
        try:
            with batch_span(self._tracer, batch.items, _SPAN_NAME, self._span_attributes) as attributes:
                attributes["quote.batch.size"] = len(batch.lines)
                await self._pool.stream(
                    "POST",
                    self._base,
                    BATCH_PATH,
                    batch.headers,
                    b"".join(batch.lines),
                    sink,
                    batch.deadline,
                )
                attributes["http.response.status_code"] = sink.status
        except (NoResponseError, TimeoutError) as error:
            batch.fail(error)
        else:
            await self._settle_rest(sink.refusal, batch)

    async def _settle_rest(self, refusal: PeerResponse | None, batch: "_Batch") -> None:
        """Settle the items that have no answer although the response has ended.

        `refusal` is the response if it refused the whole batch, else None.
        """
        if refusal is None:
            batch.fail(NoResponseError("the batch ended without an answer to this request"))
        elif refusal.status in ALONE_AFTER:
            if refusal.status in FORGET_AFTER:
                self._announced = 0
            await self._send_each_alone(batch.unsettled)
        elif refusal.status == 503:  # noqa: PLR2004
            batch.refuse(refusal)
        else:
            batch.fail(NoResponseError(f"status {refusal.status} to a batch"))


def _span_attributes(base: str) -> Attributes:
    """Return the attributes of every batch that is sent to the service at `base`."""
    url = URL(base)
    return {
        "http.request.method": hdrs.METH_POST,
        "url.full": f"{base}{BATCH_PATH}",
        "server.address": url.host or "",
        "server.port": url.port or 0,
    }


class _BatchResponse:
    """Reads the response to a batch. Each line settles one item as soon as it arrives.

    If the response does not consist of lines, it is kept as `refusal`.
    """

    def __init__(
        self, batch: "_Batch", note_announcement: Callable[[Headers], None], release: Callable[[], None]
    ) -> None:
        self._batch = batch
        self._note_announcement = note_announcement
        self._release = release
        self._splitter = Splitter()
        self._refusal: BufferedResponse | None = None
        self.status = 0

    @property
    def refusal(self) -> PeerResponse | None:
        """The response that refused the whole batch; None if there is no such response."""
        return None if self._refusal is None else self._refusal.received

    def begin(self, status: int, headers: Headers) -> None:
        self.status = status
        self._note_announcement(headers)
        if status != 200 or not is_of_type(headers, MEDIA_TYPE):  # noqa: PLR2004
            self._refusal = BufferedResponse()
            self._refusal.begin(status, headers)

    def feed(self, chunk: bytes) -> None:
        if self._refusal is not None:
            self._refusal.feed(chunk)
            return
        for line in self._splitter.feed(chunk):
            self._batch.settle(line)
        self._release()


class _Batch:
    """The items that are sent in one batch."""

    def __init__(self, items: Items[PeerRequest, PeerResponse], *, is_traced: bool) -> None:
        self.lines: list[bytes] = []
        self.others: list[Waiting] = []
        """Items that cannot be a line of a batch, or for which this batch had no room."""
        self.items: list[Waiting] = []
        self.headers = _BATCH_HEADERS
        left = MAX_BATCH_BYTES
        now = time.monotonic()
        first_span = ""
        if is_traced:
            first_span = secrets.token_hex(8)
            self.headers = {**_BATCH_HEADERS, BATCH_SPANS_HEADER: first_span}
        for item in items:
            request, number = item.value, len(self.lines)
            headers = request.headers(now)
            if is_traced and item.span is not None:
                headers[TRACEPARENT_HEADER] = item.span.traceparent
            line = request_line(number, request.method, request.target, headers, request.body)
            if line is None or len(line) > left:
                self.others.append(item)
                continue
            if is_traced and item.span is None:
                # not before: an item that is sent alone must not have the span id of the next line
                item.note_line(Line(first_span, number))
            left -= len(line)
            self.lines.append(line)
            self.items.append(item)

    @property
    def deadline(self) -> float:
        return max(item.deadline for item in self.items)

    @property
    def unsettled(self) -> list[Waiting]:
        return [item for item in self.items if not item.is_settled]

    def settle(self, line: bytes) -> None:
        """Settle the item to which an answer belongs. A line that is not an answer is ignored."""
        try:
            answer = read_answer(line)
        except LINE_ERRORS:
            return
        number = answer.id
        if number is None and answer.line is not None:
            number = answer.line - 1
        if isinstance(number, int) and 0 <= number < len(self.items):
            body = None if answer.body is None else answer.body.encode()
            if body is not None and len(body) > MAX_BODY_BYTES:
                body = None
            self.items[number].settle(PeerResponse(answer.status, joined(answer.headers), body))

    def fail(self, error: Exception) -> None:
        for item in self.unsettled:
            item.fail(error)

    def refuse(self, refusal: PeerResponse) -> None:
        """Settle each item with the response that refused the batch, but with the item's own trace id."""
        body, content = refusal.body, object_in(refusal.body)
        for item in self.unsettled:
            if content is not None:
                body = orjson.dumps({**content, "traceId": item.value.headers(0).get(TRACE_HEADER)})
            item.settle(PeerResponse(refusal.status, refusal.headers, body))
