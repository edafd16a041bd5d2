"""Users' notifications: store them, list them, and stream new ones to open clients."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.database import Connection, Database
from chassis.errors import TooManyRequestsError
from chassis.users import key_of
from integrations.timestamps import iso

CHANNEL: Final = "integrations"
NOTIFICATIONS_STORED: Final = "told"
"""Message on CHANNEL which says that new notifications are stored.

Do not change it: other versions of the service read it, too.
"""

MAX_ROWS: Final = 100
MAX_STREAMS: Final = 500
MAX_STREAMS_PER_USER: Final = 10
POLL_SECONDS: Final = 5.0

# streams continue from the last id that they have seen, so ids must be in the order of commits
SERIALISE: Final = "SELECT pg_advisory_xact_lock(hashtext('integrations.notification'))"

INSERT: Final = """
INSERT INTO notification (user_email, integration_id, event_id, type, text)
SELECT i.user_email, n.integration_id, n.event_id, n.type, n.text
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY
    AS n (integration_id, event_id, type, text, position)
JOIN integration i ON i.id = n.integration_id
ORDER BY n.position
"""

NOTIFY: Final = "SELECT pg_notify($1, $2)"

_COLUMNS: Final = "id, integration_id, event_id, type, text, created"

LATEST: Final = f"""
SELECT {_COLUMNS} FROM notification
WHERE lower(user_email) = lower($1) AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3
"""

AFTER: Final = f"""
SELECT {_COLUMNS} FROM notification WHERE lower(user_email) = lower($1) AND id > $2 ORDER BY id LIMIT $3
"""

NEWEST: Final = "SELECT coalesce(max(id), 0) AS id FROM notification WHERE lower(user_email) = lower($1)"

HasGone = Callable[[], bool]
"""Function that returns whether the client of a stream has closed its connection."""


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification for the integration's user. `type` is an error type, or another word such as "Paused"."""

    integration_id: UUID
    event_id: UUID | None
    type: str
    text: str


async def insert_notifications(connection: Connection, notifications: Sequence[Notification]) -> None:
    """Store notifications. Call this last in a transaction, because it locks out all other writers of notifications."""
    await connection.execute(SERIALISE)
    await connection.execute(
        INSERT,
        [each.integration_id for each in notifications],
        [each.event_id for each in notifications],
        [each.type for each in notifications],
        [each.text for each in notifications],
    )
    await connection.execute(NOTIFY, CHANNEL, NOTIFICATIONS_STORED)


class NotificationFeed:
    """Reads the table ``notification``, and serves the open streams of clients."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stored = asyncio.Event()
        self._streams: dict[str, list[HasGone]] = {}

    def wake(self) -> None:
        """Make open streams read the table, because new notifications were committed."""
        self._stored.set()
        self._stored = asyncio.Event()

    def has_stream(self, user: str) -> bool:
        return key_of(user) in self._streams

    async def latest(self, user: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """Return the user's newest notifications, the newest first; with `before`, only those with a smaller id."""
        return [_as_json(row) for row in await self._database.fetch(LATEST, key_of(user), before, limit)]

    @asynccontextmanager
    async def stream(
        self, user: str, after: int | None, has_gone: HasGone
    ) -> AsyncIterator[AsyncIterator[list[dict[str, Any]]]]:
        """Yield a stream of the user's notifications with an id above `after`; without `after`, only of new ones.

        The stream yields lists of notifications; the list is empty if none came for POLL_SECONDS. Raises
        TooManyRequestsError if too many streams are open; streams whose client has gone do not count.
        """
        user = key_of(user)
        if self._count(user) >= MAX_STREAMS_PER_USER or sum(map(self._count, self._streams)) >= MAX_STREAMS:
            raise TooManyRequestsError(
                f"Too many notification streams are open; a user may have {MAX_STREAMS_PER_USER}. Close one, or retry.",
                retry_after=5,
            )
        own = self._streams.setdefault(user, [])
        own.append(has_gone)
        try:
            if after is None:
                after = (await self._database.fetch(NEWEST, user))[0]["id"]
            yield self._after(user, after)
        finally:
            own.remove(has_gone)
            if not own:
                del self._streams[user]

    def _count(self, user: str) -> int:
        return sum(not has_gone() for has_gone in self._streams.get(user, ()))

    async def _after(self, user: str, last: int) -> AsyncIterator[list[dict[str, Any]]]:
        while True:
            stored = self._stored
            rows = await self._database.fetch(AFTER, user, last, MAX_ROWS)
            last = rows[-1]["id"] if rows else last
            yield [_as_json(row) for row in rows]
            if len(rows) < MAX_ROWS:
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await stored.wait()
                except TimeoutError:
                    continue


def _as_json(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "created": iso(row["created"]),
        "type": row["type"],
        "text": row["text"],
        "integrationId": str(row["integration_id"]),
        "eventId": row["event_id"] and str(row["event_id"]),
    }
