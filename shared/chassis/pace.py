"""How long callers wait here, and whom to refuse because of it.

Under overload requests wait where no program sees them, in the buffers of sockets that have not been read; Linux
tells for each socket how long ago its data came. What has waited there, and the time that even the fastest answers
take now, say whether a request would be answered in time; what would not is refused at once, which costs a tenth
of answering it and lets the others be in time. One slow receiver among fast ones makes nobody be refused.

A moment's jam clears by itself. But where there is enough in hand to be busy for a while and even the fastest answers
take long, or where in three windows in a row nobody at all could be answered within the longest wait, more comes than
can be answered: then, until that is over, that wait counts as everybody's deadline, and what is in hand at the rate
of answers says how long another one would take, and how many there is room for in `chassis.room`.
"""

import asyncio
import socket
import struct
import time
from typing import Final

WINDOW_SECONDS: Final = 0.1
PRESSURE_SECONDS: Final = 0.1
"""Faster than this nobody is refused, whatever little time he gives."""
RELAXED_SECONDS: Final = 0.05
"""Where all in hand takes no longer than this, sockets are not asked: it costs a twentieth of a request."""
BUSY_IN_HAND: Final = 640
WINDOWS_OF_JAM: Final = 3
"""In a row, for it to be no moment's jam."""
SHARE_OF_RELIEF: Final = 0.25
"""Of the longest wait: who can be answered sooner meets no overload any more."""
SHARE_OF_THE_LATEST: Final = 0.3
"""Of a window in the rate of answers, at least."""
SHARE_OF_THE_BEST: Final = 0.98
"""Of the best rate of answers, after each window that had a lower one."""
SHARE_OF_THE_WAIT: Final = 0.8
"""Of the longest wait, under overload: for so long there is room. The rate of answers varies, and who is refused after
he has waited costs more than who is refused at once."""
MIN_IN_FLIGHT: Final = 64
"""With fewer in hand nobody has waited for long."""

_LAST_DATA_RECEIVED: Final = struct.Struct("52xI")
"""tcpi_last_data_recv of Linux' struct tcp_info, in milliseconds."""


