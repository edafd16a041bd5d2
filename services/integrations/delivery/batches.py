"""Many waiting items, few round trips to the database."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batches(Generic[T, R]):
    """Does what waits in one go, in the order it came, one go after the other.

    An item that comes when nothing is under way leaves at once, alone: no timers, no waiting for company. Only
    one that may wait stays for so long, or until one comes that may not.
    """

    def __init__(
        self, work: Callable[[Sequence[T]], Awaitable[Sequence[R]]], most: int, wait_seconds: float = 0.0
    ) -> None:
        """`work` gives a result for each item, in their order; what it raises goes to each item's waiter."""
        self._work = work
        self._most = most
        self._wait_seconds = wait_seconds
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None

    def add(self, item: T, *, may_wait: bool = False) -> "asyncio.Future[R]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if not may_wait:
            self._leave()
        elif self._timer is None:
            self._timer = loop.call_later(self._wait_seconds, self._leave)
        return future

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_due = True
        if self._running is None:
            self._running = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._is_due:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                self._is_due = bool(self._waiting)
                await self._do(batch)
        finally:
            self._running = None

    async def _do(self, batch: list[tuple[T, "asyncio.Future[R]"]]) -> None:
        try:
            results = await self._work([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - each waiter gets it, and one of them logs it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
