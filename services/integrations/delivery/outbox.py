"""Put events into lanes, and cancel events, in the transaction that also stores the cause of the events.

The caller has begun this transaction and has locked the integration. So an event and its cause are committed together,
or neither is.
"""

from typing import Final
from uuid import UUID

import msgspec

from chassis.database import Connection
from integrations.delivery.queue import replace_by_closes
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.events import OPENING_SIGNALS, EventType, SignalData, StrategyData, signal_data
from integrations.notifications import CHANNEL, NOTIFY

WORK_READY: Final = "ready"

_MS: Final = "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

APPEND: Final = f"""
WITH l AS (
    INSERT INTO lane AS l (integration_id, strategy_id, is_enabled, last_seq) VALUES ($1, $2, $3, 1)
    ON CONFLICT (integration_id, strategy_id)
    DO UPDATE SET last_seq = l.last_seq + 1, is_enabled = $3 WHERE NOT (l.is_enabled AND $3)
    RETURNING id, last_seq
)
INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, data, expires)
SELECT l.id, l.last_seq, $1, $4, {_MS}, $5, clock_timestamp() + make_interval(secs => $6) FROM l
RETURNING id
"""

LOCK_ENABLED: Final = """
SELECT l.id, l.strategy_id, l.done_seq, s.name FROM lane l JOIN strategy s ON s.id = l.strategy_id
WHERE l.integration_id = $1 AND l.is_enabled AND ($2::text IS NULL OR l.strategy_id = $2)
ORDER BY l.id FOR NO KEY UPDATE OF l
"""

LOCK_ALL: Final = """
SELECT id, done_seq FROM lane WHERE integration_id = $1 ORDER BY id FOR NO KEY UPDATE
"""

CANCEL: Final = """
UPDATE event AS e SET state = 'CANCELLED' FROM lane l
WHERE l.id = ANY($1::bigint[]) AND e.lane_id = l.id AND e.seq > l.done_seq AND e.state = 'WAITING'
    AND ($2::text[] IS NULL OR e.type = ANY($2))
RETURNING e.lane_id, e.seq, e.type, e.timestamp_ms, e.data
"""

# a lane whose first event waited for its retry and is now cancelled is due at once
DISABLE: Final = """
UPDATE lane SET is_enabled = false, changes = changes + 1,
    due = CASE WHEN id = ANY($2::bigint[]) AND NOT is_held THEN '-infinity' ELSE due END
WHERE id = ANY($1::bigint[])
"""

APPEND_TO: Final = f"""
WITH l AS (
    UPDATE lane SET last_seq = last_seq + 1 WHERE id = ANY($1::bigint[])
    RETURNING id, last_seq, integration_id
)
INSERT INTO event (lane_id, seq, integration_id, type, timestamp_ms, data, expires)
SELECT l.id, l.last_seq, l.integration_id, $3, {_MS}, r.data, clock_timestamp() + make_interval(secs => $4)
FROM l JOIN unnest($1::bigint[], $2::text[]) AS r (id, data) ON r.id = l.id
"""

COUNT_CHANGE: Final = "UPDATE lane SET changes = changes + 1 WHERE integration_id = $1"

# Openings that were sent, or may be in flight, after the last CLOSE that is known to be delivered. In a lane that is
# held, the first waiting opening may be in flight, as the results before it may not be committed yet.
MAY_BE_OPEN: Final = """
SELECT DISTINCT ON (e.lane_id) e.data FROM event e JOIN lane l ON l.id = e.lane_id
WHERE l.integration_id = $1 AND e.type IN ('SIGNAL_OPEN', 'SIGNAL_REOPEN')
    AND (e.tries > 0 AND e.state <> 'REFUSED' OR (
        e.state = 'WAITING' AND l.is_held AND l.due > clock_timestamp() AND NOT EXISTS (
            SELECT FROM event b WHERE b.lane_id = e.lane_id AND b.state = 'WAITING' AND b.seq > l.done_seq
                AND b.type IN ('SIGNAL_OPEN', 'SIGNAL_REOPEN') AND (b.seq, b.take) < (e.seq, e.take)
        )
    ))
    AND NOT EXISTS (
        SELECT FROM event c WHERE c.lane_id = e.lane_id AND (c.seq, c.take) > (e.seq, e.take)
            AND c.type = 'SIGNAL_CLOSE' AND c.state = 'DELIVERED'
    )
ORDER BY e.lane_id, e.seq DESC, e.take DESC
"""


