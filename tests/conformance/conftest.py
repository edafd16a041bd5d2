"""Fixtures: our own services, each as the kit sees it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from chassis import password_queue, users, users_file
from dfsp_quotes.conformance import Clock
from support.payee import FakeClock
from support.settings import CHEAP_HASHER


@pytest.fixture(scope="module", autouse=True)
def _cheap_hashes():
    """Wrong passwords do not wait for expensive hashes."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (users, users_file, password_queue):
            patch.setattr(module, "HASHER", CHEAP_HASHER)
        yield


class DatabaseClock(Clock):
    """The clock of the kit and of the database: it stands still until the kit waits."""

    def __init__(self, fake: FakeClock) -> None:
        self._fake = fake
        self._now = datetime.now(UTC)

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, when: datetime) -> None:
        await self.set(max(when, self._now))

    async def set(self, when: datetime) -> None:
        self._now = when
        await self._fake.set(when.isoformat())


@pytest.fixture
async def clock(database_url) -> AsyncIterator[DatabaseClock]:
    """Requested before the payee: the clock of its database and of the kit is the same, and stands still."""
    connection = await asyncpg.connect(database_url)
    fake = FakeClock(connection)
    await fake.install()
    made = DatabaseClock(fake)
    await made.set(made.now())
    yield made
    await fake.remove()
    await connection.close()
