"""SQL statements for strategies and signals. A signal becomes one event in each enabled lane of its strategy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from chassis.database import Connection
from chassis.errors import ConflictError, NotFoundError, QuotingError
from integrations.delivery.queue import LEASE_SECONDS, ClaimedLane, claimed_lane, new_token
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.engine_signal import EngineSignal

PUT_STRATEGY: Final = """
INSERT INTO strategy AS s (id, name, user_email) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET name = $2 WHERE lower(s.user_email) = lower($3)
RETURNING id
"""

STRATEGY_NAMES: Final = "SELECT id, name FROM strategy WHERE id = ANY($1::text[])"

# the moment when a lane's row is locked decides whether the lane counts as enabled
LOCK_ENABLED_LANES: Final = """
SELECT id, strategy_id, integration_id FROM lane WHERE strategy_id = ANY($1::text[]) AND is_enabled
ORDER BY id FOR NO KEY UPDATE
"""

# sorted, so that two batches with the same signals do not deadlock
INSERT_SIGNALS: Final = """
INSERT INTO signal (strategy_id, signal_id, fingerprint, events)
SELECT DISTINCT ON (strategy_id, signal_id) strategy_id, signal_id, fingerprint, events
FROM unnest($1::text[], $2::text[], $3::bytea[], $4::integer[]) WITH ORDINALITY
    AS s (strategy_id, signal_id, fingerprint, events, position)
ORDER BY strategy_id, signal_id, position
ON CONFLICT (strategy_id, signal_id) DO NOTHING
RETURNING strategy_id, signal_id
"""

FIND_SIGNALS: Final = """
SELECT s.strategy_id, s.signal_id, s.fingerprint, s.events
FROM signal s JOIN unnest($1::text[], $2::text[]) AS w (strategy_id, signal_id)
    ON s.strategy_id = w.strategy_id AND s.signal_id = w.signal_id
"""

# If nothing waits in a lane and this process has room, the same statement claims the lane: it changes the row like the
# statement CLAIM, and returns rows like the statement READ.
INSERT_EVENTS: Final = """
WITH s AS (
    SELECT s.*, row_number() OVER (PARTITION BY strategy_id ORDER BY position) AS rank,
        count(*) OVER (PARTITION BY strategy_id) AS total
    FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[], $10::text[]) WITH ORDINALITY
        AS s (strategy_id, type, data, life_seconds, trace_id, position)
), l AS (
    UPDATE lane SET last_seq = last_seq + t.total,
        token = CASE WHEN is_free THEN $7 ELSE token END,
        is_held = is_free OR is_held,
        holder = CASE WHEN is_free THEN $9 ELSE holder END,
        due = CASE WHEN is_free THEN clock_timestamp() + make_interval(secs => $8) ELSE due END
    FROM (SELECT DISTINCT strategy_id, total FROM s) t, (
        SELECT id, id = ANY($6::bigint[]) AND last_seq = done_seq AND due <= clock_timestamp() AS is_free
        FROM lane WHERE id = ANY($1::bigint[])
    ) f
    WHERE lane.id = f.id AND lane.strategy_id = t.strategy_id
    RETURNING lane.id, lane.integration_id, lane.strategy_id, lane.last_seq - t.total AS before, lane.changes,
        is_free
), e AS (
    INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, data, expires, trace_id)
    SELECT l.id, l.before + s.rank, l.integration_id, s.type,
        floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint, s.data,
        clock_timestamp() + make_interval(secs => s.life_seconds), s.trace_id
    FROM l JOIN s ON s.strategy_id = l.strategy_id
    RETURNING lane_id, seq, take, id, type, timestamp_ms, data, tries, is_told, trace_id,
        extract(epoch FROM expires - clock_timestamp())::float8 AS lives_seconds
)
SELECT e.*, NULL::float8 AS since_first_seconds, l.integration_id, l.strategy_id, l.before AS done_seq, l.changes,
    i.revision
