"""Figures for `/metrics` that a service has to wait for, for example because they are in the database."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import asyncpg

from chassis.errors import QuotingError

MAX_SECONDS: Final = 1.0
"""Maximum time for all measurements. `/metrics` leaves out a figure that is not measured by then."""
PAUSES: Final = 20

Measure = Callable[[], Awaitable[None]]
"""Measures a figure and stores it for the next collection. If it fails or is cancelled, it stores none."""


class Measurements:
    """Measures figures at the same time, once for all collections that wait."""

    def __init__(self) -> None:
        self._all: list[Measure] = []
        self._taking: asyncio.Task[None] | None = None

    def add(self, measure: Measure) -> None:
        self._all.append(measure)

    async def take(self) -> None:
        """Return when all figures are measured, or after MAX_SECONDS."""
        if self._taking is None or self._taking.done():
            self._taking = asyncio.create_task(self._take())
        # if one of the clients that wait closes its connection, the others still wait
        await asyncio.shield(self._taking)

    async def _take(self) -> None:
        tasks = [asyncio.ensure_future(_measured(each)) for each in self._all]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=MAX_SECONDS)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)


def seldom(measure: Measure) -> Measure:
    """Return a function that calls `measure`, and then keeps its figures for PAUSES times the time that it took."""
    not_before = 0.0

    async def measure_if_due() -> None:
        nonlocal not_before
        began = time.monotonic()
        if began >= not_before:
            await measure()
            not_before = began + PAUSES * (time.monotonic() - began)

    return measure_if_due


async def _measured(measure: Measure) -> None:
    with suppress(QuotingError, asyncpg.PostgresError):  # the readiness check says that the database is away
        await measure()
