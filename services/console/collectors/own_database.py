"""The console's own Postgres: whether it can be used, and whether it was restarted."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg

from chassis.database import Database
from chassis.errors import QuotingError
from console.collectors.look import LOOK_SECONDS

_STARTED: Final = "SELECT pg_postmaster_start_time() AS started"


class OwnDatabase:
    """Looks at the console's own Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._started: datetime | None = None
        self.lacks: Sequence[str] = ()
        self.restarted_at: float | None = None
        """The time when Postgres was found restarted, in seconds since 1970; None if it was not."""

    async def look(self) -> None:
        """Look at the database once. Raises nothing."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                self.lacks = await self._database.missing()
                if not self.lacks:
                    await self._read_start()
        except TimeoutError:
            self.lacks = ["database: it does not answer"]
        except (QuotingError, asyncpg.PostgresError):
            self.lacks = ["database"]

    async def _read_start(self) -> None:
        started = (await self._database.fetch(_STARTED))[0]["started"]
        if self._started not in {None, started}:
            self.restarted_at = time.time()
        self._started = started