FROM l JOIN integration i ON i.id = l.integration_id JOIN e ON e.lane_id = l.id
WHERE l.is_free ORDER BY l.id, e.seq
"""

STATEMENTS: Final = {
    STRATEGY_NAMES: "strategy_names",
    LOCK_ENABLED_LANES: "lock_enabled_lanes",
    INSERT_SIGNALS: "insert_signals",
    FIND_SIGNALS: "find_signals",
    INSERT_EVENTS: "insert_events",
}
"""Name of each statement, for metrics."""


@dataclass(frozen=True, slots=True)
class PublishedBatch:
    """The result of a committed batch of signals.

    `results` has, for each signal, the number of its events or an error. `lanes` is the number of lanes with new
    events. `claimed` has the lanes that this process has claimed in the same transaction, and `rows` has their events.
    """

    results: list[int | QuotingError]
    lanes: int
    claimed: Sequence[ClaimedLane]
    rows: Sequence[asyncpg.Record]


async def publish(
    connection: Connection,
    signals: Sequence[EngineSignal],
    reserve_room: Callable[[Sequence[tuple[int, UUID]]], Sequence[int]],
    holder: str,
) -> PublishedBatch:
    """Store signals and their events. `reserve_room` returns which of the lanes this process may claim at once."""
    ids = list({each.strategy_id for each in signals})
    names = {row["id"]: row["name"] for row in await connection.fetch(STRATEGY_NAMES, ids)}
    lanes: dict[str, list[tuple[int, UUID]]] = {each: [] for each in names}
    for row in await connection.fetch(LOCK_ENABLED_LANES, ids):
        lanes[row["strategy_id"]].append((row["id"], row["integration_id"]))
    known = [each for each in signals if each.strategy_id in names]
    inserted = await connection.fetch(
        INSERT_SIGNALS,
        [each.strategy_id for each in known],
        [each.signal_id for each in known],
        [each.fingerprint() for each in known],
        [len(lanes[each.strategy_id]) for each in known],
    )
    new = {(row["strategy_id"], row["signal_id"]) for row in inserted}
    first = {each.key: each for each in reversed(known) if each.key in new}
    with_events = [each for each in known if first.get(each.key) is each and lanes[each.strategy_id]]
    target_lanes = [lane for id_ in {each.strategy_id for each in with_events} for lane in lanes[id_]]
    token = new_token()
    rows: Sequence[asyncpg.Record] = ()
    if with_events:
        types = [each.event_type for each in with_events]
        rows = await connection.fetch(
            INSERT_EVENTS,
            [lane for lane, _ in target_lanes],
            [each.strategy_id for each in with_events],
            types,
            [each.data(names[each.strategy_id]) for each in with_events],
            [LIFETIME_SECONDS[each] for each in types],
            reserve_room(target_lanes),
            token,
            LEASE_SECONDS,
            holder,
            [each.trace_id for each in with_events],
        )
    stored = {key: (each.fingerprint(), len(lanes[each.strategy_id])) for key, each in first.items()}
    repeated = [each.key for each in known if each.key not in new]
    if repeated:
        found = await connection.fetch(FIND_SIGNALS, *map(list, zip(*repeated, strict=True)))
        stored |= {
            (row["strategy_id"], row["signal_id"]): (row["fingerprint"], row["events"]) for row in found
        }
    claimed = {row["lane_id"]: claimed_lane(row["lane_id"], token, row) for row in rows}
    results = [_result(each, stored) for each in signals]
    return PublishedBatch(results, len(target_lanes), list(claimed.values()), rows)


def _result(signal: EngineSignal, stored: Mapping[tuple[str, str], tuple[bytes, int]]) -> int | QuotingError:
    if signal.key not in stored:
        return NotFoundError("There is no such strategy. Create it with PUT /v1/strategies/{id} first.")
    fingerprint, events = stored[signal.key]
    if fingerprint != signal.fingerprint():
        return ConflictError("The signalId was used for another signal. Use a new signalId for each signal.")
    return events