class Pace:
    """What one service's answers take, in windows of a tenth of a second."""

    def __init__(self, max_wait_seconds: float, max_in_flight: int) -> None:
        """``max_wait_seconds`` is how long an answer may take under overload."""
        self._max_wait = max_wait_seconds
        self._busy_in_hand = min(BUSY_IN_HAND, max_in_flight)
        self.in_hand = 0
        """Requests that are being worked on."""
        self.waiting = 0
        """Requests that have been read and wait for their turn."""
        self.is_overloaded = False
        self._jammed = 0
        """Windows in a row."""
        self._expected = 0.0
        """Seconds that the fastest answers took in the last window with answers; 0 where there was none."""
        self._lately = 0.0, 0.0
        """Answers and seconds of the windows since there was nothing in hand, the latest counted most."""
        self.seconds_each = 0.0
        """What an answer takes at that rate; 0 where there were too few to say."""
        self._best_rate = 0.0
        """Answers a second at best, since there was nothing in hand."""
        self._timer: asyncio.TimerHandle | None = None
        self._begin_window()

    def _begin_window(self) -> None:
        self._answers = 0
        self._fastest = float("inf")
        self._soonest = float("inf")
        """What the luckiest would take from when it was sent."""

    @property
    def is_busy(self) -> bool:
        """Whether there is enough in hand to be busy for a while."""
        return self.in_hand >= self._busy_in_hand

    @property
    def _next_takes(self) -> float:
        """Seconds that one more would take, at the rate of answers."""
        return self.in_hand * self.seconds_each

    def start(self) -> None:
        """Begins to look at the clock; in the event loop that answers."""
        self._set_timer()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def answered(self, seconds: float) -> None:
        """One request was answered as it should be, ``seconds`` after it had been read."""
        self._answers += 1
        if seconds < self._fastest:  # noqa: PLR1730 - min takes three times as long
            self._fastest = seconds

    def is_too_late_for(self, waited: float, left: float) -> bool:
        """Whether what has ``waited`` and has ``left`` seconds from now on would most likely be answered too late."""
        late = waited + self._expected
        self._soonest = min(self._soonest, late)
        if self.is_overloaded and waited + self._next_takes > self._max_wait:
            return True
        return late > PRESSURE_SECONDS and self._expected > left

    @property
    def is_crowded(self) -> bool:
        """Whether what comes now has to wait until it is looked at."""
        return self.waiting > 0 or self.is_overloaded or self.is_busy

    @property
    def has_room(self) -> bool:
        """Whether one more may wait behind all who do, to be answered well within the longest wait."""
        if self.is_overloaded:
            return (self.in_hand + self.waiting) * self.seconds_each <= self._max_wait * SHARE_OF_THE_WAIT
        # it may be one slow receiver that much in hand waits for, and few answers a moment's halt
        most = max(MIN_IN_FLIGHT, self._best_rate * self._max_wait) if self._best_rate else float("inf")
        return self.waiting <= most

    def is_too_late_to_be_looked_at(self, waited: float | None) -> bool:
        """Whether it is too late even for who gives all time in the world.

        ``waited`` is how long what comes from the waiting room has, None for what has not been in there.
        """
        if waited is not None:
            return self.is_too_late_for(waited, float("inf")) or waited > self._max_wait
        if self.has_room:
            return False
        self._soonest = min(self._soonest, (self.in_hand + self.waiting) * self.seconds_each)
        return True

    def waited(self, connection: socket.socket | None) -> float:
        """How many seconds what came last on a connection has waited to be read; 0 where nobody can tell."""
        if self.in_hand < MIN_IN_FLIGHT or self._next_takes < RELAXED_SECONDS:
            return 0.0  # what was not read meanwhile has not waited for long either
        return waited_in(connection)

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(
            WINDOW_SECONDS, self._end_window, time.monotonic()
        )

    def _end_window(self, began: float) -> None:
        """A turn of the loop that took long has made it a longer one."""
        self._look(time.monotonic() - began)
        self._set_timer()

    def _look(self, seconds: float = WINDOW_SECONDS) -> None:
        """Looks back on a window of so many ``seconds``."""
        if self.in_hand or self._answers:
            before, seconds_before = self._lately
            kept = 1 - SHARE_OF_THE_LATEST
            answers, took = self._lately = before * kept + self._answers, seconds_before * kept + seconds
            self.seconds_each = took / answers if answers >= 1 else 0.0
            rate = 1 / self.seconds_each if self.seconds_each else 0.0
            self._best_rate = max(self._best_rate * SHARE_OF_THE_BEST, rate)
        else:
            self._lately, self.seconds_each, self._best_rate = (0.0, 0.0), 0.0, 0.0
        if self._answers:
            self._expected = self._fastest
        elif not (self.is_overloaded and self.seconds_each):  # a crowd is answered by and by
            self._expected = 0.0
        soonest = 0.0 if self._soonest == float("inf") else self._soonest
        relief = self._max_wait * SHARE_OF_RELIEF
        # where nobody was answered at all it may be one slow receiver, a moment's halt, or errors alone
        is_slow_and_busy = self.is_busy and relief < self._fastest < float("inf")
        self._jammed = self._jammed + 1 if soonest > self._max_wait else 0
        if is_slow_and_busy or self._jammed >= WINDOWS_OF_JAM:
            self.is_overloaded = True
        elif soonest <= relief:
            self.is_overloaded = False
        self._begin_window()


def waited_in(connection: socket.socket | None) -> float:
    """How many seconds ago something came last on a connection; 0 where nobody can tell."""
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
    except OSError:  # no TCP, or gone
        return 0.0
    if len(information) < _LAST_DATA_RECEIVED.size:
        return 0.0
    milliseconds: int = _LAST_DATA_RECEIVED.unpack(information)[0]
    return milliseconds / 1_000
