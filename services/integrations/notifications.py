"""Notifications as users read them: the latest, and as they come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from chassis.database import Database
from chassis.errors import TooManyRequestsError
from integrations.timestamps import iso

MAX_AT_ONCE: Final = 100
MAX_STREAMS: Final = 500
MAX_STREAMS_OF_ONE: Final = 10
LOOK_SECONDS: Final = 5.0

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


class NotificationFeed:
    """The table ``notification``, and who waits for more of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pulse = asyncio.Event()
        self._open: dict[str, list[HasGone]] = {}

    def pulse(self) -> None:
        """There are new ones, committed."""
        self._pulse.set()
        self._pulse = asyncio.Event()

    async def latest(self, user: str, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The newest first."""
        return [_told(row) for row in await self._database.fetch(LATEST, user, before, limit)]

    @asynccontextmanager
    async def stream(
        self, user: str, after: int | None, has_gone: HasGone
    ) -> AsyncIterator[AsyncIterator[list[dict[str, Any]]]]:
        """What comes after the id `after`, or from now on; every five seconds nothing, where nothing comes.

        A stream whose reader `has_gone` counts no more, though that shows in a write only later.
        Raises TooManyRequestsError where too many streams are open.
        """
        if self._count(user) >= MAX_STREAMS_OF_ONE or sum(map(self._count, self._open)) >= MAX_STREAMS:
            raise TooManyRequestsError("Too many streams are open.", retry_after=5)
        own = self._open.setdefault(user, [])
        own.append(has_gone)
        try:
            if after is None:
                after = (await self._database.fetch(NEWEST, user))[0]["id"]
            yield self._after(user, after)
        finally:
            own.remove(has_gone)
            if not own:
                del self._open[user]

    def _count(self, user: str) -> int:
        return sum(not has_gone() for has_gone in self._open.get(user, ()))

    async def _after(self, user: str, last: int) -> AsyncIterator[list[dict[str, Any]]]:
        while True:
            pulse = self._pulse
            rows = await self._database.fetch(AFTER, user, last, MAX_AT_ONCE)
            last = rows[-1]["id"] if rows else last
            yield [_told(row) for row in rows]
            if len(rows) < MAX_AT_ONCE:
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await pulse.wait()
                except TimeoutError:
                    continue


def _told(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "id": row["id"],
        "created": iso(row["created"]),
        "type": row["type"],
        "text": row["text"],
        "integrationId": str(row["integration_id"]),
        "eventId": row["event_id"] and str(row["event_id"]),
    }
