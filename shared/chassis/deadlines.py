"""Deadlines of many operations, with few timers.

`asyncio.timeout` sets and cancels one timer for each use, although almost no deadline is ever reached. Here all
deadlines within the same few milliseconds share one timer, and to cancel a deadline only removes an entry from a set.
"""

import asyncio
import time
from typing import Final, Protocol

TICK_SECONDS: Final = 0.004
"""Deadlines within this time share a timer. So an operation may end this much later than its deadline."""


class Limited(Protocol):
    """An operation that may last until its deadline."""

    def end(self) -> None:
        """End the operation, because its deadline has passed. It is called once and must not raise."""


class Deadlines:
    """The deadlines of one event loop, on the monotonic clock."""

    def __init__(self) -> None:
        self._watched: dict[int, set[Limited]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0

    def watch(self, limited: Limited, deadline: float) -> int:
        """Call `limited.end` after `deadline`. Returns a tick, with which `forget` cancels the deadline."""
        tick = int(deadline / TICK_SECONDS) + 1
        group = self._watched.get(tick)
        if group is None:
            group = self._watched[tick] = set()
            if self._timer is None or tick < self._next:
                self._set_timer(tick)
        group.add(limited)
        return tick

    def forget(self, limited: Limited, tick: int) -> None:
        group = self._watched.get(tick)
        if group is not None:
            group.discard(limited)
            if not group:
                del self._watched[tick]

    def _set_timer(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._next = tick
        seconds = max(0.0, tick * TICK_SECONDS - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end_passed)

    def _end_passed(self) -> None:
        self._timer = None
        now = time.monotonic()
        for tick in [tick for tick in self._watched if tick * TICK_SECONDS <= now]:
            for limited in self._watched.pop(tick):
                limited.end()
        if self._watched:
            self._set_timer(min(self._watched))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
