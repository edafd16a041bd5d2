"""The clock of the kit. Tests replace it, so that no test waits."""

import asyncio
from datetime import UTC, datetime


class Clock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present time, in UTC."""
        return datetime.now(UTC)

    async def sleep_until(self, when: datetime) -> None:
        """Return when the clock shows `when` or later."""
        while (seconds := (when - self.now()).total_seconds()) > 0:
            await asyncio.sleep(seconds)