async def append(connection: Connection, integration_id: UUID, type_: EventType) -> None:
    """Append an INTEGRATION_* event."""
    await connection.execute(APPEND, integration_id, "", False, type_, None, LIFETIME_SECONDS[type_])


async def enable(connection: Connection, integration_id: UUID, strategy: StrategyData) -> None:
    """Enable the integration for a strategy and append STRATEGY_ENABLED. Does nothing if it is enabled already."""
    type_ = EventType.STRATEGY_ENABLED
    data = msgspec.json.encode(strategy).decode()
    await connection.execute(APPEND, integration_id, strategy.id, True, type_, data, LIFETIME_SECONDS[type_])


async def disable(connection: Connection, integration_id: UUID, strategy_id: str | None = None) -> None:
    """Disable the integration for one strategy; without `strategy_id`, for all. Appends STRATEGY_DISABLED.

    Waiting OPENs are cancelled, and a waiting REOPEN is replaced by a CLOSE. Waiting CLOSEs are still sent.
    """
    lanes = await connection.fetch(LOCK_ENABLED, integration_id, strategy_id)
    if not lanes:
        return
    cancelled = await connection.fetch(CANCEL, [row["id"] for row in lanes], list(OPENING_SIGNALS))
    await replace_by_closes(
        connection,
        [
            (row["lane_id"], row["seq"], row["timestamp_ms"], row["data"])
            for row in cancelled
            if row["type"] == EventType.SIGNAL_REOPEN
        ],
    )
    heads = {(row["id"], row["done_seq"] + 1) for row in lanes}
    due = [row["lane_id"] for row in cancelled if (row["lane_id"], row["seq"]) in heads]
    await connection.execute(DISABLE, [row["id"] for row in lanes], due)
    strategies = [
        msgspec.json.encode(StrategyData(row["strategy_id"], row["name"])).decode() for row in lanes
    ]
    type_ = EventType.STRATEGY_DISABLED
    await connection.execute(
        APPEND_TO, [row["id"] for row in lanes], strategies, type_, LIFETIME_SECONDS[type_]
    )
    await notify_changed(connection, integration_id)


async def delete(connection: Connection, integration_id: UUID) -> list[SignalData]:
    """Cancel all waiting events and append INTEGRATION_DELETED.

    Returns signals whose positions may still be open at the partner.
    """
    lanes = [row["id"] for row in await connection.fetch(LOCK_ALL, integration_id)]
    positions = await connection.fetch(MAY_BE_OPEN, integration_id)
    await connection.execute(CANCEL, lanes, None)
    await connection.execute(DISABLE, lanes, lanes)
    await append(connection, integration_id, EventType.INTEGRATION_DELETED)
    await notify_changed(connection, integration_id)
    return [signal_data(row["data"]) for row in positions]


async def notify_changed(connection: Connection, integration_id: UUID) -> None:
    """Notify all processes, at the commit, that their workers must read the integration's waiting events again."""
    await connection.execute(NOTIFY, CHANNEL, str(integration_id))


async def notify_work_ready(connection: Connection) -> None:
    """Notify all processes, at the commit, that there is new work for their workers."""
    await connection.execute(NOTIFY, CHANNEL, WORK_READY)


async def renew_secrets(connection: Connection, integration_id: UUID) -> None:
    """Make workers use the integration's new signing secret after the commit."""
    await connection.execute(COUNT_CHANGE, integration_id)
    await notify_changed(connection, integration_id)
