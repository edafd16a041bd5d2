"""The statements of delivery: taking lanes up, reading their events, telling what came of them.

A lane's row is locked before anything in the lane is read or changed, and READ COMMITTED reads what the next
statement finds: so nothing here can miss an event, and a stale holder, whose token is no longer the lane's,
changes nothing but the log.
"""

import secrets
import time
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from chassis.database import Connection, Database
from chassis.migrations import Migrations
from integrations.events import LIVES_SECONDS, CanonicalEvent, EventType, opposite
from integrations.notification_texts import Notification, tell

MIGRATIONS: Final = Migrations("integrations", files("integrations") / "migrations")
LEASE_SECONDS: Final = 20.0
MAX_READ: Final = 16

# A token is random: none comes twice, even where the last commits are lost with the server. The statement need
# not be on disk, then: a claim that is lost is one more stale holder.
CLAIM: Final = """
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), ready AS MATERIALIZED (
    SELECT id FROM lane
    WHERE last_seq > done_seq AND due <= now() AND integration_id <> ALL($3::uuid[])
    ORDER BY due LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE lane SET token = $2, is_held = true, due = clock_timestamp() + make_interval(secs => $4)
FROM ready, quick WHERE lane.id = ready.id
RETURNING lane.id, lane.integration_id, lane.strategy_id, lane.done_seq
"""

READ: Final = """
SELECT l.id AS lane_id, l.changes, i.revision, e.seq, e.take, e.id, e.type, e.timestamp_ms, e.data, e.tries,
    e.is_told, extract(epoch FROM e.expires - clock_timestamp())::float8 AS lives_seconds,
    extract(epoch FROM clock_timestamp() - e.first_try)::float8 AS since_first_seconds
FROM unnest($1::bigint[], $2::bigint[], $3::smallint[]) AS r (id, seq, take)
JOIN lane l ON l.id = r.id JOIN integration i ON i.id = l.integration_id
LEFT JOIN LATERAL (
    SELECT * FROM event
    WHERE lane_id = r.id AND (seq, take) > (r.seq, r.take) AND state = 'WAITING'
    ORDER BY seq, take LIMIT $4
) e ON true
ORDER BY l.id, e.seq, e.take
"""

LOCK_HELD: Final = """
SELECT l.id, i.failures > 0 AS is_failing
FROM unnest($1::bigint[], $2::bigint[]) AS r (id, token)
JOIN lane l ON l.id = r.id AND l.token = r.token
JOIN integration i ON i.id = l.integration_id
ORDER BY l.id FOR NO KEY UPDATE OF l
"""

# An attempt is counted once, even where the server went away before it could say that it was: hence `tries`.
# What was cancelled while it was under way stays so, unless an answer says otherwise.
RECORD: Final = """
UPDATE event AS e SET
    state = CASE WHEN NOT r.is_current OR r.state = 'WAITING' THEN e.state
        WHEN e.state = 'WAITING' OR (e.state = 'CANCELLED' AND r.state <> 'EXPIRED') THEN r.state
        ELSE e.state END,
    tries = e.tries + CASE WHEN r.attempt IS NULL OR NOT r.is_current THEN 0 ELSE 1 END,
    first_try = CASE WHEN r.attempt IS NULL THEN e.first_try
        ELSE coalesce(e.first_try, clock_timestamp() - make_interval(secs => r.seconds)) END,
    is_told = e.is_told OR (r.is_told AND r.is_current),
    log = CASE WHEN r.attempt IS NULL THEN e.log ELSE e.log || r.attempt::jsonb END
FROM unnest($1::uuid[], $2::boolean[], $3::smallint[], $4::text[], $5::float8[], $6::boolean[], $7::text[])
    AS r (id, is_current, tries, state, seconds, is_told, attempt)
WHERE e.id = r.id AND (NOT r.is_current OR e.tries = r.tries)
    AND (r.attempt IS NOT NULL OR e.state = 'WAITING')
RETURNING e.id, e.state
"""

REPLACE: Final = """
INSERT INTO event (lane_id, seq, take, integration_id, type, timestamp_ms, data, expires)
SELECT r.lane_id, r.seq, 1, l.integration_id, 'SIGNAL_CLOSE', r.timestamp_ms, r.data,
    clock_timestamp() + make_interval(secs => $5)
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS r (lane_id, seq, timestamp_ms, data)
JOIN lane l ON l.id = r.lane_id
"""

