"""SQL statements of the audit log. They work on a distributed database, too.

So no statement that writes calls a volatile function, none locks rows of several shards, and none needs a snapshot over
several nodes: an event that a statement sees is committed, and is deleted in the transaction that adds its leaf.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.database import Connection
from dfsp_api.audit.entry import content_of
from dfsp_api.audit.tiles import TileId
from dfsp_api.expiry import CLOCK
from dfsp_api.stored_quote import QuoteEvent

MAX_CHECKED: Final = 1_000
"""Maximum number of quotes that one step of a search reads."""
MAX_CONTENTS: Final = 1_000
"""Maximum number of leaves that lose their content in one transaction."""

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""A time before all quotes."""

LEASE_SECONDS: Final = 5.0
"""Time after which another payee takes the lease, if its holder does not renew it."""
_MAX_LEASE_SECONDS: Final = 2 * LEASE_SECONDS
"""A lease that ends later was taken before the database's clock was set back; it counts as ended."""

STATE: Final = f"""
SELECT holder, leased_until > clock.at AND leased_until <= clock.at + interval '{_MAX_LEASE_SECONDS} s' AS is_leased,
    clock.at AS now, (SELECT min(at) FROM audit_pending) AS oldest
FROM audit_log, (SELECT {CLOCK} AS at) AS clock
"""
# If a payee hangs in a transaction, Postgres ends the transaction before the lease ends.
TIME: Final = f"SELECT {CLOCK} AS now, set_config('idle_in_transaction_session_timeout', '4s', true)"
# The lock on this row lasts until the end of the transaction: leaves are added by one payee at a time.
LEASE: Final = """
UPDATE audit_log SET holder = $1, leased_until = $3, began = coalesce(began, $2)
WHERE holder = $1 OR leased_until <= $2 OR leased_until > $4
RETURNING began, kept, content_from, checked_created, checked_uuid, settled_created, settled_uuid
"""
LOGGED: Final = "SELECT uuid, event FROM audit_leaf WHERE uuid = ANY($1::uuid[])"
CONTENTS: Final = f"""
SELECT quote.uuid, {content_of("$2::smallint")} AS content FROM quote WHERE quote.uuid = ANY($1::uuid[])
"""
TILES: Final = """
SELECT level, number, hashes FROM audit_tile WHERE number = ANY($1::bigint[]) AND level = ANY($2::smallint[])
"""
STORE_TILES: Final = """
INSERT INTO audit_tile (level, number, hashes) SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[])
ON CONFLICT (number, level) DO UPDATE SET hashes = excluded.hashes
"""
CHECKPOINT: Final = "SELECT size, note, is_kept FROM audit_checkpoint ORDER BY size DESC LIMIT 1"
ADD_CHECKPOINT: Final = "INSERT INTO audit_checkpoint (size, signed, is_kept, note) VALUES ($1, $2, $3, $4)"
REMOVE_CHECKPOINT: Final = "DELETE FROM audit_checkpoint WHERE size = $1 AND NOT is_kept"
KEPT: Final = "UPDATE audit_log SET kept = $1"

# the end of the next slice of a search: quotes in the order in which they were reserved
SEARCH: Final = """
SELECT created, uuid, count(*) OVER () AS quotes FROM (
    SELECT created, uuid FROM quote
    WHERE (created, uuid) > ($1, $2::uuid) AND created <= $3
    ORDER BY created, uuid LIMIT $4
) AS slice
ORDER BY created DESC, uuid DESC LIMIT 1
"""


def _has_no_leaf(event: QuoteEvent) -> str:
    """Return SQL for whether an event of a row of ``quote`` has no leaf. Its plan reads one entry of an index."""
    return f"""(
        SELECT l.position FROM audit_leaf AS l WHERE l.uuid = quote.uuid AND l.event = {event:d}
    ) IS NULL"""


# The quotes of a slice that have an event without a leaf, if the event happened until $5. IS NOT NULL: if the condition
# before AND is NULL and not false, Postgres also computes the one after it.
MISSING: Final = f"""
SELECT uuid, created, executed, released FROM quote
WHERE (created, uuid) > ($1, $2::uuid) AND (created, uuid) <= ($3, $4::uuid) AND (
    {_has_no_leaf(QuoteEvent.RESERVED)}
    OR executed IS NOT NULL AND executed <= $5 AND {_has_no_leaf(QuoteEvent.EXECUTED)}
    OR released IS NOT NULL AND released <= $5 AND {_has_no_leaf(QuoteEvent.RELEASED)}
)
ORDER BY created, uuid
"""
# only for quotes that seem to have no leaf
WAITING: Final = "SELECT uuid, event FROM audit_pending WHERE uuid = ANY($1::uuid[])"
ADD_PENDING: Final = """
INSERT INTO audit_pending (uuid, event, at)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::timestamptz[])
"""
CHECKED: Final = "UPDATE audit_log SET checked_created = $1, checked_uuid = $2"
SETTLED: Final = "UPDATE audit_log SET settled_created = $1, settled_uuid = $2"

LAST_SIGNED: Final = "SELECT max(size) AS size FROM audit_checkpoint WHERE signed < $1"
REMOVE_CONTENT: Final = """
UPDATE audit_leaf SET content = NULL WHERE position >= $1 AND position < $2 AND content IS NOT NULL
"""
CONTENT_FROM: Final = "UPDATE audit_log SET content_from = $1"

CHECKPOINTS: Final = "SELECT size, note FROM audit_checkpoint WHERE size > $1 ORDER BY size LIMIT $2"
LEAVES: Final = f"""
SELECT l.position, l.content,
    (SELECT {content_of("l.event")} FROM quote WHERE quote.uuid = l.uuid) AS now
FROM audit_leaf AS l WHERE l.position >= $1 AND l.position < $2 ORDER BY l.position
"""

