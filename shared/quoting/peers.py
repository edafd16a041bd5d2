"""Requests to the services called: alone in their documented form, or in batches where a peer takes them.

A service that takes batches says so on its replies. Towards one that has not said so, or stops saying so, every
request goes alone: any other implementation of the source can stand anywhere in the chain, and never sees a
batch (wire.md §8).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import orjson
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from chassis.batching import MAX_WAITING, Batcher, FutureItem, Item, Items
from chassis.content import MAX_BODY_BYTES, is_of_type
from chassis.http.pool import BufferedResponse, ConnectionPool, NoResponseError, PeerResponse
from chassis.messages import JSON, Headers
from quoting.batch_format import (
    BATCH_HEADER,
    BATCH_PATH,
    LINE_ERRORS,
    MAX_BATCH_BYTES,
    MAX_LINES,
    MEDIA_TYPE,
    AnswerLine,
    Splitter,
    read_answer,
    read_plain_answer,
    request_line,
)

FORGET_AFTER: Final = frozenset({404, 405, 415})
_BATCH_HEADERS: Final[Mapping[str, str]] = {hdrs.CONTENT_TYPE: MEDIA_TYPE}
ALONE_AFTER: Final = FORGET_AFTER | {413}
PLAIN_HEADERS: Final = CIMultiDictProxy(CIMultiDict({hdrs.CONTENT_TYPE: JSON}))
"""Those of most answers, as far as they say anything of the answer."""


class Outgoing(Protocol):
    """One request to a peer: a Call, or a question to the directory."""

    @property
    def method(self) -> str: ...

    @property
    def target(self) -> str:
        """Path and query."""

    @property
    def body(self) -> bytes | None: ...

    @property
    def deadline(self) -> float:
        """On the monotonic clock, in seconds."""

    def headers(self, now: float) -> dict[str, str]:
        """Those of wire.md §3, as they are at ``now`` on the monotonic clock."""


Waiting = Item[Outgoing, PeerResponse]


class Peers:
    """The services that one service calls, by their base URLs, which the configuration limits in number."""

    def __init__(self, pool: ConnectionPool, max_lines: int = MAX_LINES) -> None:
        """``max_lines`` of 0: batches are never sent, whatever a peer says."""
        self._pool = pool
        self._max_lines = max_lines
        self._peers: dict[str, _Peer] = {}

    def ask(self, base: str, outgoing: Outgoing) -> Awaitable[PeerResponse]:
        """The answer of the service at ``base``, to be awaited.

        Raises NoResponseError; TimeoutError after the deadline.
        """
        return self._peer(base).ask(outgoing)

    def takes(self, base: str) -> bool:
        """Whether the service at ``base`` has said that it takes batches."""
        peer = self._peers.get(base)
        return peer is not None and peer.takes_batches

    def add(self, base: str, item: "Waiting") -> None:
        """Sends ``item`` with the next batch to the service at ``base``.

        It is failed with NoResponseError where none comes. Raises UnavailableError where too many wait already.
        """
        self._peer(base).add(item)

    def _peer(self, base: str) -> "_Peer":
        peer = self._peers.get(base)
        if peer is None:
            peer = self._peers[base] = _Peer(self._pool, base, self._max_lines)
        return peer

    async def close(self) -> None:
        for peer in self._peers.values():
            await peer.close()


class _Peer:
    """One service called, all its replicas."""

    def __init__(self, pool: ConnectionPool, base: str, max_lines: int) -> None:
        self._pool = pool
        self._base = base
        self._max_lines = max_lines
        self._announced = 0
        self._batcher: Batcher[Outgoing, PeerResponse] = Batcher(self._send_many)

    def ask(self, outgoing: Outgoing) -> Awaitable[PeerResponse]:
        if not self._announced:
            return self._alone(outgoing)
        item: FutureItem[Outgoing, PeerResponse] = FutureItem(outgoing, outgoing.deadline)
        self._batcher.add(item)
        return item.result

    @property
    def takes_batches(self) -> bool:
        return self._announced > 0

    def add(self, item: "Waiting") -> None:
        self._batcher.add(item)

    async def close(self) -> None:
        await self._batcher.close()

    def _heed(self, headers: Headers) -> None:
        """Takes notice of what a reply says of batches."""
        said = headers.get(BATCH_HEADER, "")
        announced = int(said) if said.isascii() and said.isdigit() and len(said) < 6 else 0  # noqa: PLR2004
        self._announced = min(announced, self._max_lines)
        # what waits for a peer that takes none any more leaves at once, each alone
        self._batcher.max_items = self._announced or MAX_WAITING

    async def _alone(self, outgoing: Outgoing) -> PeerResponse:
        headers = {hdrs.ACCEPT: JSON, **outgoing.headers(time.monotonic())}
        if outgoing.body is not None:
            headers[hdrs.CONTENT_TYPE] = JSON
        received = await self._pool.request(
            outgoing.method, self._base, outgoing.target, headers, outgoing.body, outgoing.deadline
        )
        self._heed(received.headers)
        return received

    async def _send_many(self, items: Items[Outgoing, PeerResponse], release: Callable[[], None]) -> None:
        if len(items) == 1:
            await self._one_alone(items[0])
        elif not self._announced:
            await self._each_alone(items)
        else:
            await self._together(items, release)

    async def _each_alone(self, items: Items[Outgoing, PeerResponse]) -> None:
        await asyncio.gather(*map(self._one_alone, items))

    async def _one_alone(self, item: Waiting) -> None:
        try:
            item.settle(await self._alone(item.value))
        except (NoResponseError, TimeoutError) as error:
            item.fail(error)

    async def _together(self, items: Items[Outgoing, PeerResponse], release: Callable[[], None]) -> None:
        batch = _Batch(items)
        if not batch.others:
            await self._batch(batch, release)
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._batch(batch, release))
            for other in batch.others:
                group.create_task(self._one_alone(other))

    async def _batch(self, batch: "_Batch", release: Callable[[], None]) -> None:
        """As long as any of the items has time."""
        if not batch.lines:
            return
        sink = _Answers(batch, self._heed, release)
        try:
            await self._pool.stream(
                "POST", self._base, BATCH_PATH, _BATCH_HEADERS, b"".join(batch.lines), sink, batch.deadline
            )
        except (NoResponseError, TimeoutError) as error:
            batch.fail(error)
        else:
            await self._after(sink.refused, batch)

    async def _after(self, refused: PeerResponse | None, batch: "_Batch") -> None:
        """What becomes of the items that have no answer when the reply has ended."""
        if refused is None:
            batch.fail(NoResponseError("the answers ended without this one's"))
        elif refused.status in ALONE_AFTER:
            if refused.status in FORGET_AFTER:
                self._announced = 0
            await self._each_alone(batch.unsettled)
        elif refused.status == 503:  # noqa: PLR2004
            batch.refuse(refused)
        else:
            batch.fail(NoResponseError(f"status {refused.status} to a batch"))


class _Answers:
    """Gives the lines of a reply to whom they are for, as they come; or keeps the reply that is none of lines."""

    def __init__(self, batch: "_Batch", heed: Callable[[Headers], None], release: Callable[[], None]) -> None:
        self._batch = batch
        self._heed = heed
        self._release = release
        self._splitter = Splitter()
        self._refusal: BufferedResponse | None = None

    @property
    def refused(self) -> PeerResponse | None:
        """What refused the whole batch, if anything did."""
        return None if self._refusal is None else self._refusal.received

    def begin(self, status: int, headers: Headers) -> None:
        self._heed(headers)
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
    """Items on one round trip."""

    def __init__(self, items: Items[Outgoing, PeerResponse]) -> None:
        self.lines: list[bytes] = []
        self.others: list[Waiting] = []
        """Those that cannot be a line, or of which there is no more room."""
        self._items: list[Waiting] = []
        left = MAX_BATCH_BYTES
        now = time.monotonic()
        for item in items:
            asked = item.value
            line = request_line(len(self.lines), asked.method, asked.target, asked.headers(now), asked.body)
            if line is None or len(line) > left:
                self.others.append(item)
                continue
            left -= len(line)
            self.lines.append(line)
            self._items.append(item)

    @property
    def deadline(self) -> float:
        """The last of the items' deadlines."""
        return max(item.deadline for item in self._items)

    @property
    def unsettled(self) -> list[Waiting]:
        return [item for item in self._items if not item.is_settled]

    def settle(self, line: bytes) -> None:
        """Gives one answer to whom it is for; a line that is none is nobody's."""
        plain = read_plain_answer(line)
        if plain is not None and plain.headers.content_type == JSON:
            self._give(plain.id, plain.status, PLAIN_HEADERS, plain.body)
            return
        try:
            answer = read_answer(line)
        except LINE_ERRORS:
            return
        number = _number(answer)
        if number is not None:
            self._give(number, answer.status, CIMultiDict(answer.headers), answer.body)

    def _give(self, number: int, status: int, headers: Headers, text: str | None) -> None:
        if 0 <= number < len(self._items):
            body = text.encode() if text is not None else None
            if body is not None and len(body) > MAX_BODY_BYTES:
                body = None
            self._items[number].settle(PeerResponse(status, headers, body))

    def fail(self, error: Exception) -> None:
        for item in self.unsettled:
            item.fail(error)

    def refuse(self, refused: PeerResponse) -> None:
        """Gives each item the refusal of the whole, as it would have had it alone: with its own trace id."""
        for item in self.unsettled:
            trace_id = item.value.headers(0).get("L1p-Trace-Id")
            item.settle(PeerResponse(refused.status, refused.headers, _retold(refused.body, trace_id)))


def _number(answer: AnswerLine) -> int | None:
    """Which line an answer is for, from 0."""
    if answer.id is None:
        return answer.line - 1 if isinstance(answer.line, int) else None
    return answer.id if isinstance(answer.id, int) else None


def _retold(body: bytes | None, trace_id: str | None) -> bytes | None:
    try:
        content: Any = orjson.loads(body or b"")
    except orjson.JSONDecodeError:
        return body
    return orjson.dumps({**content, "traceId": trace_id}) if isinstance(content, dict) else body