ADVANCE: Final = """
UPDATE lane AS l SET
    done_seq = CASE WHEN n.event_id IS NULL THEN l.last_seq ELSE n.seq - 1 END,
    is_held = n.event_id IS NOT NULL AND NOT n.waits AND NOT n.is_given_up,
    due = CASE WHEN n.waits THEN clock_timestamp() + make_interval(secs => n.wait_seconds)
        WHEN n.event_id IS NULL OR n.is_given_up THEN '-infinity'
        ELSE clock_timestamp() + make_interval(secs => $5) END
FROM (
    SELECT r.id, r.wait_seconds, r.is_given_up, h.id AS event_id, h.seq,
        coalesce(h.id = r.event_id AND r.wait_seconds IS NOT NULL, false) AS waits
    FROM unnest($1::bigint[], $2::uuid[], $3::float8[], $4::boolean[])
        AS r (id, event_id, wait_seconds, is_given_up)
    JOIN lane b ON b.id = r.id
    LEFT JOIN LATERAL (
        SELECT id, seq FROM event WHERE lane_id = b.id AND seq > b.done_seq AND state = 'WAITING'
        ORDER BY seq, take LIMIT 1
    ) h ON true
) AS n
WHERE l.id = n.id
RETURNING l.id, l.is_held, l.changes
"""

Place = tuple[int, int]
"""Where in its lane an event is: seq and take."""


@dataclass(frozen=True, slots=True)
class ClaimedLane:
    """A lane that is this process's until its lease ends."""

    id: int
    token: int
    integration_id: UUID
    strategy_id: str
    done: Place


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """An event to be sent, with what the attempt must know of it.

    Seconds count from `read_at` on the monotonic clock: from before the statement that said so.
    """

    place: Place
    event: CanonicalEvent
    tries: int
    is_told: bool
    lives_seconds: float
    since_first_seconds: float | None
    read_at: float

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.read_at


@dataclass(frozen=True, slots=True)
class LaneContents:
    """What a lane holds beyond the place that was asked for."""

    changes: int
    revision: int
    events: tuple[QueuedEvent, ...]


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What came of one event: `state` WAITING where it is to be tried again, after `wait_seconds`."""

    queued: QueuedEvent
    state: str
    log: dict[str, object] | None
    """None where nothing was sent."""
    seconds: float = 0.0
    wait_seconds: float | None = None
    notice: Notification | None = None
    is_told: bool = False
    is_healthy: bool = True
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class LaneReport:
    """One lane's news.

    What comes after the place `last` is read if `is_low`; all that comes after `begun`, if what waits has
    changed since the lane's `changes` were what they are here.
    """

    lane: ClaimedLane
    attempt: AttemptResult | None
    begun: Place
    last: Place
    changes: int
    is_low: bool
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """What became of a lane: whether it is still this holder's, and what more it has, where that was read."""

    is_held: bool
    is_failing: bool
    read: LaneContents | None


def new_token() -> int:
    return secrets.randbits(63)


def claimed(id_: int, token: int, row: asyncpg.Record) -> ClaimedLane:
    """The lane of a row that says what it is a lane of, and what of it is done."""
    return ClaimedLane(id_, token, row["integration_id"], row["strategy_id"], (row["done_seq"], 1))


class LaneQueue:
    """The tables ``lane`` and ``event`` as workers see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def missing(self) -> list[str]:
        """What the database lacks."""
        return await self._database.missing()

    async def claim(self, most: int, without: Sequence[UUID]) -> list[ClaimedLane]:
        """Takes up lanes that have work and are nobody's, none of the integrations `without`."""
        token = new_token()
        rows = await self._database.fetch(CLAIM, most, token, list(without), LEASE_SECONDS)
        return [claimed(row["id"], token, row) for row in rows]

    async def read(self, lanes: Sequence[tuple[int, Place]]) -> dict[int, LaneContents]:
        """What is to be sent in each lane after each place, as much as is good to know in advance."""
        began = time.monotonic()
        return reads(await self._database.fetch(READ, *_places(lanes), MAX_READ), began)

    async def report(self, reports: Sequence[LaneReport]) -> list[LaneStatus]:
        """Commits what came of a batch of attempts; says for each report how its lane stands."""

        async def work(connection: Connection) -> list[LaneStatus]:
            return await _report(connection, reports)

        return await self._database.transaction(work)


