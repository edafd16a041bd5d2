"""SQL statements that reserve, execute and find quotes, and so keep the promises of wire.md §7 (docs/decisions.md).

Each method works on many quotes with one or two SQL statements, however many quotes there are. Each statement is
committed alone and runs at the isolation level READ COMMITTED.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from importlib.resources import files
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
import msgspec
import orjson

from chassis.database import Connection, Database
from chassis.errors import QuotingError, UnavailableError, UpstreamTimeoutError
from chassis.migrations import Migrations
from dfsp_api.expiry import CLOCK, expires_after, in_milliseconds, is_expired, is_open
from dfsp_api.exposure_limits import ExposureRefusal
from dfsp_api.pricing import Terms
from dfsp_api.quote_filter import Page, Position, QuoteFilter
from dfsp_api.stored_quote import QuoteEvent, StoredQuote

MIGRATIONS: Final = Migrations("dfsp_api", files("dfsp_api") / "migrations")
MAX_TRIES: Final = 3
SWEEP_ROWS: Final = 500
SWEEP_SLICE: Final = timedelta(hours=1)

REPLACED: Final = "the database was replaced by another one; a repetition with the same key is safe"

IS_CITUS: Final = "SELECT extversion FROM pg_extension WHERE extname = 'citus'"
IS_DISTRIBUTED: Final = "SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass('quote')"

NAMESPACE: Final = "SELECT secret FROM namespace"

COLUMNS: Final = """uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires, executed, released, schedule, lifetime_ms"""

# ORDER BY uuid: without it, two batches with the same keys in opposite order would deadlock.
# DISTINCT ON: a key that is in the batch twice is inserted once, with its first request.
# namespace: its secret made the uuids. In a database with another secret, a key would get a second quote.
INSERT: Final = f"""
INSERT INTO quote AS q (uuid, caller, operation, fingerprint, request, source_amount, destination_amount,
    created, expires, schedule, lifetime_ms)
SELECT DISTINCT ON (i.uuid) i.uuid, i.caller, i.operation, i.fingerprint, i.request::json, i.source_amount,
    i.destination_amount, {in_milliseconds("clock.at")},
    {expires_after("clock.at", "coalesce(i.lifetime_ms * interval '1 ms', $10)")}, i.schedule, i.lifetime_ms
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::numeric[], $7::numeric[], $8::bigint[],
    $9::bigint[]) WITH ORDINALITY
    AS i (uuid, caller, operation, fingerprint, request, source_amount, destination_amount, schedule, lifetime_ms,
    position),
    (SELECT {CLOCK} AS at) AS clock
WHERE EXISTS (SELECT FROM namespace WHERE secret = $11)
ORDER BY i.uuid, i.position
ON CONFLICT (uuid) DO NOTHING
RETURNING {COLUMNS}, false AS is_expired
"""

# The INSERT does not see the row of a concurrent transaction that made it do nothing; the next statement does.
# Another caller's quote is not returned: the same work is done where there is no such quote, so that the time of a
# response does not tell whether there is.
SELECT: Final = f"""
SELECT {COLUMNS}, {is_expired(CLOCK)} AS is_expired FROM quote
WHERE uuid = ANY($1::uuid[]) AND EXISTS (
    SELECT FROM unnest($1::uuid[], $2::text[]) AS i (uuid, caller)
    WHERE i.uuid = quote.uuid AND i.caller = quote.caller
)
"""


# The rows are locked first, in order, and the clock is read after the last lock: read before a wait for a lock, it
# would let a quote be executed after `expires`. The join with l keeps the lock before the clock. Another caller's row
# is not locked: a lock is written to disk, and the time of that would tell that there is such a quote.
def _changing(column: str, orders: str, condition: str) -> str:
    """Return a statement that sets the time in `column` of each quote that may change.

    `orders` are the rows `i` with uuid and caller of each quote, and `condition` compares them with the row of `quote`.
    """
    return f"""
WITH i AS (
    SELECT * FROM {orders}
), l AS MATERIALIZED (
    SELECT uuid FROM quote
    WHERE uuid = ANY($1::uuid[])
        AND EXISTS (SELECT FROM i WHERE i.uuid = quote.uuid AND i.caller = quote.caller)
    ORDER BY uuid FOR NO KEY UPDATE
), t AS MATERIALIZED (
    SELECT {CLOCK} AS at, count(*) AS locked FROM l
)
UPDATE quote SET {column} = {in_milliseconds("t.at")}
FROM t, l
WHERE quote.uuid = l.uuid AND t.locked > 0
    AND {is_open("t.at")}
    AND EXISTS (
        SELECT FROM i WHERE i.uuid = quote.uuid AND i.caller = quote.caller
            AND {condition}
    )
