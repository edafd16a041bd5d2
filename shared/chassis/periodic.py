"""Work that a service repeats until it stops, for example retention."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import asyncpg

from chassis.errors import QuotingError, cause_of

PAUSE_SECONDS: Final = 0.01
"""Pause between two calls of `step` in one run, so that requests are served in between."""


@asynccontextmanager
async def periodically(
    name: str, every_seconds: float, step: Callable[[], Awaitable[bool]], on_fault: Callable[..., object]
) -> AsyncIterator[None]:
    """Start a run every `every_seconds` until the context ends. A run calls `step` until `step` returns False.

    If an error of the database ends a run, `on_fault(name, cause=...)` is called, and the next run starts as usual.
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
