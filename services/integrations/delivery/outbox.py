"""What business transactions put into lanes, and take out of them: no event without its cause.

All of it goes through a connection on which the caller has begun a transaction and locked the integration.
"""

from typing import Final
from uuid import UUID

import msgspec

from chassis.database import Connection
from integrations.delivery.queue import replace
from integrations.events import LIVES_SECONDS, OPENING, EventType, SignalData, StrategyData
from integrations.notification_texts import CHANNEL, NOTIFY

READY: Final = "ready"

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

# where what waited for its retry is gone, what comes after it need not wait for that
CHANGE: Final = """
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

ALARM: Final = "UPDATE lane SET changes = changes + 1 WHERE integration_id = $1"

# What was sent, or may be being sent, since the last position that is known to have been closed: in a lane that is
# held the first opening that waits, as answers to what comes before it may not be committed yet.
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
    """An INTEGRATION_* event."""
    await connection.execute(APPEND, integration_id, "", False, type_, None, LIVES_SECONDS[type_])


async def enable(connection: Connection, integration_id: UUID, strategy: StrategyData) -> bool:
    """Signals of the strategy go to the integration from now on; whether they did not do so before."""
    type_ = EventType.STRATEGY_ENABLED
    data = msgspec.json.encode(strategy).decode()
    rows = await connection.fetch(
        APPEND, integration_id, strategy.id, True, type_, data, LIVES_SECONDS[type_]
    )
    return bool(rows)


async def disable(connection: Connection, integration_id: UUID, strategy_id: str | None = None) -> bool:
    """Ends signals of one strategy, or of all: OPENs that wait are cancelled, CLOSEs still go out.

    Whether there was anything to end.
    """
    lanes = await connection.fetch(LOCK_ENABLED, integration_id, strategy_id)
    if not lanes:
        return False
    cancelled = await connection.fetch(CANCEL, [row["id"] for row in lanes], list(OPENING))
    await replace(
        connection,
        [
            (row["lane_id"], row["seq"], row["timestamp_ms"], row["data"])
            for row in cancelled
            if row["type"] == EventType.SIGNAL_REOPEN
        ],
    )
    heads = {(row["id"], row["done_seq"] + 1) for row in lanes}
    free = [row["lane_id"] for row in cancelled if (row["lane_id"], row["seq"]) in heads]
    await connection.execute(CHANGE, [row["id"] for row in lanes], free)
    datas = [msgspec.json.encode(StrategyData(row["strategy_id"], row["name"])).decode() for row in lanes]
    type_ = EventType.STRATEGY_DISABLED
    await connection.execute(APPEND_TO, [row["id"] for row in lanes], datas, type_, LIVES_SECONDS[type_])
    await alarm(connection, integration_id)
    return True


async def end(connection: Connection, integration_id: UUID) -> list[SignalData]:
    """Cancels all that waits, and sends INTEGRATION_DELETED; the positions that may stay open."""
    lanes = [row["id"] for row in await connection.fetch(LOCK_ALL, integration_id)]
    open_ones = await connection.fetch(MAY_BE_OPEN, integration_id)
    await connection.execute(CANCEL, lanes, None)
    await connection.execute(CHANGE, lanes, lanes)
    await append(connection, integration_id, EventType.INTEGRATION_DELETED)
    await alarm(connection, integration_id)
    return [msgspec.json.decode(row["data"], type=SignalData) for row in open_ones]


async def alarm(connection: Connection, integration_id: UUID) -> None:
    """Tells workers, once this is committed, to read again what waits for this integration."""
    await connection.execute(NOTIFY, CHANNEL, str(integration_id))


async def ready(connection: Connection) -> None:
    """Tells workers of other processes, once this is committed, that there is work."""
    await connection.execute(NOTIFY, CHANNEL, READY)


async def renew(connection: Connection, integration_id: UUID) -> None:
    """Has workers take over the integration's changed secrets."""
    await connection.execute(ALARM, integration_id)
    await alarm(connection, integration_id)