RETURNING {", ".join(f"quote.{each.strip()}" for each in COLUMNS.split(","))}, false AS is_expired
"""


# The fingerprint says which parameters must be equal; the two amounts must be equal only where the payment has them.
EXECUTE: Final = _changing(
    "executed",
    """unnest($1::uuid[], $2::text[], $3::bytea[], $4::numeric[], $5::numeric[])
        AS i (uuid, caller, fingerprint, source_amount, destination_amount)""",
    """i.fingerprint = quote.fingerprint
            AND (i.source_amount IS NULL OR i.source_amount = quote.source_amount)
            AND (i.destination_amount IS NULL OR i.destination_amount = quote.destination_amount)""",
)
# A look-up names the receiver, or not, and so does a release: another receiver's quote is not released.
RELEASE: Final = _changing(
    "released",
    """unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        AS i (uuid, caller, identifier_type, identifier)""",
    """(i.identifier_type IS NULL OR i.identifier_type = quote.request->>'identifierType')
            AND (i.identifier IS NULL OR i.identifier = quote.request->>'identifier')""",
)


def log_of(changed: str, event: QuoteEvent, at: str) -> str:
    """Return SQL that inserts an event of each changed quote for the audit log (docs/audit.md), as a part of WITH.

    `changed` is the part of WITH that changes quotes, and `at` the column with the time of the event.
    """
    return f"""pending AS (
    INSERT INTO audit_pending (uuid, event, at) SELECT uuid, {event:d}, {at} FROM {changed}
)"""


def logged(statement: str, event: QuoteEvent, at: str) -> str:
    """Return a statement that also inserts an event of each changed quote for the audit log."""
    return f"WITH changed AS ({statement}), {log_of('changed', event, at)} SELECT * FROM changed"


LOGGED_INSERT: Final = logged(INSERT, QuoteEvent.RESERVED, "created")
LOGGED_EXECUTE: Final = logged(EXECUTE, QuoteEvent.EXECUTED, "executed")
LOGGED_RELEASE: Final = logged(RELEASE, QuoteEvent.RELEASED, "released")

SWEEP_FROM: Final = "SELECT swept_until FROM retention FOR UPDATE SKIP LOCKED"

# Returns the number of rows that were due. If one of them was executed in the meantime, fewer rows are reduced, but
# more rows may still be due.
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

MAX_SCANNED: Final = 50_000
"""Maximum number of quotes that one statement of a list reads, which takes about a tenth of a second."""

OF_CALLER: Final = " AND caller = $9"
OF_QUOTE: Final = " AND uuid = $9 AND ($10::text IS NULL OR caller = $10)"

LIMIT_TIME: Final = "SELECT set_config('statement_timeout', $1, true)"
SHARE_OF_TIME: Final = 0.95
"""The share of the caller's time after which Postgres ends a list."""


def is_listed(is_expired: str) -> str:
    """Return SQL for the conditions of a list that no index helps with. A stub is not listed."""
    return f"""(request IS NOT NULL
        AND ($5::text IS NULL
            OR $5 = CASE WHEN executed IS NOT NULL THEN 'EXECUTED' WHEN released IS NOT NULL THEN 'RELEASED'
                WHEN {is_expired} THEN 'EXPIRED' ELSE 'RESERVED' END)
        AND ($6::text IS NULL OR request->>'identifier' = $6)
        AND ($7::numeric IS NULL OR source_amount = $7 OR destination_amount = $7))"""


def _list(condition: str) -> str:
    """Return the statement that lists quotes. `condition` is one of those that `list_condition` returns.

    It reads the quotes in the order of an index, newest first, until it has found $4 quotes or read $8. Because of the
    second limit, no filter makes it read the whole table. If it has read $8 quotes, the last of them is in the result,
    too.
    """
    return f"""
SELECT {COLUMNS}, is_expired, is_listed, position = $8 AS is_limit FROM (
    SELECT *, {is_listed("is_expired")} AS is_listed,
        row_number() OVER (ORDER BY created DESC, uuid DESC) AS position
    FROM (
        SELECT {COLUMNS}, {is_expired("clock.at")} AS is_expired
        FROM quote, (SELECT {CLOCK} AS at) AS clock
        WHERE created >= $1 AND (created, uuid) < ($2, $3::uuid){condition}
        ORDER BY created DESC, uuid DESC
        LIMIT $8
    ) AS newest
) AS numbered
WHERE is_listed OR position = $8
ORDER BY created DESC, uuid DESC
LIMIT $4
"""


