"""Actions of operators on the console. The log has all of them, the console's Postgres the newest ones."""

from collections.abc import Mapping
from typing import Any, Final

from chassis.database import Database

MAX_ROWS: Final = 10_000
SHOWN: Final = 50

_INSERT: Final = f"""
WITH added AS (
    INSERT INTO action (caller, action, subject, trace_id) VALUES ($1, $2, $3, $4) RETURNING id
)
DELETE FROM action USING added WHERE action.id <= added.id - {MAX_ROWS}
"""  # noqa: S608 - a number
_LATEST: Final = "SELECT at, caller, action, subject, trace_id FROM action ORDER BY id DESC LIMIT $1"


async def store_action(
    database: Database, caller: str, action: str, subject: Mapping[str, str], trace_id: str
) -> None:
    """Store an action, and delete the actions before the newest MAX_ROWS. Raises UnavailableError."""
    text = ", ".join(f"{name} {value}" for name, value in subject.items())
    await database.fetch(_INSERT, caller, action, text, trace_id)


async def latest_actions(database: Database) -> list[Mapping[str, Any]]:
    """Return the newest actions, the newest first. Raises UnavailableError."""
    return [dict(row) for row in await database.fetch(_LATEST, SHOWN)]
