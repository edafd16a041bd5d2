"""What is forgotten after a while: events that are done, notifications, signals, refused requests.

Not so the last sign of a position that may be open at the other end of an integration that lives.
"""

from typing import Final

from chassis.database import Database

ROWS: Final = 500

_OLD: Final = "created < clock_timestamp() - make_interval(secs => $1 * 86400.0)"

_OPENING: Final = "IN ('SIGNAL_OPEN', 'SIGNAL_REOPEN')"

# who deletes the integration is told of this position, however long ago it was opened
_MAY_BE_OPEN: Final = f"""(
    e.type {_OPENING} AND e.tries > 0 AND e.state <> 'REFUSED' AND NOT EXISTS (
        SELECT FROM event n WHERE n.lane_id = e.lane_id AND (n.seq, n.take) > (e.seq, e.take) AND (
            n.type = 'SIGNAL_CLOSE' AND n.state = 'DELIVERED'
            OR n.type {_OPENING} AND n.tries > 0 AND n.state <> 'REFUSED'
        )
    )
)"""

# without it what it closed would seem to be open: it goes after that
_CLOSES: Final = f"""(
    e.type = 'SIGNAL_CLOSE' AND e.state = 'DELIVERED' AND EXISTS (
        SELECT FROM event b WHERE b.lane_id = e.lane_id AND (b.seq, b.take) < (e.seq, e.take) AND b.type {_OPENING}
    )
)"""

STATEMENTS: Final = (
    # rows of one event are far apart: what is deleted is found by its place in the table
    f"""
    DELETE FROM event WHERE ctid = ANY(ARRAY(
        SELECT e.ctid FROM event e
            JOIN lane l ON l.id = e.lane_id JOIN integration i ON i.id = e.integration_id
        WHERE e.{_OLD} AND e.state <> 'WAITING' AND e.seq <= l.done_seq
            AND NOT (i.state IN ('APPROVED', 'PAUSED') AND ({_MAY_BE_OPEN} OR {_CLOSES}))
        LIMIT {ROWS}
    )) RETURNING 1
    """,
    f"DELETE FROM notification WHERE ctid = ANY(ARRAY(SELECT ctid FROM notification WHERE {_OLD} LIMIT {ROWS})) RETURNING 1",
    f"DELETE FROM signal WHERE ctid = ANY(ARRAY(SELECT ctid FROM signal WHERE {_OLD} LIMIT {ROWS})) RETURNING 1",
    f"""
    DELETE FROM integration WHERE id = ANY(ARRAY(
        SELECT i.id FROM integration i
        WHERE i.{_OLD} AND i.state IN ('PENDING', 'REJECTED', 'DELETED')
            AND NOT EXISTS (SELECT FROM event e WHERE e.integration_id = i.id)
        LIMIT {ROWS} FOR UPDATE OF i SKIP LOCKED
    )) RETURNING 1
    """,
)


async def sweep(database: Database, days: float) -> bool:
    """One small batch of each; whether there may be more."""
    counts = [len(await database.fetch(statement, days)) for statement in STATEMENTS]
    return max(counts) >= ROWS
