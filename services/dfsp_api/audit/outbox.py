"""Turns the events that wait in ``audit_pending`` into leaves, for each kind of database.

The database makes the leaves: Python sees their hashes alone, so that adding a leaf takes little time of the event loop.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import asyncpg

from chassis.database import Connection
from dfsp_api.audit.entry import content_of
from dfsp_api.audit.merkle import HASH_BYTES, leaf_hash
from dfsp_api.audit.repository import Key, Pending, contents_of, logged_events
from dfsp_api.stored_quote import QuoteEvent

MAX_LEAVES: Final = 2_000
"""Maximum number of leaves that one transaction adds. To hash their nodes takes the event loop about a millisecond."""
MAX_LEAVES_IN_STEPS: Final = 250
"""Maximum number of leaves that one transaction adds in steps, for which the event loop does ten times as much work."""


class Taken(NamedTuple):
    """Events that do not wait any more."""

    events: int
    is_more: bool
    """Whether further events may wait."""
    hashes: bytes
    """The hashes of the leaves that were added, one after the other."""
    lost: Sequence[str]
    """The uuids of events that have neither a quote nor a leaf."""

    @property
    def added(self) -> int:
        """The number of leaves."""
        return len(self.hashes) // HASH_BYTES


TakeEvents: TypeAlias = Callable[[Connection, int], Awaitable[Taken]]
"""Adds leaves to a tree of this size for the oldest events, and deletes the events.

An event that has a leaf gets no second one.
"""

# OFFSET 0 makes Postgres read one entry of an index for each event. With a plain join, a plan that was made for small
# tables could read all quotes when the table has grown.
TAKE: Final = f"""
WITH taken AS (
    DELETE FROM audit_pending
    WHERE ctid = ANY(ARRAY(SELECT ctid FROM audit_pending ORDER BY at, event, uuid LIMIT $1))
    RETURNING uuid, event, at
), added AS (
    INSERT INTO audit_leaf (uuid, event, position, content)
    SELECT e.uuid, e.event, $2::bigint - 1 + row_number() OVER (ORDER BY e.at, e.event, e.uuid), q.content
    FROM (SELECT uuid, event, at FROM taken ORDER BY at, event, uuid) AS e
    CROSS JOIN LATERAL (
        SELECT {content_of("e.event")} AS content FROM quote WHERE quote.uuid = e.uuid OFFSET 0
    ) AS q
    RETURNING position, sha256(decode('00', 'hex') || convert_to(content, 'UTF8')) AS hash
)
SELECT (SELECT count(*) FROM taken) AS events,
    coalesce((SELECT string_agg(hash, '' ORDER BY position) FROM added), '') AS hashes
"""


class _NoQuoteError(Exception):
    """An event without a quote was taken."""


async def take_events(connection: Connection, size: int) -> Taken:
    """Take events in one statement. If an event has a leaf already, or no quote, take them in steps."""
    try:
        async with connection.transaction():
            return await _take_at_once(connection, size)
    except (asyncpg.UniqueViolationError, _NoQuoteError):
        return await take_events_in_steps(connection, size)


async def _take_at_once(connection: Connection, size: int) -> Taken:
    row = await connection.fetchrow(TAKE, MAX_LEAVES, size)
    assert row is not None  # noqa: S101 - a SELECT of one row
    taken = Taken(row["events"], row["events"] == MAX_LEAVES, row["hashes"], ())
    if taken.added < taken.events:
        raise _NoQuoteError
    return taken


PENDING: Final = "SELECT uuid, event, at FROM audit_pending ORDER BY at, event, uuid LIMIT $1"
# The times select rows by the index. An event that is committed after PENDING has another uuid or event.
DELETE: Final = """
DELETE FROM audit_pending WHERE event = $1 AND uuid = ANY($2::uuid[]) AND at >= $3 AND at <= $4
"""
ADD_LEAVES: Final = """
INSERT INTO audit_leaf (uuid, event, position, content)
SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::text[])
"""


async def take_events_in_steps(connection: Connection, size: int) -> Taken:
    """Take events in several statements, of which none both deletes and inserts rows, as a distributed database needs it."""
    rows = await connection.fetch(PENDING, MAX_LEAVES_IN_STEPS)
    events = [Pending(row["uuid"], QuoteEvent(row["event"]), row["at"]) for row in rows]
    if not events:
        return Taken(0, is_more=False, hashes=b"", lost=())
    logged = await logged_events(connection, {each.uuid for each in events})
    new = dict.fromkeys(each.key for each in events if each.key not in logged)
    contents = await contents_of(connection, new)
    added = {key: contents[key] for key in new if key in contents}
    await _delete(connection, events)
    await _add_leaves(connection, added, size)
    return Taken(
        len(events),
        len(events) == MAX_LEAVES_IN_STEPS,
        b"".join([leaf_hash(each.encode()) for each in added.values()]),
        [str(uuid) for uuid, event in new if (uuid, event) not in contents],
    )


async def _delete(connection: Connection, events: Sequence[Pending]) -> None:
    first, last = events[0].at, events[-1].at
    for event in QuoteEvent:
        uuids = [each.uuid for each in events if each.event is event]
        if uuids:
            await connection.execute(DELETE, event, uuids, first, last)


async def _add_leaves(connection: Connection, contents: Mapping[Key, str], size: int) -> None:
    uuids, events = [uuid for uuid, _ in contents], [event for _, event in contents]
    positions = list(range(size, size + len(contents)))
    await connection.execute(ADD_LEAVES, uuids, events, positions, list(contents.values()))


TAKE_EVENTS: Final[Mapping[str, TakeEvents]] = {
    "postgres": take_events,
    "distributed": take_events_in_steps,
}
"""The function for each kind of database."""

DISTRIBUTED_STATEMENTS: Final = {
    PENDING: "audit_pending",
    DELETE: "audit_delete",
    ADD_LEAVES: "audit_add_leaves",
}
STATEMENTS: Final = {TAKE: "audit_take", **DISTRIBUTED_STATEMENTS}
"""Name of each statement, for metrics."""
