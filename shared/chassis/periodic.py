"""Work that a service repeats for as long as it runs, such as retention."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from chassis.errors import QuotingError, cause_of

PAUSE_SECONDS: Final = 0.01
"""Between two steps of one run, so that requests have their turn."""


@asynccontextmanager
async def periodically(
    name: str, every_seconds: float, step: Callable[[], Awaitable[bool]], on_fault: Callable[..., object]
) -> AsyncIterator[None]:
    """Run `step` every `every_seconds`, again and again while it returns True, until the context ends.

    `on_fault(name, cause=...)` gets an error of the database; the next run comes in its time.
    """
    task = asyncio.create_task(_repeat(name, every_seconds, step, on_fault))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(
    name: str, every_seconds: float, step: Callable[[], Awaitable[bool]], on_fault: Callable[..., object]
) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            while await step():
                await asyncio.sleep(PAUSE_SECONDS)
        except (QuotingError, asyncpg.PostgresError) as error:
            on_fault(name, cause=cause_of(error))
