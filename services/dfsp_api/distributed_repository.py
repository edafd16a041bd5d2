"""SQL statements for a table whose rows are spread over machines: Citus, CockroachDB or YugabyteDB.

Citus refuses FOR UPDATE on several shards, and it refuses volatile functions in statements that write. So each
statement here works on one uuid, and gets the time as a parameter, which another statement has read before. This time
comes from the node that the service is connected to, and not from the node that stores the row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import asyncpg

from chassis.database import Connection
from chassis.errors import UnavailableError
from dfsp_api.expiry import CLOCK, expires_after, in_milliseconds, is_expired, is_open
from dfsp_api.quote_filter import Page, QuoteFilter
from dfsp_api.repository import (
    COLUMNS,
    MAX_TRIES,
    OF_CALLER,
    OF_QUOTE,
    SWEEP_ROWS,
    SWEEP_SLICE,
    NewQuote,
    PaymentOrder,
    QuoteOfCaller,
    ReleaseOrder,
    Repository,
    Reserved,
    is_listed,
    list_arguments,
    list_condition,
    page_of,
    quotes_by_uuid,
    request_text,
)
from dfsp_api.stored_quote import QuoteEvent, StoredQuote

MAX_ROWS_AT_ONCE: Final = 8

# Also reads the namespace's secret: it shows whether this is the database for which a uuid was made.
TIME: Final = f"""
SELECT clock.at, {in_milliseconds("clock.at")} AS in_milliseconds, {expires_after("clock.at", "$1::interval")} AS later,
    (SELECT secret FROM namespace) AS namespace
FROM (SELECT {CLOCK} AS at) AS clock
"""

INSERT: Final = f"""
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires, schedule, lifetime_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (uuid) DO NOTHING
RETURNING {COLUMNS}, false AS is_expired
"""

# Another caller's quote is neither returned nor locked: the same work is done where there is no such quote.
SELECT: Final = f"""
SELECT {COLUMNS}, {is_expired("$2")} AS is_expired FROM quote WHERE uuid = $1 AND caller = $3
"""

# The row is locked first; the time that is read after that is the time of the execution.
LOCK_ONE: Final = "SELECT uuid FROM quote WHERE uuid = $1 AND caller = $2 FOR UPDATE"

EXECUTE: Final = f"""
UPDATE quote SET executed = $3
WHERE uuid = $1 AND {is_open("$2")}
    AND caller = $4 AND fingerprint = $5
    AND ($6::numeric IS NULL OR source_amount = $6) AND ($7::numeric IS NULL OR destination_amount = $7)
RETURNING {COLUMNS}, false AS is_expired
"""

RELEASE: Final = f"""
UPDATE quote SET released = $3
WHERE uuid = $1 AND {is_open("$2")} AND caller = $4
    AND ($5::text IS NULL OR $5 = request->>'identifierType') AND ($6::text IS NULL OR $6 = request->>'identifier')
RETURNING {COLUMNS}, false AS is_expired
"""

# in the transaction that changes the quote, and on the same node
LOG: Final = "INSERT INTO audit_pending (uuid, event, at) VALUES ($1, $2, $3)"

SWEEP_FROM: Final = "SELECT swept_until FROM retention"

DUE: Final = """
SELECT uuid FROM quote
WHERE expires >= $1 AND expires < $2 AND executed IS NULL AND request IS NOT NULL
LIMIT $3
"""

SWEEP: Final = """
UPDATE quote SET request = NULL, source_amount = NULL, destination_amount = NULL
WHERE uuid = $1 AND expires < $2 AND executed IS NULL AND request IS NOT NULL
"""

SWEPT: Final = "UPDATE retention SET swept_until = $1 WHERE swept_until < $1"


def _list(condition: str) -> str:
    """Return the statement that lists quotes. Each node reads its own quotes until it has found $4.

    To limit the number of quotes that are read, they would all have to be sent to one node.
    """
    return f"""
