"""Where requests wait for their turn while there is more to do than can be done at once.

The event loop reads all sockets that have something before it turns to anything else. With thousands of requests
that would take long if each were begun straight away, and answers of the next hop, and all who wait for those,
would stand behind them. So they are only read, and begun for a moment in each turn of the loop. There is room for as
many as can be answered in time; who comes when it is full is refused at once.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from chassis.pace import Pace

SLICE_SECONDS: Final = 0.005
"""Of each turn of the loop."""


class WaitingRoom:
    """Of one service; first in, first out."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def is_for_who_comes(self) -> bool:
        """Whether what comes now has to wait for its turn, and may."""
        return self._pace.is_crowded and self._pace.has_room

    def add(self, begin: Callable[[], None]) -> None:
        """Calls ``begin`` when its turn has come."""
        self._waiting.append(begin)
        self._pace.waiting += 1
        if self._pace.waiting == 1:
            asyncio.get_running_loop().call_soon(self._let_in)

    def _let_in(self) -> None:
        end = time.monotonic() + SLICE_SECONDS
        try:
            while self._waiting:
                self._pace.waiting -= 1
                self._waiting.popleft()()
                if time.monotonic() >= end:
                    break
        finally:  # whatever fails with one, the others have their turn
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._let_in)
