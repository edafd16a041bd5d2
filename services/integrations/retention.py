"""What is forgotten after a while: events that are done, notifications, signals, refused requests."""

from typing import Final

from chassis.database import Database

ROWS: Final = 500

_OLD: Final = "created < clock_timestamp() - make_interval(secs => $1 * 86400.0)"

STATEMENTS: Final = (
    # rows of one event are far apart: what is deleted is found by its place in the table
    f"""
    DELETE FROM event WHERE ctid = ANY(ARRAY(
        SELECT e.ctid FROM event e JOIN lane l ON l.id = e.lane_id
        WHERE e.{_OLD} AND e.state <> 'WAITING' AND e.seq <= l.done_seq LIMIT {ROWS}
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
