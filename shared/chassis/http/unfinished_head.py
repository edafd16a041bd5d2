"""The head of a request that has not arrived completely: it has a time limit, and counts in the budget for bodies."""

import asyncio
from collections.abc import Callable
from typing import Final

from chassis.http.body_budget import BodyBudget

HEAD_END: Final = b"\r\n\r\n"


class UnfinishedHead:
    """Bytes of a head without its end, on one connection.

    `on_timeout` is called `seconds` after the head began, again and again until the head is finished.
    """

    def __init__(
        self, budget: BodyBudget, address: str, seconds: float, on_timeout: Callable[[], None]
    ) -> None:
        self._budget = budget
        self._address = address
        self._seconds = seconds
        self._on_timeout = on_timeout
        self.length = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_begun(self) -> bool:
        return self._timer is not None

    def begin(self) -> None:
        """Start the time limit, if it does not run yet."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._time_out)

    def grow(self, length: int) -> bool:
        """Whether the budget has room for as many further bytes."""
        self.begin()
        if not self._budget.take(self._address, length):
            return False
        self.length += length
        return True

    def finish(self) -> None:
        """The head is complete, or its connection is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.length:
            self._budget.give_back(self._address, self.length)
            self.length = 0

    def _time_out(self) -> None:
        self._timer = None
        self.begin()
        self._on_timeout()
