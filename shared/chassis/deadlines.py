"""Time limits for many at once.

`asyncio.timeout` sets and cancels a timer for each use. Nearly no limit is ever reached, so here they are grouped:
one timer for all that end within the same few milliseconds, and nothing to cancel but an entry in a set.
"""

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

TICK_SECONDS: Final = 0.004
"""How much later than its deadline a wait may end."""

T = TypeVar("T")


class Deadlines:
    """The deadlines of one event loop, on the monotonic clock."""

    def __init__(self) -> None:
        self._watched: dict[int, set[Limited]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def within(self, deadline: float, work: Awaitable[T]) -> T:
        """What ``work`` gives. Cancels it and raises TimeoutError once ``deadline`` has passed."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - a coroutine that runs has a task
        watched = _Watched(task)
        tick = self.watch(watched, deadline)
        try:
            return await work
        except asyncio.CancelledError as error:
            # somebody else's cancellation goes on its way, also when it comes together with ours
            if watched.is_over and task.cancelling() - 1 <= watched.cancelling:
                raise TimeoutError from error
            raise
        finally:
            if watched.is_over:  # however work ended: our own cancellation ends here
                task.uncancel()
            self.forget(watched, tick)

    def watch(self, work: "Limited", deadline: float) -> int:
        """Ends ``work`` once ``deadline`` has passed, unless it is forgotten with what this returns."""
        tick = int(deadline / TICK_SECONDS) + 1
        group = self._watched.get(tick)
        if group is None:
            group = self._new_group(tick)
        group.add(work)
        return tick

    def forget(self, work: "Limited", tick: int) -> None:
        group = self._watched.get(tick)
        if group is not None:
            group.discard(work)
            if not group:
                del self._watched[tick]

    def _new_group(self, tick: int) -> "set[Limited]":
        group = self._watched[tick] = set()
        if self._timer is None or tick < self._next:
            self._set_timer(tick)
        return group

    def _set_timer(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(max(0.0, tick * TICK_SECONDS - time.monotonic()), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = time.monotonic()
        for tick in [tick for tick in self._watched if tick * TICK_SECONDS <= now]:
            for work in self._watched.pop(tick):
                work.end()
        if self._watched:
            self._set_timer(min(self._watched))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class Limited(Protocol):
    """What may last until its deadline."""

    def end(self) -> None:
        """Called once, after the deadline; must not raise."""


class _Watched:
    """A task."""

    __slots__ = ("cancelling", "is_over", "task")

    def __init__(self, task: "asyncio.Task[object]") -> None:
        self.task = task
        self.cancelling = task.cancelling()
        self.is_over = False

    def end(self) -> None:
        self.is_over = True
        self.task.cancel()
