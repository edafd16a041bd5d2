"""The statements that hold the promises (docs/decisions.md).

Each takes many items and is one or two autocommitted READ COMMITTED statements, whatever their number.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import orjson

from chassis.database import Connection, Database
from chassis.errors import QuotingError, UnavailableError
from chassis.migrations import Migrations
from dfsp_api.pricing import Terms
from dfsp_api.reservation import Quote

MIGRATIONS: Final = Migrations("dfsp_api", files("dfsp_api") / "migrations")
MAX_TRIES: Final = 3
SWEEP_ROWS: Final = 500
SWEEP_SLICE: Final = timedelta(hours=1)

IS_CITUS: Final = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
IS_DISTRIBUTED: Final = "SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('quote')"

NAMESPACE: Final = "SELECT secret FROM namespace"

COLUMNS: Final = """uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires, executed"""

# Sorted by uuid: two batches with the same keys in opposite order wait for each other instead of deadlocking.
# DISTINCT ON: a key that is in the batch twice is inserted once, its first request.
INSERT: Final = f"""
INSERT INTO quote AS q (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires)
SELECT DISTINCT ON (i.uuid) i.uuid, i.caller, i.operation, i.fingerprint, i.request::json, i.source_amount,
    i.destination_amount, date_trunc('milliseconds', clock.at), date_trunc('milliseconds', clock.at + $8)
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::numeric[], $7::numeric[])
    WITH ORDINALITY
    AS i (uuid, caller, operation, fingerprint, request, source_amount, destination_amount, position),
    (SELECT clock_timestamp() AS at) AS clock
ORDER BY i.uuid, i.position
ON CONFLICT (uuid) DO NOTHING
RETURNING {COLUMNS}, false AS is_expired
"""

# A rival's row is not visible to the INSERT that met it; it is to the next statement.
SELECT: Final = f"""
SELECT {COLUMNS}, expires <= clock_timestamp() AS is_expired FROM quote WHERE uuid = ANY($1::uuid[])
"""

# Rows are locked first, in order, and the clock is read after that: now() is when the transaction began, and
# after a wait for a lock it would execute past `expires`. The join with l keeps the lock before the clock.
# Which parameters must be equal is in the fingerprint; the two amounts only where they were given.
EXECUTE: Final = f"""
WITH i AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::numeric[], $5::numeric[])
        AS i (uuid, caller, fingerprint, source_amount, destination_amount)
), l AS MATERIALIZED (
    SELECT uuid FROM quote WHERE uuid = ANY($1::uuid[]) ORDER BY uuid FOR NO KEY UPDATE
), t AS MATERIALIZED (
    SELECT clock_timestamp() AS at, count(*) AS locked FROM l
)
UPDATE quote SET executed = date_trunc('milliseconds', t.at)
FROM t, l
WHERE quote.uuid = l.uuid AND t.locked > 0
    AND quote.executed IS NULL AND quote.request IS NOT NULL AND quote.expires > t.at
    AND EXISTS (
        SELECT FROM i WHERE i.uuid = quote.uuid AND i.caller = quote.caller
            AND i.fingerprint = quote.fingerprint
            AND (i.source_amount IS NULL OR i.source_amount = quote.source_amount)
            AND (i.destination_amount IS NULL OR i.destination_amount = quote.destination_amount)
    )
