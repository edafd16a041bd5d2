"""Many reservations, executions and look-ups in one statement and one commit each.

What waits while statements are under way goes into the next one together; each item gets its own quote, and
compares it with what it wanted itself. One item's bad data fails alone.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

import asyncpg

from chassis.batching import Batcher, FutureItem, Item, Items
from chassis.database import Database
from chassis.errors import UnavailableError
from dfsp_api.repository import NewQuote, PaymentOrder, Repository
from dfsp_api.stored_quote import StoredQuote

MAX_OPEN: Final = 8
"""Statements of one kind under way at once, those included that wait for a connection."""


class _Keyed(Protocol):
    @property
    def uuid(self) -> UUID: ...


V = TypeVar("V")
R = TypeVar("R")

_ONE_AT_FAULT: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)


class Together:
    """The statements of a repository, for one item each."""

    def __init__(self, quotes: Repository, database: Database, connections: int) -> None:
        self._database = database
        # who waits for a connection waits here, so that nothing is begun for those who have waited too long
        self._connections = asyncio.Semaphore(connections)
        self._reserve = self._batcher(quotes.reserve, _uuid)
        self._execute = self._batcher(quotes.execute, _uuid)
        self._find = self._batcher(quotes.find, lambda uuid: uuid)

    async def reserve(self, new: NewQuote, deadline: float) -> StoredQuote | None:
        """The quote under ``new.uuid``, new or old; committed. Begun before ``deadline`` or never."""
        item: FutureItem[Any, StoredQuote | None] = FutureItem(new, deadline)
        self._reserve.add(item)
        return await item.result

    def start_reserving(self, item: Item[NewQuote, StoredQuote | None]) -> None:
        """Likewise for an item, which gets its quote."""
        self._reserve.add(item)

    def start_executing(self, item: Item[PaymentOrder, StoredQuote | None]) -> None:
        """Likewise."""
        self._execute.add(item)

    async def execute(self, payment: PaymentOrder, deadline: float) -> StoredQuote | None:
        """The quote under ``payment.uuid``, executed if it may be."""
        item: FutureItem[Any, StoredQuote | None] = FutureItem(payment, deadline)
        self._execute.add(item)
        return await item.result

    async def find(self, uuid: UUID, deadline: float) -> StoredQuote | None:
        item: FutureItem[Any, StoredQuote | None] = FutureItem(uuid, deadline)
        self._find.add(item)
        return await item.result

    async def close(self) -> None:
        for batcher in (self._reserve, self._execute, self._find):
            await batcher.close()

    def _batcher(
        self,
        statement: Callable[[Sequence[V]], Awaitable[Mapping[UUID, StoredQuote]]],
        uuid_of: Callable[[V], UUID],
    ) -> Batcher[V, StoredQuote | None]:
        async def run(items: Items[V, StoredQuote | None]) -> None:
            quotes = await statement([item.value for item in items])
            for item in items:
                item.settle(quotes.get(uuid_of(item.value)))

        async def send_many(items: Items[V, StoredQuote | None], _release: Callable[[], None]) -> None:
            async with self._connections:
                await self._database.connected()
                now = time.monotonic()
                items = [item for item in items if item.is_wanted(now)]
                if not items:
                    return
                try:
                    await run(items)
                except _ONE_AT_FAULT:
                    # nothing was done: each again, alone
                    for item in items:
                        if item.is_wanted(time.monotonic()):
                            await _alone(run, item)

        return Batcher(send_many, max_in_flight=MAX_OPEN)


async def _alone(run: Callable[[Items[V, R]], Awaitable[None]], item: Item[V, R]) -> None:
    try:
        await run([item])
    except _ONE_AT_FAULT as error:
        item.fail(UnavailableError(cause=str(error)))
    except UnavailableError as error:
        item.fail(error)


def _uuid(item: _Keyed) -> UUID:
    return item.uuid
