"""The same promises where the table is spread over machines by its key: Citus, CockroachDB, YugabyteDB.

Citus refuses FOR UPDATE over many shards and volatile functions in what writes. So each row has statements of
its own, which name one uuid, and the time is read by itself and comes as a parameter: always from the node that
is connected to, never from whichever keeps the row.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar
from uuid import UUID

import orjson

from chassis.database import Connection
from chassis.errors import UnavailableError
from dfsp_api.repository import (
    COLUMNS,
    MAX_TRIES,
    SWEEP_ROWS,
    SWEEP_SLICE,
    NewQuote,
    Payment,
    Repository,
    quotes_of,
)
from dfsp_api.reservation import Quote

ROWS_AT_ONCE: Final = 8

TIME: Final = """
SELECT clock.at, date_trunc('milliseconds', clock.at) AS told,
    date_trunc('milliseconds', clock.at + $1::interval) AS later
FROM (SELECT clock_timestamp() AS at) AS clock
"""

INSERT: Final = f"""
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (uuid) DO NOTHING
RETURNING {COLUMNS}, false AS is_expired
"""

SELECT: Final = f"SELECT {COLUMNS}, expires <= $2 AS is_expired FROM quote WHERE uuid = $1"

# The row is locked first; the time that is read after that is what it is executed at.
LOCK_ONE: Final = "SELECT uuid FROM quote WHERE uuid = $1 FOR UPDATE"

EXECUTE: Final = f"""
UPDATE quote SET executed = $3
WHERE uuid = $1 AND executed IS NULL AND request IS NOT NULL AND expires > $2
    AND caller = $4 AND fingerprint = $5
    AND ($6::numeric IS NULL OR source_amount = $6) AND ($7::numeric IS NULL OR destination_amount = $7)
RETURNING {COLUMNS}, false AS is_expired
"""

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

T = TypeVar("T")
R = TypeVar("R")


class DistributedRepository(Repository):
    """The table ``quote``, row by row."""

    async def reserve(self, new: Sequence[NewQuote], deadline: float | None = None) -> dict[UUID, Quote]:
        # of one key in the batch twice, the first request counts
        first = {each.uuid: each for each in reversed(new)}
        return _by_uuid(await _each(partial(self._reserve, deadline=deadline), first.values()))

    async def _reserve(self, new: NewQuote, deadline: float | None) -> Quote:
        for _ in range(MAX_TRIES):
            (time,) = await self._database.fetch(TIME, self._ttl, deadline=deadline)
            rows = await self._database.fetch(
                INSERT,
                new.uuid,
                new.caller,
                new.operation,
                new.fingerprint,
                orjson.dumps(new.request).decode(),
                new.terms.source_amount,
                new.terms.destination_amount,
                time["told"],
                time["later"],
                deadline=deadline,
            )
            quote = quotes_of(rows).get(new.uuid) or await self._find(new.uuid, deadline)
            if quote is not None:
                return quote
        raise UnavailableError(cause="a quote was neither inserted nor found")

    async def execute(self, payments: Sequence[Payment], deadline: float | None = None) -> dict[UUID, Quote]:
        of_uuid: dict[UUID, list[Payment]] = {}
        for payment in payments:
            of_uuid.setdefault(payment.uuid, []).append(payment)

        async def in_turn(group: list[Payment]) -> Quote | None:
            quote = None
            for payment in group:
                quote = await self._execute(payment, deadline)
            return quote

        return _by_uuid(await _each(in_turn, of_uuid.values()))

    async def _execute(self, payment: Payment, deadline: float | None) -> Quote | None:
        async def work(connection: Connection) -> Quote | None:
            if await connection.fetchval(LOCK_ONE, payment.uuid) is None:
                return None
            time = await connection.fetchrow(TIME, timedelta())
            assert time is not None  # noqa: S101 - a SELECT of one row
            rows = await connection.fetch(
                EXECUTE,
                payment.uuid,
                time["at"],
                time["told"],
                payment.caller,
                payment.fingerprint,
                payment.source_amount,
                payment.destination_amount,
            ) or await connection.fetch(SELECT, payment.uuid, time["at"])
            return quotes_of(rows)[payment.uuid]

        return await self._database.transaction(work, deadline=deadline)

    async def find(self, uuids: Sequence[UUID], deadline: float | None = None) -> dict[UUID, Quote]:
        return _by_uuid(await _each(partial(self._find, deadline=deadline), dict.fromkeys(uuids)))

    async def _find(self, uuid: UUID, deadline: float | None) -> Quote | None:
        (time,) = await self._database.fetch(TIME, timedelta(), deadline=deadline)
        return quotes_of(await self._database.fetch(SELECT, uuid, time["at"], deadline=deadline)).get(uuid)

    async def missing(self) -> list[str]:
        return []

    async def sweep(self, older_than: timedelta) -> int | None:
        """As its model, but without a lock: what two processes do at once is done once, and harms nobody."""
        (swept,) = await self._database.fetch(SWEEP_FROM)
        (time,) = await self._database.fetch(TIME, -older_than)
        begin, until = swept["swept_until"], time["later"]
        if until <= begin:
            return None
        is_last = until <= begin + SWEEP_SLICE
        until = min(until, begin + SWEEP_SLICE)
        due = [row["uuid"] for row in await self._database.fetch(DUE, begin, until, SWEEP_ROWS)]
        await _each(lambda uuid: self._database.fetch(SWEEP, uuid, until), due)
        if len(due) < SWEEP_ROWS:
            await self._database.fetch(SWEPT, until)
        return None if is_last and not due else len(due)


async def _each(work: Callable[[T], Awaitable[R]], items: Iterable[T]) -> list[R]:
    """What ``work`` gives for each item, some at a time. All are done with before the first error is raised."""
    slots = asyncio.Semaphore(ROWS_AT_ONCE)

    async def one(item: T) -> R:
        async with slots:
            return await work(item)

    results = await asyncio.gather(*map(one, items), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _by_uuid(quotes: Iterable[Quote | None]) -> dict[UUID, Quote]:
    return {quote.uuid: quote for quote in quotes if quote is not None}
