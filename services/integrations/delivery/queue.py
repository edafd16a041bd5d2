"""SQL for delivery: claim lanes, read their events, and store the results of attempts.

Each statement locks a lane's row before it reads or changes anything in the lane. At the isolation level READ
COMMITTED, the next statement sees everything that was committed before, so no event is missed. A process whose lease
has ended has an old token; it can only add entries to the attempt log.
"""

import secrets
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final
from uuid import UUID

import asyncpg
import orjson

from chassis.database import Connection, Database
from chassis.migrations import Migrations
from integrations.delivery.process_identity import ProcessIdentity
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.events import CanonicalEvent, EventType, with_opposite_direction
from integrations.notifications import Notification, insert_notifications

MIGRATIONS: Final = Migrations("integrations", files("integrations") / "migrations")
LEASE_SECONDS: Final = 20.0
MAX_EVENTS_READ: Final = 16

_LIFETIME: Final = " ".join(f"WHEN '{type_}' THEN {seconds}" for type_, seconds in LIFETIME_SECONDS.items())


def queued_at(event: str) -> str:
    """Return the SQL for the time when an event was put into its lane: first, or again by a replay.

    `event` is the name of the table in the statement.
    """
    return f"({event}.expires - make_interval(secs => CASE {event}.type {_LIFETIME} END))"


# Tokens are random, so that none repeats even if the server loses its last commits. So the claim
# need not be on disk, either: if it is lost, this process is one more holder with an old token.
CLAIM: Final = """
WITH quick AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), ready AS MATERIALIZED (
    SELECT id FROM lane
    WHERE last_seq > done_seq AND due <= now() AND integration_id <> ALL($3::uuid[])
    ORDER BY due LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE lane SET token = $2, is_held = true, holder = $5,
    due = clock_timestamp() + make_interval(secs => $4)
FROM ready, quick WHERE lane.id = ready.id
RETURNING lane.id, lane.integration_id, lane.strategy_id, lane.done_seq
"""

HOLDERS: Final = """
SELECT DISTINCT holder FROM lane WHERE last_seq > done_seq AND is_held AND starts_with(holder, $1)
"""

RELEASE: Final = """
UPDATE lane SET token = $2, is_held = false, due = '-infinity'
WHERE last_seq > done_seq AND is_held AND holder = ANY($1::text[])
RETURNING id
"""

READ: Final = """
SELECT l.id AS lane_id, l.changes, i.revision, e.seq, e.take, e.id, e.type, e.timestamp_ms, e.data, e.tries,
    e.is_told, e.trace_id, extract(epoch FROM e.expires - clock_timestamp())::float8 AS lives_seconds,
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

# `tries` makes a report count once, even if it is sent again because the server committed it and ended before it
# answered. An event that was cancelled during the attempt stays cancelled, unless the webhook answered.
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

INSERT_CLOSES: Final = """
INSERT INTO event (lane_id, seq, take, integration_id, type, timestamp_ms, data, expires, trace_id)
SELECT r.lane_id, r.seq, 1, l.integration_id, 'SIGNAL_CLOSE', r.timestamp_ms, r.data,
    clock_timestamp() + make_interval(secs => $5), coalesce(e.trace_id, '')
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[]) AS r (lane_id, seq, timestamp_ms, data)
JOIN lane l ON l.id = r.lane_id
LEFT JOIN event e ON (e.lane_id, e.seq, e.take) = (r.lane_id, r.seq, 0)
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

STATEMENTS: Final = {
    CLAIM: "claim",
    READ: "read",
    LOCK_HELD: "lock_held",
    RECORD: "record",
    INSERT_CLOSES: "insert_closes",
    ADVANCE: "advance",
}
"""Name of each statement, for metrics."""

Position = tuple[int, int]
"""Place of an event in its lane: the columns `seq` and `take`."""


@dataclass(frozen=True, slots=True)
class ClaimedLane:
    """A lane that this process holds until its lease ends. All events up to the position `done` are finished."""

    id: int
    token: int
    integration_id: UUID
    strategy_id: str
    done: Position


@dataclass(frozen=True, slots=True)
class QueuedEvent:
    """A waiting event that a worker has read.

    `lifetime_seconds` and `since_first_seconds` count from `read_at`, a monotonic time before the statement that read
    them.
    """

    position: Position
    event: CanonicalEvent
    attempts: int
    is_user_notified: bool
    lifetime_seconds: float
    since_first_seconds: float | None
    read_at: float
    trace_id: str = ""
    """Trace id of the signal; empty if the event is about no signal."""

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.read_at