RETURNING {", ".join(f"quote.{column.strip()}" for column in COLUMNS.split(","))}, false AS is_expired
"""

SWEEP_FROM: Final = "SELECT swept_until FROM retention FOR UPDATE SKIP LOCKED"

# Counts what was due, not what was reduced: where a rival has executed one of them, there may still be more.
SWEEP: Final = """
WITH due AS MATERIALIZED (
    SELECT uuid FROM quote
    WHERE expires >= $1 AND expires < $2 AND executed IS NULL AND request IS NOT NULL
    LIMIT $3
), locked AS MATERIALIZED (
    SELECT uuid FROM quote WHERE uuid IN (SELECT uuid FROM due) ORDER BY uuid FOR NO KEY UPDATE
), reduced AS (
    UPDATE quote SET request = NULL, source_amount = NULL, destination_amount = NULL
    FROM locked WHERE quote.uuid = locked.uuid AND quote.executed IS NULL
)
SELECT count(*) FROM due
"""

SWEPT: Final = "UPDATE retention SET swept_until = $1"


class NewQuote(msgspec.Struct, frozen=True):
    """What is to be reserved."""

    uuid: UUID
    caller: str
    operation: str
    fingerprint: bytes
    request: Mapping[str, str]
    terms: Terms


class Payment(msgspec.Struct, frozen=True):
    """What is to be executed, and what must be equal for that."""

    uuid: UUID
    caller: str
    fingerprint: bytes
    source_amount: str | None
    destination_amount: str | None


class Repository:
    """The table ``quote``."""

    def __init__(self, database: Database, ttl: timedelta) -> None:
        self._database = database
        self._ttl = ttl
        self._namespace: bytes | None = None

    @property
    def known_namespace(self) -> bytes | None:
        """The 32 random bytes that the database keeps for uuids, once they have been read."""
        return self._namespace

    async def namespace(self) -> bytes:
        """Likewise, read if they have not been."""
        if self._namespace is None:
            rows = await self._database.fetch(NAMESPACE)
            self._namespace = bytes(rows[0]["secret"])
        return self._namespace

    async def reserve(self, new: Sequence[NewQuote], deadline: float | None = None) -> dict[UUID, Quote]:
        """Return the quote of each uuid: the new one, or the one that was there before. Committed, durably.

        ``deadline``, here and below, is the latest one of the callers on the monotonic clock: the statement's
        connection is closed then (Database.fetch). Raises UnavailableError where the database is away, or where a row
        can be neither inserted nor found.
        """
        quotes: dict[UUID, Quote] = {}
        left = new
        for _ in range(MAX_TRIES):
            rows = await self._database.fetch(
                INSERT,
                [each.uuid for each in left],
                [each.caller for each in left],
                [each.operation for each in left],
                [each.fingerprint for each in left],
                [orjson.dumps(each.request).decode() for each in left],
                [each.terms.source_amount for each in left],
                [each.terms.destination_amount for each in left],
                self._ttl,
                deadline=deadline,
            )
            quotes.update(quotes_of(rows))
            left = [each for each in left if each.uuid not in quotes]
            if left:
                quotes.update(await self.find([each.uuid for each in left], deadline))
                left = [each for each in left if each.uuid not in quotes]
            if not left:
                return quotes
        raise UnavailableError(cause="a quote was neither inserted nor found")

    async def execute(self, payments: Sequence[Payment], deadline: float | None = None) -> dict[UUID, Quote]:
        """Executes what may be executed; the quote of each uuid that is there, as it is after that."""
        rows = await self._database.fetch(
            EXECUTE,
            [each.uuid for each in payments],
            [each.caller for each in payments],
            [each.fingerprint for each in payments],
            [each.source_amount for each in payments],
            [each.destination_amount for each in payments],
            deadline=deadline,
        )
        quotes = quotes_of(rows)
        left = [each.uuid for each in payments if each.uuid not in quotes]
        return {**quotes, **(await self.find(left, deadline) if left else {})}

    async def find(self, uuids: Sequence[UUID], deadline: float | None = None) -> dict[UUID, Quote]:
        """The quotes under these uuids."""
        return quotes_of(await self._database.fetch(SELECT, uuids, deadline=deadline))

    async def missing(self) -> list[str]:
        """What keeps these statements from working on this database; empty when nothing does.

        A distributed table takes none that touches many rows: said here, rather than by each call's 503.
        """
        try:
            if await self._database.fetch(IS_CITUS) and await self._database.fetch(IS_DISTRIBUTED):
                return ["QUOTES_DATABASE_KIND=distributed, which this database is"]
        except QuotingError:
            pass  # which the database's own check says
        return []

    async def sweep(self, older_than: timedelta) -> int | None:
        """One small batch of retention: reduces expired, never executed quotes to stubs.

        How many were due, or None when there is nothing left to do, or another process is about it.
        """

        async def work(connection: Connection) -> int | None:
            begin: datetime | None = await connection.fetchval(SWEEP_FROM)
            if begin is None:
                return None
            until: datetime = await connection.fetchval("SELECT clock_timestamp() - $1::interval", older_than)
            if until <= begin:
                return None
            is_last = until <= begin + SWEEP_SLICE
            until = min(until, begin + SWEEP_SLICE)
            due: int = await connection.fetchval(SWEEP, begin, until, SWEEP_ROWS)
            if due < SWEEP_ROWS:
                await connection.execute(SWEPT, until)
            return None if is_last and not due else due

        return await self._database.transaction(work)


def quotes_of(rows: Iterable[asyncpg.Record]) -> dict[UUID, Quote]:
    """The quotes in rows of COLUMNS and whether they are expired."""
    return {row[0]: _quote(*row) for row in rows}


def _quote(
    uuid: UUID,
    caller: str,
    operation: str,
    fingerprint: bytes,
    request: str | None,
    *others: Any,  # noqa: ANN401 - amounts and times, as Quote has them
) -> Quote:
    return Quote(
        uuid, caller, operation, fingerprint, orjson.loads(request) if request is not None else None, *others
    )
