"""Overload: which requests are admitted, which wait in the queue, and which are rejected at once.

Admission control by measured latency, not by a fixed rate:

- Little's law (Little 1961): requests in flight times seconds per answer is how long one more request will take.
- CoDel (Nichols and Jacobson 2012): a queue is standing, not a burst, when even the *shortest* wait of an interval is too
  long. Here: even the fastest answer of a window, or even the luckiest rejected request of three windows in a row.
- Deadline-aware load shedding (as in DAGOR, Zhou et al. 2018): a request that would be answered after its deadline is
  rejected before any work is done for it. Rejecting costs a tenth of answering.

Without overload every request is admitted. Under overload a request must be answerable within `max_wait_seconds`,
whatever its own deadline is. One slow receiver among fast ones never causes a rejection.

Requests may wait in socket buffers that no program has read. Linux knows for each socket how long ago its
data arrived (TCP_INFO), so that wait counts, too, as does the time in which the whole process stood still.
"""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

WINDOW_SECONDS: Final = 0.1
STALL_SECONDS: Final = 0.1
"""A heartbeat that is later than this shows that the process stood still or its event loop was blocked."""
MIN_LATE_SECONDS: Final = 0.1
"""A request that takes less is admitted, however short its deadline is."""
MIN_BACKLOG_SECONDS: Final = 0.05
"""With less work in flight the kernel is not asked: the system call costs a twentieth of a request."""
BUSY_IN_FLIGHT: Final = 640
MIN_IN_FLIGHT: Final = 64
"""With fewer requests in flight nothing has waited for long."""
JAMMED_WINDOWS: Final = 3
RELIEF_SHARE: Final = 0.25
"""Overload ends when a request takes less than this share of the longest wait."""
LATEST_SHARE: Final = 0.3
"""Weight of the latest window in the moving average of the answer rate."""
BEST_SHARE: Final = 0.98
"""Decay of the best answer rate per window."""
QUEUE_SHARE: Final = 0.8
"""Share of the longest wait that may be queued under overload. The answer rate varies, and rejecting a request after it
has waited costs more than rejecting it at once."""
SLICE_SECONDS: Final = 0.005
"""Time per event loop iteration in which queued requests begin."""

_LAST_DATA_RECEIVED: Final = struct.Struct("52xI")
"""`tcpi_last_data_recv` of Linux' struct tcp_info, in milliseconds."""
_NEVER: Final = float("inf")