@dataclass(frozen=True, slots=True)
class LaneContents:
    """The waiting events of a lane, and two counters: `changes` of the lane, and `revision` of the integration."""

    changes: int
    revision: int
    events: tuple[QueuedEvent, ...]


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """Result of an attempt, or of an event that expired before it was sent.

    In the state WAITING the event is sent again after `retry_delay_seconds`.
    """

    queued: QueuedEvent
    state: str
    log: dict[str, object] | None
    """Entry for the attempt log; None if the event was not sent."""
    seconds: float = 0.0
    retry_delay_seconds: float | None = None
    notification: Callable[[str], Notification] | None = None
    """Function that returns the user's notification. Its argument is the event's state after the commit."""
    is_healthy: bool = True
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class LaneReport:
    """A worker's report on its lane, which is committed to the database.

    If `wants_more`, the commit also reads the events after `last_known`. If the lane's `changes` counter has increased,
    the commit reads all events after `last_started` instead.
    """

    lane: ClaimedLane
    result: AttemptResult | None
    last_started: Position
    last_known: Position
    changes: int
    wants_more: bool
    is_given_up: bool = False


@dataclass(frozen=True, slots=True)
class LaneStatus:
    """State of a lane after a report. `contents` is None if the commit did not read events."""

    is_held: bool
    is_failing: bool
    contents: LaneContents | None


def new_token() -> int:
    return secrets.randbits(63)


def claimed_lane(id_: int, token: int, row: asyncpg.Record) -> ClaimedLane:
    return ClaimedLane(id_, token, row["integration_id"], row["strategy_id"], (row["done_seq"], 1))


class LaneQueue:
    """The tables ``lane`` and ``event``, with the statements that workers need."""

    def __init__(self, database: Database, identity: ProcessIdentity) -> None:
        self._database = database
        self.identity = identity

    async def missing(self) -> list[str]:
        """Return what the database lacks, for the readiness check; empty if it is ready."""
        return await self._database.missing()

    async def claim(self, max_lanes: int, without: Sequence[UUID]) -> list[ClaimedLane]:
        """Claim and return lanes that have work and that no process holds. Leaves out the integrations in `without`."""
        token = new_token()
        rows = await self._database.fetch(
            CLAIM, max_lanes, token, list(without), LEASE_SECONDS, self.identity.text
        )
        return [claimed_lane(row["id"], token, row) for row in rows]

    async def release_lanes_of_dead_processes(self) -> int:
        """End the leases of processes that ran on this machine and no longer exist; return the number of lanes.

        Otherwise the lanes of a killed process would wait until its leases end.
        """
        if not self.identity.machine:
            return 0
        rows = await self._database.fetch(HOLDERS, self.identity.machine)
        dead = [row["holder"] for row in rows if self.identity.is_dead(row["holder"])]
        return len(await self._database.fetch(RELEASE, dead, new_token())) if dead else 0

    async def read(self, lanes: Sequence[tuple[int, Position]]) -> dict[int, LaneContents]:
        """Return the next waiting events of each lane.

        `lanes` has the lane's id and the position after which to read.
        """
        began = time.monotonic()
        return lane_contents(await self._database.fetch(READ, *_positions(lanes), MAX_EVENTS_READ), began)

    async def report(self, reports: Sequence[LaneReport]) -> list[LaneStatus]:
        """Commit a batch of reports in one transaction; return the lane's state for each report."""

        async def work(connection: Connection) -> list[LaneStatus]:
            return await _report(connection, reports)

        return await self._database.transaction(work)


