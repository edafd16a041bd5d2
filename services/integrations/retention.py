"""Delete old data: finished events, notifications, signals, and integrations that are not in use.

Such integrations were rejected, deleted or never approved. The event that opened a position is kept until a CLOSE of
the position is delivered or the integration is deleted.
"""

from typing import Final

from chassis.database import Database

EVERY_SECONDS: Final = 60.0
MAX_ROWS: Final = 500

_OLD: Final = "created < clock_timestamp() - make_interval(secs => $1 * 86400.0)"

_OPENING: Final = "IN ('SIGNAL_OPEN', 'SIGNAL_REOPEN')"

# a user who deletes the integration must be notified of this position, however long ago it was opened
_MAY_BE_OPEN: Final = f"""(
    e.type {_OPENING} AND e.tries > 0 AND e.state <> 'REFUSED' AND NOT EXISTS (
        SELECT FROM event n WHERE n.lane_id = e.lane_id AND (n.seq, n.take) > (e.seq, e.take) AND (
            n.type = 'SIGNAL_CLOSE' AND n.state = 'DELIVERED'
            OR n.type {_OPENING} AND n.tries > 0 AND n.state <> 'REFUSED'
        )
    )
)"""

# a CLOSE is deleted after the event that opened its position; otherwise the position would seem to be open
_CLOSES: Final = f"""(
    e.type = 'SIGNAL_CLOSE' AND e.state = 'DELIVERED' AND EXISTS (
        SELECT FROM event b WHERE b.lane_id = e.lane_id AND (b.seq, b.take) < (e.seq, e.take) AND b.type {_OPENING}
    )
)"""

STATEMENTS: Final = (
    # by ctid, as the rows of one event are far apart in the table
    f"""
    DELETE FROM event WHERE ctid = ANY(ARRAY(
        SELECT e.ctid FROM event e
            JOIN lane l ON l.id = e.lane_id JOIN integration i ON i.id = e.integration_id
        WHERE e.{_OLD} AND e.state <> 'WAITING' AND e.seq <= l.done_seq
            AND NOT (i.state IN ('APPROVED', 'PAUSED') AND ({_MAY_BE_OPEN} OR {_CLOSES}))
        LIMIT {MAX_ROWS}
    )) RETURNING 1
    """,
    f"DELETE FROM notification WHERE ctid = ANY(ARRAY(SELECT ctid FROM notification WHERE {_OLD} LIMIT {MAX_ROWS})) RETURNING 1",
    f"DELETE FROM signal WHERE ctid = ANY(ARRAY(SELECT ctid FROM signal WHERE {_OLD} LIMIT {MAX_ROWS})) RETURNING 1",
    f"""
    DELETE FROM integration WHERE id = ANY(ARRAY(
        SELECT i.id FROM integration i
        WHERE i.{_OLD} AND i.state IN ('PENDING', 'REJECTED', 'DELETED')
            AND NOT EXISTS (SELECT FROM event e WHERE e.integration_id = i.id)
        LIMIT {MAX_ROWS} FOR UPDATE OF i SKIP LOCKED
    )) RETURNING 1
    """,
)


async def delete_old(database: Database, days: float) -> bool:
    """Delete a small batch of rows older than `days` from each table. Return whether more such rows may be left."""
    counts = [len(await database.fetch(statement, days)) for statement in STATEMENTS]
    return max(counts) >= MAX_ROWS
