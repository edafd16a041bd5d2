"""Collects reservations, executions and look-ups into batches: one statement and one commit for many items.

Items that arrive while the maximum of statements is in flight wait, and share the next statement. If the data of one
item is invalid, only that item fails.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.batching import Batcher, Item, Items
from chassis.database import Database
from chassis.errors import UnavailableError
from chassis.histogram import ITEMS, Histogram, labelled
from chassis.spans import Tracer, batch_span
from dfsp_api.repository import LookUp, NewQuote, PaymentOrder, ReleaseOrder, Repository, Reserved
from dfsp_api.stored_quote import StoredQuote

TABLE: Final = "quote"
MAX_IN_FLIGHT: Final = 8
"""Maximum of statements in flight for each operation, including those that wait for a connection."""
MAX_LIMITED_IN_FLIGHT: Final = 2
"""Maximum of statements in flight for quotes with an exposure limit: one holds a caller's lock, another waits for it.

A larger maximum would take connections away from other callers.
"""

V = TypeVar("V")
R = TypeVar("R")

Explain = Callable[[Mapping[UUID, StoredQuote], float], Awaitable[Mapping[UUID, StoredQuote]]]

_BAD_DATA: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class StatementBatcher(Collector):
    """Collects items into batches and passes each batch to a method of the repository."""

    def __init__(
        self,
        quotes: Repository,
        database: Database,
        connections: int,
        explain: Explain | None = None,
        is_limited: Callable[[NewQuote], bool] | None = None,
    ) -> None:
        """`explain` adds the fee schedules to quotes that are looked up; None leaves them out.

        `is_limited` says whether a quote has an exposure limit; None if there are no limits.
        """
        self._database = database
        # items wait here for a connection, so that their deadlines can be checked before the statement begins
        self._connections = asyncio.Semaphore(connections)
        self.tracer: Tracer | None = None
        """Makes the spans of the statements; None for no spans."""
        self._sizes: dict[str, Histogram] = {}
        self._batchers: dict[str, Batcher[Any, Any]] = {}
        """By operation."""

        async def find(wanted: Sequence[LookUp], deadline: float) -> Mapping[UUID, StoredQuote]:
            found = await quotes.find(wanted, deadline)
            return found if explain is None else await explain(found, deadline)

        self._reserve = self._batcher("reserve", quotes.reserve, lambda new: new.uuid)
        self._execute = self._batcher("execute", quotes.execute, lambda payment: payment.uuid)
        self._release = self._batcher("release", quotes.release, lambda order: order.uuid)
        self._find = self._batcher("look_up", find, lambda wanted: wanted.uuid)
        self._is_limited = is_limited
        if is_limited is not None:
            self._reserve_limited = self._batcher(
                "reserve_limited", quotes.reserve, lambda new: new.uuid, MAX_LIMITED_IN_FLIGHT
            )

    def reserve(self, item: Item[NewQuote, Reserved | None]) -> None:
        """Reserve the item's quote.

        The item is settled with the committed quote of its uuid, which may be an older one, or with a refusal. Whether
        the quote has a limit is decided again when the statement begins, since limits can change.
        """
        is_limited = self._is_limited is not None and self._is_limited(item.value)
        (self._reserve_limited if is_limited else self._reserve).add(item)

    def execute(self, item: Item[PaymentOrder, StoredQuote | None]) -> None:
        """Execute the item's quote, if possible. The item is settled with the quote, or with None if there is none."""
        self._execute.add(item)

    def release(self, item: Item[ReleaseOrder, StoredQuote | None]) -> None:
        """Release the item's quote, if possible. The item is settled with the quote, or with None if there is none."""
        self._release.add(item)

    def find(self, item: Item[LookUp, StoredQuote | None]) -> None:
        """Settle the item with the quote under the uuid, if its caller reserved it."""
        self._find.add(item)

    async def close(self) -> None:
        for batcher in self._batchers.values():
            await batcher.close()

    def collect(self) -> Iterator[Metric]:
        yield labelled(
            "statement_batch_items", "Quotes that one statement works on", "operation", self._sizes
        )
        waiting = GaugeMetricFamily(
            "statement_items_waiting", "Requests that wait for the next statement", labels=["operation"]
        )
        for operation, batcher in self._batchers.items():
            waiting.add_metric([operation], batcher.waiting)
        yield waiting

    async def _take_connection(self) -> None:
        if self._connections.locked():
            with self._database.metrics.waiting():
                await self._connections.acquire()
        else:
            await self._connections.acquire()

    def _batcher(
        self,
        name: str,
        statement: Callable[[Sequence[V], float], Awaitable[Mapping[UUID, R]]],
        uuid_of: Callable[[V], UUID],
        max_in_flight: int = MAX_IN_FLIGHT,
    ) -> Batcher[V, R | None]:
        span_name = f"{name} {TABLE}"
        span_attributes = {
            "db.system.name": "postgresql",
            "db.operation.name": name,
            "db.collection.name": TABLE,
        }

        async def run(items: Items[V, R | None]) -> None:
            deadline = max(item.deadline for item in items)
            with batch_span(self.tracer, items, span_name, span_attributes) as attributes:
                if len(items) > 1:
                    attributes["db.operation.batch.size"] = len(items)
                quotes = await statement([item.value for item in items], deadline)
            for item in items:
                item.settle(quotes.get(uuid_of(item.value)))

        async def send(items: Items[V, R | None], _release: Callable[[], None]) -> None:
            await self._take_connection()
            try:
                await self._database.connected(deadline=max(item.deadline for item in items))
                now = time.monotonic()
                items = [item for item in items if item.is_wanted(now)]
                if not items:
                    return
                self._sizes[name].observe(len(items))
                try:
                    await run(items)
                except _BAD_DATA:  # nothing was stored, so try each item alone
                    for item in items:
                        if item.is_wanted(time.monotonic()):
                            await _alone(run, item)
            finally:
                self._connections.release()

        batcher = self._batchers[name] = Batcher(send, max_in_flight=max_in_flight)
        self._sizes[name] = Histogram(ITEMS)
        return batcher


async def _alone(run: Callable[[Items[V, R]], Awaitable[None]], item: Item[V, R]) -> None:
    try:
        await run([item])
    except _BAD_DATA as error:
        item.fail(UnavailableError(cause=str(error)))
    except UnavailableError as error:
        item.fail(error)