class LoadMonitor:
    """Measures how long a service's answers take, in windows of a tenth of a second."""

    def __init__(self, max_wait_seconds: float, max_in_flight: int) -> None:
        self._max_wait = max_wait_seconds
        self._busy_in_flight = min(BUSY_IN_FLIGHT, max_in_flight)
        self.in_flight = 0
        """Requests that are being answered."""
        self.queued = 0
        """Requests that wait in the queue."""
        self.is_overloaded = False
        self._jammed_windows = 0
        self._expected = 0.0
        """Seconds that the fastest answers took in the last window with answers; 0 without one."""
        self._recent = 0.0, 0.0
        """Answers and seconds, weighted, since the service was last idle."""
        self.seconds_each = 0.0
        """Seconds per answer at that rate; 0 where there were too few answers."""
        self._best_rate = 0.0
        """Answers per second at best, since the service was last idle."""
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat = _NEVER
        self._ask_kernel_until = 0.0
        self._begin_window()

    def _begin_window(self) -> None:
        self._answers = 0
        self._fastest = _NEVER
        self._soonest = _NEVER
        """Shortest time from arrival to answer that any request of this window could expect."""

    @property
    def is_busy(self) -> bool:
        """Whether enough is in flight to keep the service busy for a while."""
        return self.in_flight >= self._busy_in_flight

    def start(self) -> None:
        """Begin to measure; in the event loop that answers."""
        self._heartbeat = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._beat)

    def stop(self) -> None:
        self._heartbeat = _NEVER
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.monotonic()
        elapsed = now - self._heartbeat
        if elapsed > WINDOW_SECONDS + STALL_SECONDS:
            self._ask_kernel_until = now + WINDOW_SECONDS
        self._end_window(elapsed)
        self.start()

    def answered(self, seconds: float) -> None:
        """Count one request that was answered with success `seconds` after it was read."""
        self._answers += 1
        if seconds < self._fastest:  # noqa: PLR1730 - min takes three times as long
            self._fastest = seconds

    def admits(self, waited: float, left: float, was_queued: bool, is_excess: bool) -> bool:
        """Whether a request that has waited and has `left` seconds until its deadline will be answered in time.

        `was_queued` says that it waited in the queue, `is_excess` that the queue had no room for it.
        """
        late = (self.in_flight + self.queued) * self.seconds_each if is_excess else waited + self._expected
        if late < self._soonest:  # noqa: PLR1730 - as above
            self._soonest = late
        if is_excess or (was_queued and waited > self._max_wait):
            return False
        if self.is_overloaded and waited + self.in_flight * self.seconds_each > self._max_wait:
            return False
        return late <= MIN_LATE_SECONDS or self._expected <= left

    @property
    def must_queue(self) -> bool:
        """Whether a request that arrives now waits for its turn."""
        return self.queued > 0 or self.is_overloaded or self.in_flight >= self._busy_in_flight

    @property
    def has_room(self) -> bool:
        """Whether one more request may join the queue and still be answered well within the longest wait."""
        if self.is_overloaded:
            return (self.in_flight + self.queued) * self.seconds_each <= self._max_wait * QUEUE_SHARE
        # without overload a backlog may be one slow receiver, and few answers a short stall
        limit = max(MIN_IN_FLIGHT, self._best_rate * self._max_wait) if self._best_rate else _NEVER
        return self.queued <= limit

    def waited(self, connection: socket.socket | None, now: float) -> float:
        """Seconds for which the newest data of a connection has waited to be read; 0 where that is not known."""
        stood_still = now - self._heartbeat > WINDOW_SECONDS + STALL_SECONDS or now < self._ask_kernel_until
        has_backlog = (
            self.in_flight >= MIN_IN_FLIGHT and self.in_flight * self.seconds_each >= MIN_BACKLOG_SECONDS
        )
        return _seconds_since_data(connection) if stood_still or has_backlog or self.must_queue else 0.0

    def _end_window(self, seconds: float = WINDOW_SECONDS) -> None:
        if self.in_flight or self._answers:
            kept = 1 - LATEST_SHARE
            answers, took = self._recent[0] * kept + self._answers, self._recent[1] * kept + seconds
            self._recent = answers, took
            self.seconds_each = took / answers if answers >= 1 else 0.0
            rate = 1 / self.seconds_each if self.seconds_each else 0.0
            self._best_rate = max(self._best_rate * BEST_SHARE, rate)
        else:
            self._recent, self.seconds_each, self._best_rate = (0.0, 0.0), 0.0, 0.0
        if self._answers:
            self._expected = self._fastest
        elif not (self.is_overloaded and self.seconds_each):
            self._expected = 0.0
        soonest = 0.0 if self._soonest == _NEVER else self._soonest
        relief = self._max_wait * RELIEF_SHARE
        # a window without any answer may be one slow receiver, a short stall, or errors alone
        is_slow_and_busy = self.is_busy and relief < self._fastest < _NEVER
        self._jammed_windows = self._jammed_windows + 1 if soonest > self._max_wait else 0
        if is_slow_and_busy or self._jammed_windows >= JAMMED_WINDOWS:
            self.is_overloaded = True
        elif soonest <= relief:
            self.is_overloaded = False
        self._begin_window()


class AdmissionQueue:
    """Requests that are read but have not begun, first in, first out.

    The event loop reads every readable socket before it does anything else. If each of thousands of requests began at
    once, the next hop's answers would wait behind them. So requests begin for a few milliseconds per iteration.
    """

    def __init__(self, monitor: LoadMonitor) -> None:
        self._monitor = monitor
        self._waiting: deque[Callable[[], None]] = deque()

    def add(self, begin: Callable[[], None]) -> None:
        """Call `begin` when its turn comes."""
        self._waiting.append(begin)
        self._monitor.queued += 1
        if self._monitor.queued == 1:
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin_some(self) -> None:
        end = time.monotonic() + SLICE_SECONDS
        try:
            while self._waiting:
                self._monitor.queued -= 1
                self._waiting.popleft()()
                if time.monotonic() >= end:
                    break
        finally:  # an error of one request must not stop the queue
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._begin_some)


def _seconds_since_data(connection: socket.socket | None) -> float:
    if connection is None or not hasattr(socket, "TCP_INFO"):
        return 0.0
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
    except OSError:  # a Unix socket, or a closed one
        return 0.0
    if len(information) < _LAST_DATA_RECEIVED.size:
        return 0.0
    return float(_LAST_DATA_RECEIVED.unpack(information)[0]) / 1_000