async def _report(connection: Connection, reports: Sequence[LaneReport]) -> list[LaneStatus]:
    began = time.monotonic()
    last = {each.lane.id: each for each in reports}
    rows = await connection.fetch(LOCK_HELD, list(last), [each.lane.token for each in last.values()])
    failing = {row["id"]: row["is_failing"] for row in rows}
    notices = await _record(connection, reports, failing)
    now = [each for each in last.values() if each.lane.id in failing]
    advanced = await connection.fetch(
        ADVANCE,
        [each.lane.id for each in now],
        [UUID(each.attempt.queued.event.id) if each.attempt else None for each in now],
        [each.attempt.wait_seconds if each.attempt else None for each in now],
        [each.is_given_up for each in now],
        LEASE_SECONDS,
    )
    held = {row["id"]: row["changes"] for row in advanced if row["is_held"]}
    low = {each.lane.id for each in reports if each.is_low}
    wanted = [
        (each.lane.id, each.last if held[each.lane.id] == each.changes else each.begun)
        for each in now
        if each.lane.id in held and (each.lane.id in low or held[each.lane.id] != each.changes)
    ]
    more = reads(await connection.fetch(READ, *_places(wanted), MAX_READ), began) if wanted else {}
    if notices:
        await tell(connection, notices)
    return [
        LaneStatus(each.lane.id in held, failing.get(each.lane.id, False), more.get(each.lane.id))
        for each in reports
    ]


async def _record(
    connection: Connection, reports: Sequence[LaneReport], current: Container[int]
) -> list[Notification]:
    """Writes the attempts down, and a CLOSE in the place of each REOPEN that expired; what is to be told."""
    tried = [(each.lane.id, each.attempt) for each in reports if each.attempt is not None]
    if not tried:
        return []
    rows = await connection.fetch(
        RECORD,
        [UUID(attempt.queued.event.id) for _, attempt in tried],
        [lane in current for lane, _ in tried],
        [attempt.queued.tries for _, attempt in tried],
        [attempt.state for _, attempt in tried],
        [attempt.seconds for _, attempt in tried],
        [attempt.is_told for _, attempt in tried],
        [None if attempt.log is None else orjson.dumps([attempt.log]).decode() for _, attempt in tried],
    )
    states = {str(row["id"]): row["state"] for row in rows}
    news = [
        (lane, attempt) for lane, attempt in tried if lane in current and attempt.queued.event.id in states
    ]
    await replace(
        connection,
        [
            (
                lane,
                attempt.queued.place[0],
                attempt.queued.event.timestamp_ms,
                attempt.queued.event.data or "",
            )
            for lane, attempt in news
            if attempt.queued.event.type == EventType.SIGNAL_REOPEN
            and attempt.state == states[attempt.queued.event.id] == "EXPIRED"
        ],
    )
    return [attempt.notice for _, attempt in news if attempt.notice is not None]


async def replace(connection: Connection, reopens: Sequence[tuple[int, int, int, str]]) -> None:
    """Puts a CLOSE of the old position in the place of each REOPEN: its lane, seq, timestamp and data."""
    if reopens:
        await connection.execute(
            REPLACE,
            [lane for lane, _, _, _ in reopens],
            [seq for _, seq, _, _ in reopens],
            [timestamp_ms for _, _, timestamp_ms, _ in reopens],
            [opposite(data) for _, _, _, data in reopens],
            LIVES_SECONDS[EventType.SIGNAL_CLOSE],
        )


def _places(lanes: Sequence[tuple[int, Place]]) -> tuple[list[int], list[int], list[int]]:
    return [lane for lane, _ in lanes], [seq for _, (seq, _) in lanes], [take for _, (_, take) in lanes]


def reads(rows: Sequence[asyncpg.Record], read_at: float) -> dict[int, LaneContents]:
    """By lane, what rows with the columns of READ say: as of then, or later."""
    events: dict[int, list[QueuedEvent]] = {}
    heads: dict[int, tuple[int, int]] = {}
    for row in rows:
        heads[row["lane_id"]] = row["changes"], row["revision"]
        found = events.setdefault(row["lane_id"], [])
        if row["id"] is not None:
            found.append(_queued(row, read_at))
    return {lane: LaneContents(*heads[lane], tuple(events[lane])) for lane in heads}


def _queued(row: asyncpg.Record, read_at: float) -> QueuedEvent:
    return QueuedEvent(
        (row["seq"], row["take"]),
        CanonicalEvent(str(row["id"]), row["type"], row["timestamp_ms"], row["data"]),
        row["tries"],
        row["is_told"],
        row["lives_seconds"],
        row["since_first_seconds"],
        read_at,
    )