async def _report(connection: Connection, reports: Sequence[LaneReport]) -> list[LaneStatus]:
    began = time.monotonic()
    last = {each.lane.id: each for each in reports}
    rows = await connection.fetch(LOCK_HELD, list(last), [each.lane.token for each in last.values()])
    failing = {row["id"]: row["is_failing"] for row in rows}
    notifications = await _record(connection, reports, failing)
    current = [each for each in last.values() if each.lane.id in failing]
    advanced = await connection.fetch(
        ADVANCE,
        [each.lane.id for each in current],
        [UUID(each.result.queued.event.id) if each.result else None for each in current],
        [each.result.retry_delay_seconds if each.result else None for each in current],
        [each.is_given_up for each in current],
        LEASE_SECONDS,
    )
    changes = {row["id"]: row["changes"] for row in advanced if row["is_held"]}
    wanting = {each.lane.id for each in reports if each.wants_more}
    to_read = [
        (id_, each.last_known if changes[id_] == each.changes else each.last_started)
        for each in current
        if (id_ := each.lane.id) in changes and (id_ in wanting or changes[id_] != each.changes)
    ]
    contents = (
        lane_contents(await connection.fetch(READ, *_positions(to_read), MAX_EVENTS_READ), began)
        if to_read
        else {}
    )
    if notifications:
        await insert_notifications(connection, notifications)
    return [
        LaneStatus(each.lane.id in changes, failing.get(each.lane.id, False), contents.get(each.lane.id))
        for each in reports
    ]


async def _record(
    connection: Connection, reports: Sequence[LaneReport], current: Container[int]
) -> list[Notification]:
    """Store the results of attempts, and insert a CLOSE in place of each expired REOPEN.

    `current` are the lanes that this process still holds. Returns the notifications that must be stored.
    """
    results = [(each.lane.id, each.result) for each in reports if each.result is not None]
    if not results:
        return []
    rows = await connection.fetch(
        RECORD,
        [UUID(result.queued.event.id) for _, result in results],
        [lane in current for lane, _ in results],
        [result.queued.attempts for _, result in results],
        [result.state for _, result in results],
        [result.seconds for _, result in results],
        [result.notification is not None for _, result in results],
        [None if result.log is None else orjson.dumps([result.log]).decode() for _, result in results],
    )
    states = {str(row["id"]): row["state"] for row in rows}
    stored = [
        (lane, result) for lane, result in results if lane in current and result.queued.event.id in states
    ]
    await replace_by_closes(
        connection,
        [
            (
                lane,
                result.queued.position[0],
                result.queued.event.timestamp_ms,
                result.queued.event.data or "",
            )
            for lane, result in stored
            if result.queued.event.type == EventType.SIGNAL_REOPEN
            and result.state == states[result.queued.event.id] == "EXPIRED"
        ],
    )
    return [
        result.notification(states[result.queued.event.id])
        for _, result in stored
        if result.notification is not None
    ]


async def replace_by_closes(connection: Connection, reopens: Sequence[tuple[int, int, int, str]]) -> None:
    """Insert a CLOSE of the earlier position in place of each REOPEN: a tuple of lane, seq, timestamp and data."""
    if reopens:
        await connection.execute(
            INSERT_CLOSES,
            [lane for lane, _, _, _ in reopens],
            [seq for _, seq, _, _ in reopens],
            [timestamp_ms for _, _, timestamp_ms, _ in reopens],
            [with_opposite_direction(data) for _, _, _, data in reopens],
            LIFETIME_SECONDS[EventType.SIGNAL_CLOSE],
        )


def _positions(lanes: Sequence[tuple[int, Position]]) -> tuple[list[int], list[int], list[int]]:
    return [lane for lane, _ in lanes], [seq for _, (seq, _) in lanes], [take for _, (_, take) in lanes]


def lane_contents(rows: Sequence[asyncpg.Record], read_at: float) -> dict[int, LaneContents]:
    """Return the events in rows of the statement READ, by lane. `read_at` is a monotonic time before the statement."""
    events: dict[int, list[QueuedEvent]] = {}
    counters: dict[int, tuple[int, int]] = {}
    for row in rows:
        counters[row["lane_id"]] = row["changes"], row["revision"]
        found = events.setdefault(row["lane_id"], [])
        if row["id"] is not None:
            found.append(_queued_event(row, read_at))
    return {lane: LaneContents(*counters[lane], tuple(events[lane])) for lane in counters}


def _queued_event(row: asyncpg.Record, read_at: float) -> QueuedEvent:
    return QueuedEvent(
        (row["seq"], row["take"]),
        CanonicalEvent(str(row["id"]), row["type"], row["timestamp_ms"], row["data"]),
        row["tries"],
        row["is_told"],
        row["lives_seconds"],
        row["since_first_seconds"],
        read_at,
        row["trace_id"],
    )