SELECT {COLUMNS}, {is_expired("$8")} AS is_expired, true AS is_listed, false AS is_limit FROM quote
WHERE created >= $1 AND (created, uuid) < ($2, $3::uuid){condition} AND {is_listed(is_expired("$8"))}
ORDER BY created DESC, uuid DESC
LIMIT $4
"""


LIST_OF_ALL: Final = _list("")
LIST_OF_CALLER: Final = _list(OF_CALLER)
LIST_OF_QUOTE: Final = _list(OF_QUOTE)
LISTS: Final = {"": LIST_OF_ALL, OF_CALLER: LIST_OF_CALLER, OF_QUOTE: LIST_OF_QUOTE}

STATEMENTS: Final = {
    TIME: "time",
    INSERT: "reserve",
    SELECT: "look_up",
    LOCK_ONE: "lock",
    EXECUTE: "execute",
    RELEASE: "release",
    LOG: "log",
    SWEEP_FROM: "sweep_from",
    DUE: "sweep_due",
    SWEEP: "sweep",
    SWEPT: "swept",
    LIST_OF_ALL: "list_of_all",
    LIST_OF_CALLER: "list_of_caller",
    LIST_OF_QUOTE: "list_of_quote",
}
"""Name of each statement, for metrics."""

T = TypeVar("T")
R = TypeVar("R")
Q = TypeVar("Q", bound=QuoteOfCaller)


class DistributedRepository(Repository):
    """The table ``quote``, row by row."""

    async def reserve(
        self, quotes: Sequence[NewQuote], deadline: float | None = None
    ) -> Mapping[UUID, Reserved]:
        # if a key is in the batch twice, its first request counts
        first = {each.uuid: each for each in reversed(quotes)}
        return _by_uuid(await for_each(partial(self._reserve, deadline=deadline), first.values()))

    async def _reserve(self, new: NewQuote, deadline: float | None) -> StoredQuote:
        async def work(connection: Connection) -> StoredQuote | None:
            time = await connection.fetchrow(TIME, self.lifetime_of(new))
            assert time is not None  # noqa: S101 - a SELECT of one row
            self.require_same_namespace(new, time["namespace"])
            inserted = await connection.fetch(
                INSERT, *insert_arguments(new, time["in_milliseconds"], time["later"])
            )
            if inserted:
                await self.log(connection, new.uuid, QuoteEvent.RESERVED, time["in_milliseconds"])
            rows = inserted or await connection.fetch(SELECT, new.uuid, time["at"], new.caller)
            return quotes_by_uuid(rows).get(new.uuid)

        # the event for the audit log is committed with the quote; without it one statement is enough
        use = self._database.transaction if self.is_audited else self._database.use
        for _ in range(MAX_TRIES):
            quote = await use(work, deadline=deadline)
            if quote is not None:
                return quote
        raise UnavailableError(cause="a quote was neither inserted nor found")

    async def execute(
        self, payments: Sequence[PaymentOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        async def execute(payment: PaymentOrder) -> StoredQuote | None:
            values = (payment.fingerprint, payment.source_amount, payment.destination_amount)
            return await self._change_one(EXECUTE, QuoteEvent.EXECUTED, payment, values, deadline)

        return await _for_each_quote(execute, payments)

    async def release(
        self, orders: Sequence[ReleaseOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        async def release(order: ReleaseOrder) -> StoredQuote | None:
            values = (order.identifier_type, order.identifier)
            return await self._change_one(RELEASE, QuoteEvent.RELEASED, order, values, deadline)

        return await _for_each_quote(release, orders)

    async def _change_one(
        self,
        statement: str,
        event: QuoteEvent,
        of: QuoteOfCaller,
        values: tuple[object, ...],
        deadline: float | None,
    ) -> StoredQuote | None:
        """Lock a quote, read the time, and execute or release the quote if that is possible. Return it."""

        async def work(connection: Connection) -> StoredQuote | None:
            if await connection.fetchval(LOCK_ONE, of.uuid, of.caller) is None:
                return None
            time = await connection.fetchrow(TIME, timedelta())
            assert time is not None  # noqa: S101 - a SELECT of one row
            changed = await connection.fetch(
                statement, of.uuid, time["at"], time["in_milliseconds"], of.caller, *values
            )
            if changed:
                await self.log(connection, of.uuid, event, time["in_milliseconds"])
                await self._changed(connection, changed[0])
            rows = changed or await connection.fetch(SELECT, of.uuid, time["at"], of.caller)
            return quotes_by_uuid(rows)[of.uuid]

        return await self._database.transaction(work, deadline=deadline)

    async def log(self, connection: Connection, uuid: UUID, event: QuoteEvent, at: datetime) -> None:
        """Insert an event of a quote for the audit log, in the transaction that has changed the quote."""
        if self.is_audited:
            await connection.execute(LOG, uuid, event, at)

    async def _changed(self, connection: Connection, row: asyncpg.Record) -> None:
        """Do further work of a subclass in the transaction that has executed or released a quote."""

    async def find(
        self, wanted: Sequence[QuoteOfCaller], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        different = dict.fromkeys((each.uuid, each.caller) for each in wanted)
        return _by_uuid(await for_each(partial(self._find, deadline=deadline), different))

    async def _find(self, wanted: tuple[UUID, str], deadline: float | None) -> StoredQuote | None:
        uuid, caller = wanted
        (time,) = await self._database.fetch(TIME, timedelta(), deadline=deadline)
        rows = await self._database.fetch(SELECT, uuid, time["at"], caller, deadline=deadline)
        return quotes_by_uuid(rows).get(uuid)

    async def page(self, wanted: QuoteFilter, deadline: float | None = None) -> Page:
        (time,) = await self._database.fetch(TIME, timedelta(), deadline=deadline)
        condition, values = list_condition(wanted)
        arguments = (*list_arguments(wanted), time["at"], *values)
        return page_of(await self.fetch_list(LISTS[condition], arguments, deadline), wanted.limit)

    async def missing(self) -> list[str]:
        return []

    async def sweep(self, older_than: timedelta) -> int | None:
        """Reduce a small batch of old quotes to stubs, without a lock. See Repository.sweep.

        Two processes may reduce the same quotes at once, which has the same effect as one.
        """
        (swept,) = await self._database.fetch(SWEEP_FROM)
        (time,) = await self._database.fetch(TIME, -older_than)
        begin, until = swept["swept_until"], time["later"]
        if until <= begin:
            return None
        is_last = until <= begin + SWEEP_SLICE
        until = min(until, begin + SWEEP_SLICE)
        due = [row["uuid"] for row in await self._database.fetch(DUE, begin, until, SWEEP_ROWS)]
        await for_each(lambda uuid: self._database.fetch(SWEEP, uuid, until), due)
        if len(due) < SWEEP_ROWS:
            await self._database.fetch(SWEPT, until)
        return None if is_last and not due else len(due)


def insert_arguments(new: NewQuote, created: datetime, expires: datetime) -> tuple[object, ...]:
    return (
        new.uuid,
        new.caller,
        new.operation,
        new.fingerprint,
        request_text(new),
        new.terms.source_amount,
        new.terms.destination_amount,
        created,
        expires,
        new.schedule,
        new.lifetime_ms,
    )


async def _for_each_quote(
    change: Callable[[Q], Awaitable[StoredQuote | None]], orders: Iterable[Q]
) -> dict[UUID, StoredQuote]:
    """Call ``change`` for each order, in turn for those of one quote. Return each quote as it is after its last one."""
    by_uuid: dict[UUID, list[Q]] = {}
    for order in orders:
        by_uuid.setdefault(order.uuid, []).append(order)

    async def in_turn(group: list[Q]) -> StoredQuote | None:
        quote = None
        for order in group:
            quote = await change(order) or quote
        return quote

    return _by_uuid(await for_each(in_turn, by_uuid.values()))


async def for_each(work: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """Call ``work`` for each item and return the results. At most MAX_ROWS_AT_ONCE calls run at once.

    If calls fail, wait until all calls have ended, then raise the first error.
    """
    slots = asyncio.Semaphore(MAX_ROWS_AT_ONCE)

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    results = await asyncio.gather(*map(one, items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _by_uuid(quotes: Iterable[StoredQuote | None]) -> dict[UUID, StoredQuote]:
    return {quote.uuid: quote for quote in quotes if quote is not None}
