"""How long callers wait here, and whom to refuse because of it.

Under overload requests wait where no program sees them, in the buffers of sockets that have not been read; Linux
tells for each socket how long ago its data came. What has waited there, and the time that even the fastest answers
take now, say whether a request would be answered in time; what would not is refused at once, which costs a tenth
of answering it and lets the others be in time. One slow receiver among fast ones makes nobody be refused.

A moment's jam clears by itself. But where for half a second there was enough in hand to be busy for a while, or
nobody at all could be answered within the longest wait, more comes than can be answered: then, until that is over,
that wait counts as everybody's deadline.
"""

import asyncio
import socket
import struct
from typing import Final

WINDOW_SECONDS: Final = 0.1
PRESSURE_SECONDS: Final = 0.1
"""Faster than this nobody is refused, whatever little time he gives."""
BUSY_IN_HAND: Final = 1_024
WINDOWS_OF_OVERLOAD: Final = 5
"""In a row, for it to be no moment's jam."""
SHARE_OF_RELIEF: Final = 0.25
"""Of the longest wait: who can be answered sooner meets no overload any more."""
LEAST_IN_HAND: Final = 64
"""With fewer in hand nobody has waited for long."""

_LAST_DATA_RECEIVED: Final = struct.Struct("52xI")
"""tcpi_last_data_recv of Linux' struct tcp_info, in milliseconds."""


class Pace:
    """What one service's answers take, in windows of a tenth of a second."""

    def __init__(self, most_wait_seconds: float, most_in_hand: int) -> None:
        """``most_wait_seconds`` is how long an answer may take under overload."""
        self._most_wait = most_wait_seconds
        self._busy_in_hand = min(BUSY_IN_HAND, most_in_hand)
        self.in_hand = 0
        """Requests that are being worked on."""
        self.is_overloaded = False
        self._fastest = float("inf")
        self._expected = 0.0
        self._soonest = float("inf")
        """What the luckiest of this window would take from when it was sent."""
        self._windows_of_overload = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether there is enough in hand to be busy for a while."""
        return self.in_hand >= self._busy_in_hand

    def start(self) -> None:
        """Begins to look at the clock; in the event loop that answers."""
        self._set_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def answered(self, seconds: float) -> None:
        """One request was answered as it should be, ``seconds`` after it had been read."""
        self._fastest = min(self._fastest, seconds)

    def is_too_late_for(self, waited: float, left: float) -> bool:
        """Whether what has ``waited`` and has ``left`` seconds from now on would most likely be answered too late."""
        late = waited + self._expected
        self._soonest = min(self._soonest, late)
        if late <= PRESSURE_SECONDS:
            return False
        return self._expected > left or (self.is_overloaded and late > self._most_wait)

    def waited(self, connection: socket.socket | None) -> float:
        """How many seconds what came last on a connection has waited to be read; 0 where nobody can tell."""
        if self.in_hand < LEAST_IN_HAND or connection is None or not hasattr(socket, "TCP_INFO"):
            return 0.0
        try:
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
        except OSError:  # no TCP, or gone
            return 0.0
        if len(information) < _LAST_DATA_RECEIVED.size:
            return 0.0
        milliseconds: int = _LAST_DATA_RECEIVED.unpack(information)[0]
        return milliseconds / 1_000

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._look)

    def _look(self) -> None:
        # what refusing itself takes, when it takes long, is no reason to refuse all
        self._expected = 0.0 if self._fastest == float("inf") else min(self._fastest, self._most_wait / 2)
        soonest = 0.0 if self._soonest == float("inf") else self._soonest
        is_too_much = self.is_busy or soonest > self._most_wait
        self._windows_of_overload = self._windows_of_overload + 1 if is_too_much else 0
        if self._windows_of_overload >= WINDOWS_OF_OVERLOAD:
            self.is_overloaded = True
        elif not is_too_much and soonest <= self._most_wait * SHARE_OF_RELIEF:
            self.is_overloaded = False
        self._fastest = self._soonest = float("inf")
        self._set_timer()
