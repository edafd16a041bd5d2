"""The watched services: the console looks at all of them at regular intervals, and keeps the results.

While somebody looks at the console it does so every 1.5 seconds, else every ten.
"""

import asyncio
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from console.collectors.ledger import Ledger
from console.collectors.look import LOOK_SECONDS, Health, Look, look_at
from console.collectors.own_database import OwnDatabase
from console.collectors.problems import Own, ProblemLog, find_problems
from console.collectors.quote_counts import QuoteCounts, count_quotes
from console.collectors.service_client import ServiceClient
from console.collectors.service_record import POINT_SECONDS, ServiceRecord

EVERY_SECONDS: Final = 1.5
UNATTENDED_EVERY_SECONDS: Final = 10.0
ATTENDED_SECONDS: Final = 15.0
"""Seconds for which a page counts as open after it has requested figures."""
FRESH_SECONDS: Final = 2.5
MIN_PAUSE_SECONDS: Final = 0.1


class Fleet:
    """Looks at every service; `ticked` waits for the end of the next round."""

    def __init__(self, client: ServiceClient, own_database: OwnDatabase, own_folder: Path | None) -> None:
        """The console watches the free space of the disk that has `own_folder`."""
        self.client = client
        self.records = {
            name: ServiceRecord(name, service.origin) for name, service in client.services.items()
        }
        self.ledger = Ledger()
        self.began = time.time()
        self.looked_at = 0.0
        """Time of the end of the last round, in seconds since 1970; 0 before the first."""
        self.problems = ProblemLog()
        self.quotes: QuoteCounts | None = None
        """The last counts, which may be old: there are no new ones while the payee's database is away."""
        self._own_database = own_database
        self._own_folder = own_folder
        self._attended_until = 0.0
        self._next_point = 0.0
        self._tick = asyncio.Event()
        self._wanted = asyncio.Event()

    async def run(self) -> None:
        """Look at the services until the task is cancelled."""
        while True:
            began = time.monotonic()
            await self._look()
            self._tick.set()
            self._tick = asyncio.Event()
            is_attended = time.monotonic() < self._attended_until
            pause = (EVERY_SECONDS if is_attended else UNATTENDED_EVERY_SECONDS) - (time.monotonic() - began)
            self._wanted.clear()
            await self._pause(max(pause, MIN_PAUSE_SECONDS))

    async def ticked(self) -> None:
        """Wait until the console has looked at all services again, which takes about 1.5 seconds."""
        self.attend()
        await self._tick.wait()

    async def fresh(self) -> None:
        """Wait until the figures are fresh, but no longer than one look may take."""
        self.attend()
        if time.time() - self.looked_at > FRESH_SECONDS:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._tick.wait()

    def attend(self) -> None:
        """Look every 1.5 seconds for a while, because somebody looks at the console."""
        now = time.monotonic()
        if now >= self._attended_until:
            self.look_now()
        self._attended_until = now + ATTENDED_SECONDS

    def look_now(self) -> None:
        """End the pause before the next round."""
        self._wanted.set()

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wanted.wait()

    async def _look(self) -> None:
        await asyncio.gather(
            self._own_database.look(), *(self._look_at_service(record) for record in self.records.values())
        )
        now = time.time()
        for record in self.records.values():
            self.ledger.add(record.name, record.last_windows(), now)
        if time.monotonic() >= self._next_point:
            self._next_point = time.monotonic() + POINT_SECONDS
            for record in self.records.values():
                record.add_point(now)
        own = Own(self._own_database.lacks, self._own_database.restarted_at, *self._disk())
        usual = self.ledger.usual_errors(now)
        self.problems.update(find_problems(self.records.values(), own, usual, now), now)
        self.quotes = count_quotes(self.records.values()) or self.quotes
        self.looked_at = now

    def _disk(self) -> tuple[int | None, int | None]:
        """Return the free bytes and the size of the disk of the console's log."""
        if self._own_folder is not None:
            with suppress(OSError):
                usage = shutil.disk_usage(self._own_folder)
                return usage.free, usage.total
        return None, None

    async def _look_at_service(self, record: ServiceRecord) -> None:
        replicas = await self.client.replicas(record.name)
        if replicas:
            record.add(await asyncio.gather(*(look_at(self.client, replica) for replica in replicas)))
        else:
            unresolved = Look(
                record.origin, time.time(), Health.AWAY, ("the service's name cannot be resolved",)
            )
            record.add([unresolved])