CALLER_OF: Final = "SELECT caller FROM quote WHERE uuid = $1"
LEAVES_OF: Final = "SELECT event, position, content FROM audit_leaf WHERE uuid = $1 ORDER BY position"

STATEMENTS: Final = {
    statement: f"audit_{name}"
    for name, statement in {
        "state": STATE,
        "time": TIME,
        "lease": LEASE,
        "logged": LOGGED,
        "contents": CONTENTS,
        "tiles": TILES,
        "store_tiles": STORE_TILES,
        "checkpoint": CHECKPOINT,
        "add_checkpoint": ADD_CHECKPOINT,
        "remove_checkpoint": REMOVE_CHECKPOINT,
        "kept": KEPT,
        "search": SEARCH,
        "missing": MISSING,
        "waiting": WAITING,
        "add_pending": ADD_PENDING,
        "checked": CHECKED,
        "settled": SETTLED,
        "last_signed": LAST_SIGNED,
        "remove_content": REMOVE_CONTENT,
        "content_from": CONTENT_FROM,
        "checkpoints": CHECKPOINTS,
        "leaves": LEAVES,
        "caller_of": CALLER_OF,
        "leaves_of": LEAVES_OF,
    }.items()
}
"""Name of each statement, for metrics."""

Key = tuple[UUID, QuoteEvent]


class Pending(NamedTuple):
    """An event that has no leaf yet, and when it happened."""

    uuid: UUID
    event: QuoteEvent
    at: datetime

    @property
    def key(self) -> Key:
        return self.uuid, self.event


class SignedTree(NamedTuple):
    """The last checkpoint in the database."""

    size: int
    note: str
    is_kept: bool
    """Whether the checkpoint stays in the database. One checkpoint a minute stays."""


async def lease(connection: Connection, holder: str) -> tuple[asyncpg.Record, datetime] | None:
    """Take or extend the lease. Return the log's row and the time; None if another payee has the lease.

    Until the end of the transaction no other payee can take it.
    """
    now: datetime = await connection.fetchval(TIME)
    until, latest = (now + timedelta(seconds=seconds) for seconds in (LEASE_SECONDS, _MAX_LEASE_SECONDS))
    row = await connection.fetchrow(LEASE, holder, now, until, latest)
    return None if row is None else (row, now)


async def logged_events(connection: Connection, uuids: Collection[UUID]) -> set[Key]:
    """Return the events of these quotes that have a leaf."""
    rows = await connection.fetch(LOGGED, list(uuids))
    return {(row["uuid"], QuoteEvent(row["event"])) for row in rows}


async def waiting_events(connection: Connection, uuids: Collection[UUID]) -> set[Key]:
    """Return the events of these quotes that wait for their leaf."""
    rows = await connection.fetch(WAITING, list(uuids))
    return {(row["uuid"], QuoteEvent(row["event"])) for row in rows}


async def contents_of(connection: Connection, events: Iterable[Key]) -> dict[Key, str]:
    """Return the contents of the leaves for these events, if their quotes are in the table."""
    uuids: dict[QuoteEvent, list[UUID]] = {}
    for uuid, event in events:
        uuids.setdefault(event, []).append(uuid)
    return {
        (row["uuid"], event): row["content"]
        for event, some in uuids.items()
        for row in await connection.fetch(CONTENTS, some, event)
    }


async def tiles(connection: Connection, wanted: Collection[TileId]) -> dict[TileId, bytes]:
    """Return at least the wanted tiles; those that the database does not have are left out."""
    numbers, levels = {number for _, number in wanted}, {level for level, _ in wanted}
    rows = await connection.fetch(TILES, list(numbers), list(levels)) if wanted else []
    return {(row["level"], row["number"]): row["hashes"] for row in rows}


async def store_tiles(connection: Connection, changed: Mapping[TileId, bytes]) -> None:
    levels, numbers = [level for level, _ in changed], [number for _, number in changed]
    await connection.execute(STORE_TILES, levels, numbers, list(changed.values()))


async def last_checkpoint(connection: Connection) -> SignedTree | None:
    row = await connection.fetchrow(CHECKPOINT)
    return None if row is None else SignedTree(*row)


class Slice(NamedTuple):
    """A part of the table ``quote`` in which a search has found events without a leaf."""

    quotes: int
    created: datetime
    uuid: UUID
    """The position of the last quote, and the start of the next slice."""
    missing: list[Pending]


async def search(
    connection: Connection, created: datetime, uuid: UUID, until: datetime, happened_until: datetime
) -> Slice | None:
    """Return the slice of at most MAX_CHECKED quotes from this position on; None if there are no more.

    It has quotes that were reserved until ``until``, and events that happened until ``happened_until``.
    """
    last = await connection.fetchrow(SEARCH, created, uuid, until, MAX_CHECKED)
    if last is None:
        return None
    rows = await connection.fetch(MISSING, created, uuid, last["created"], last["uuid"], happened_until)
    logged = await logged_events(connection, [row["uuid"] for row in rows]) if rows else set()
    missing = [each for row in rows for each in _happened(row, happened_until) if each.key not in logged]
    return Slice(last["quotes"], last["created"], last["uuid"], missing)


def _happened(row: asyncpg.Record, until: datetime) -> Iterator[Pending]:
    """Yield the events up to this time, from a row of MISSING."""
    for event, at in zip(QuoteEvent, (row["created"], row["executed"], row["released"]), strict=True):
        if at is not None and at <= until:
            yield Pending(row["uuid"], event, at)