LIST_OF_ALL: Final = _list("")
LIST_OF_CALLER: Final = _list(OF_CALLER)
LIST_OF_QUOTE: Final = _list(OF_QUOTE)
LISTS: Final = {"": LIST_OF_ALL, OF_CALLER: LIST_OF_CALLER, OF_QUOTE: LIST_OF_QUOTE}

STATEMENTS: Final = {
    INSERT: "reserve",
    SELECT: "look_up",
    EXECUTE: "execute",
    RELEASE: "release",
    LOGGED_INSERT: "reserve",
    LOGGED_EXECUTE: "execute",
    LOGGED_RELEASE: "release",
    NAMESPACE: "namespace",
    SWEEP_FROM: "sweep_from",
    SWEEP: "sweep",
    SWEPT: "swept",
    LIST_OF_ALL: "list_of_all",
    LIST_OF_CALLER: "list_of_caller",
    LIST_OF_QUOTE: "list_of_quote",
    LIMIT_TIME: "limit_time",
}
"""Name of each statement, for metrics."""


class NewQuote(msgspec.Struct, frozen=True):
    """A quote to reserve.

    ``schedule`` is the number of the fee schedule that priced it. ``lifetime_ms`` is None for the default. ``namespace`` is the database's secret from which
    its uuid was made.
    """

    uuid: UUID
    caller: str
    operation: str
    fingerprint: bytes
    request: Mapping[str, str]
    terms: Terms
    schedule: int
    lifetime_ms: int | None
    namespace: bytes


class PaymentOrder(msgspec.Struct, frozen=True):
    """A request to execute a quote. Caller, fingerprint and amounts must equal the stored ones."""

    uuid: UUID
    caller: str
    fingerprint: bytes
    source_amount: str | None
    destination_amount: str | None


class ReleaseOrder(msgspec.Struct, frozen=True):
    """A request to release a quote. Caller, identifierType and identifier must equal the stored ones."""

    uuid: UUID
    caller: str
    identifier_type: str | None = None
    identifier: str | None = None


class LookUp(msgspec.Struct, frozen=True):
    """A quote to look up."""

    uuid: UUID
    caller: str


class QuoteOfCaller(Protocol):
    """Names a quote, and the caller who must have reserved it."""

    @property
    def uuid(self) -> UUID: ...
    @property
    def caller(self) -> str: ...


Reserved = StoredQuote | ExposureRefusal
"""The outcome of a reservation. Only repositories with exposure limits refuse one."""


class Repository:
    """The table ``quote``.

    ``deadline`` is the latest of the callers' deadlines, a monotonic time. If a statement has not ended by then, its
    connection is closed (Database.fetch).
    """

    def __init__(self, database: Database, lifetime: timedelta, *, is_audited: bool = False) -> None:
        """`is_audited`: each change of a quote is an event for the audit log."""
        self._database = database
        self._lifetime = lifetime
        self.is_audited = is_audited
        self._insert = LOGGED_INSERT if is_audited else INSERT
        self._execute = LOGGED_EXECUTE if is_audited else EXECUTE
        self._release = LOGGED_RELEASE if is_audited else RELEASE
        self._namespace: bytes | None = None
        database.on_connect(self._read_namespace)

    @property
    def known_namespace(self) -> bytes | None:
        """The database's secret of 32 random bytes from which uuids are made; None until it is read."""
        return self._namespace

    async def namespace(self, deadline: float | None = None) -> bytes:
        """Return the database's secret of 32 random bytes from which uuids are made.

        Raises the errors of Database.fetch.
        """
        if self._namespace is None:
            rows = await self._database.fetch(NAMESPACE, deadline=deadline)
            self._namespace = bytes(rows[0]["secret"])
        return self._namespace

    async def reserve(
        self, quotes: Sequence[NewQuote], deadline: float | None = None
    ) -> Mapping[UUID, Reserved]:
        """Insert quotes whose uuids are new; return the stored quote of each uuid, which may be an older one.

        The quotes are on disk when this returns. Raises UnavailableError if the database is away, if it has another
        secret than the one from which the uuids were made, or if a quote is neither inserted nor found.
        """
        found: dict[UUID, StoredQuote] = {}
        left = quotes
        for _ in range(MAX_TRIES if quotes else 0):
            rows = await self._database.fetch(
                self._insert,
                [each.uuid for each in left],
                [each.caller for each in left],
                [each.operation for each in left],
                [each.fingerprint for each in left],
                [request_text(each) for each in left],
                [each.terms.source_amount for each in left],
                [each.terms.destination_amount for each in left],
                [each.schedule for each in left],
                [each.lifetime_ms for each in left],
                self._lifetime,
                common_namespace(quotes),
                deadline=deadline,
            )
            found.update(quotes_by_uuid(rows))
            left = [each for each in left if each.uuid not in found]
            if left:
                found.update(await self.find(left, deadline))
                left = [each for each in left if each.uuid not in found]
            if not left:
                break
            for row in await self._database.fetch(NAMESPACE, deadline=deadline):
                self.require_same_namespace(left[0], row["secret"])
        if left:
            raise UnavailableError(cause="a quote was neither inserted nor found")
        return found

    async def execute(
        self, payments: Sequence[PaymentOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        """Execute the quotes that can be executed.

        Return every quote that exists, executed or not, as it is afterwards.
        """
        arguments = (
            [each.uuid for each in payments],
            [each.caller for each in payments],
            [each.fingerprint for each in payments],
            [each.source_amount for each in payments],
            [each.destination_amount for each in payments],
        )
        return await self._change(self._execute, payments, arguments, deadline)

    async def release(
        self, orders: Sequence[ReleaseOrder], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        """Release the quotes that can be released.

        Return every quote that exists, released or not, as it is afterwards.
        """
        arguments = (
            [each.uuid for each in orders],
            [each.caller for each in orders],
            [each.identifier_type for each in orders],
            [each.identifier for each in orders],
        )
        return await self._change(self._release, orders, arguments, deadline)

    async def _change(
        self,
        statement: str,
        orders: Sequence[QuoteOfCaller],
        arguments: Sequence[object],
        deadline: float | None,
    ) -> dict[UUID, StoredQuote]:
        """Run a statement that changes quotes. Return the changed quotes, and the other ones as they are."""
        changed = quotes_by_uuid(await self._database.fetch(statement, *arguments, deadline=deadline))
        left = [each for each in orders if each.uuid not in changed]
        return {**changed, **(await self.find(left, deadline) if left else {})}

    async def find(
        self, wanted: Sequence[QuoteOfCaller], deadline: float | None = None
    ) -> dict[UUID, StoredQuote]:
        uuids, callers = [each.uuid for each in wanted], [each.caller for each in wanted]
        return quotes_by_uuid(await self._database.fetch(SELECT, uuids, callers, deadline=deadline))

    async def page(self, wanted: QuoteFilter, deadline: float | None = None) -> Page:
        """Return the first quotes of a list. The page has fewer than ``wanted.limit`` if many others were read."""
        condition, values = list_condition(wanted)
        arguments = (*list_arguments(wanted), MAX_SCANNED, *values)
        return page_of(await self.fetch_list(LISTS[condition], arguments, deadline), wanted.limit)

    async def fetch_list(
        self, statement: str, arguments: Sequence[object], deadline: float | None
    ) -> Sequence[asyncpg.Record]:
        """Run a statement that lists quotes. Postgres itself ends it before the deadline.

        A closed connection would not end it: Postgres notices that only when it sends the result.
        """

        async def work(connection: Connection) -> Sequence[asyncpg.Record]:
            if deadline is not None:
                left_ms = max(1, int((deadline - time.monotonic()) * 1_000 * SHARE_OF_TIME))
                await connection.fetch(LIMIT_TIME, str(left_ms))
            try:
                return await connection.fetch(statement, *arguments)
            except asyncpg.QueryCanceledError as error:
                raise UpstreamTimeoutError(cause="a list did not end in time") from error

        return await self._database.transaction(work, deadline=deadline)

    async def missing(self) -> list[str]:
        """Return why these statements cannot work on this database; an empty list if they can.

        They fail on a distributed table. The readiness check reports this, so that requests do not have to fail.
        """
        try:
            if await self._database.fetch(IS_CITUS) and await self._database.fetch(IS_DISTRIBUTED):
                return ["QUOTES_DATABASE_KIND=distributed, because this database is distributed"]
        except QuotingError:
            pass  # Database.missing reports that the database is away
        return []

    async def sweep(self, older_than: timedelta) -> int | None:
        """Reduce a small batch of quotes to stubs, which have no request and no amounts.

        These quotes were never executed, and expired longer ago than ``older_than``. Return the number of quotes that
        were due; None if nothing is left to do, or if another process does it now.
        """

        async def work(connection: Connection) -> int | None:
            begin: datetime | None = await connection.fetchval(SWEEP_FROM)
            if begin is None:
                return None
            until: datetime = await connection.fetchval(f"SELECT {CLOCK} - $1::interval", older_than)
            if until <= begin:
                return None
            is_last = until <= begin + SWEEP_SLICE
            until = min(until, begin + SWEEP_SLICE)
            due: int = await connection.fetchval(SWEEP, begin, until, SWEEP_ROWS)
            if due < SWEEP_ROWS:
                await connection.execute(SWEPT, until)
            return None if is_last and not due else due

        return await self._database.transaction(work)

    async def _read_namespace(self, connection: Connection) -> None:
        """Read the secret of the database that a new connection leads to, which may be another database than before.

        If the secret has changed, connections to the earlier database are not used again.
        """
        try:
            namespace: bytes | None = await connection.fetchval(NAMESPACE)
        except asyncpg.UndefinedTableError:  # not migrated yet
            namespace = None
        if self._namespace is not None and namespace != self._namespace:
            await self._database.expire_connections()
        self._namespace = namespace

    def lifetime_of(self, new: NewQuote) -> timedelta:
        return self._lifetime if new.lifetime_ms is None else timedelta(milliseconds=new.lifetime_ms)

    def require_same_namespace(self, quote: NewQuote, secret: bytes) -> None:
        """Raise UnavailableError if the quote's uuid was not made from the secret that the database has."""
        if quote.namespace != secret:
            self._namespace = secret
            raise UnavailableError(cause=REPLACED)


def request_text(new: NewQuote) -> str:
    """Return the request as canonical JSON. The audit log uses the text as it is."""
    return orjson.dumps(new.request, option=orjson.OPT_SORT_KEYS).decode()


def common_namespace(quotes: Sequence[NewQuote]) -> bytes:
    """Return the secret from which all these uuids were made. Raises UnavailableError if they were made from several.

    That happens if the database was replaced while the batch was waiting.
    """
    namespaces = {each.namespace for each in quotes}
    if len(namespaces) > 1:
        raise UnavailableError(cause=REPLACED)
    return namespaces.pop()


def quotes_by_uuid(rows: Iterable[Iterable[Any]]) -> dict[UUID, StoredQuote]:
    """Return the quotes by uuid. Each row has the columns COLUMNS and is_expired."""
    return {quote.uuid: quote for quote in (_stored_quote(*row) for row in rows)}


def list_condition(wanted: QuoteFilter) -> tuple[str, tuple[object, ...]]:
    """Return the condition of a list for which there is an index, and its arguments from the ninth on."""
    if wanted.uuid is not None:
        return OF_QUOTE, (wanted.uuid, wanted.caller)
    return ("", ()) if wanted.caller is None else (OF_CALLER, (wanted.caller,))


def list_arguments(wanted: QuoteFilter) -> tuple[object, ...]:
    """Return the first seven arguments of a statement that lists quotes. It finds one quote more than the page has."""
    return (
        wanted.since,
        *wanted.before,
        wanted.limit + 1,
        wanted.state,
        wanted.identifier,
        wanted.amount,
    )


def page_of(rows: Sequence[asyncpg.Record], limit: int) -> Page:
    """Return the page from the rows of a statement that lists quotes.

    Each row has the columns COLUMNS and is_expired, is_listed and is_limit.
    """
    listed = [row for row in rows if row["is_listed"]][:limit]
    last = None
    if len(rows) > len(listed):
        last = rows[-1] if not rows[-1]["is_listed"] else listed[-1]
    elif rows and rows[-1]["is_limit"]:
        last = rows[-1]
    quotes = [_stored_quote(*row[:-2]) for row in listed]
    return Page(quotes, None if last is None else Position(last["created"], last["uuid"]))


def _stored_quote(
    uuid: UUID,
    caller: str,
    operation: str,
    fingerprint: bytes,
    request: str | None,
    *others: Any,  # noqa: ANN401 - amounts and times, as StoredQuote has them
) -> StoredQuote:
    return StoredQuote(
        uuid, caller, operation, fingerprint, orjson.loads(request) if request is not None else None, *others
    )
