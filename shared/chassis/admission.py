"""Admission control: decide whether a request begins, waits in the queue, or is rejected at once.

The decision depends on measured response times, not on a fixed rate. It combines three methods:

- Little's law (Little 1961): one more request will take the number of requests in flight times the seconds per answer.
- CoDel (Nichols and Jacobson 2012, RFC 8289): a queue that is soon empty again is a burst. A standing queue means
  overload: even the *shortest* wait in it is too long. Here overload begins in two cases: even the fastest answer of a
  window (a tenth of a second) was too slow while the service was busy, or in three windows in a row even the shortest
  expected response time was too long. CoDel never drops the last packet of a queue, and here a few requests in flight
  are no standing queue, however late they are: the process, the machine or the next hop stood still for a moment.
- Deadline-aware load shedding (as in DAGOR, Zhou et al. 2018): under overload a request that would be answered after
  its deadline is rejected before any work is done for it. To reject a request costs a tenth of an answer.

Without overload every request is admitted. Under overload a request is admitted only if it can be answered within
`max_wait_seconds`, even if its deadline is later. One slow receiver among fast ones never causes a rejection.

A request may wait in a socket buffer before this process reads it. Linux reports how long ago the data of a socket
arrived (TCP_INFO). This time counts as part of the request's wait, but not while few requests are in flight: a service
that can hardly read all requests would otherwise answer none of them.
"""

import asyncio
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from chassis.histogram import Histogram

WINDOW_SECONDS: Final = 0.1
LAG_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
STALL_SECONDS: Final = 0.1
"""If the timer that ends a window is more than this late, the process stood still or its event loop was blocked."""
MIN_LATE_SECONDS: Final = 0.1
"""A request that is expected to take at most this time is admitted, even if its deadline is sooner."""
MIN_BACKLOG_SECONDS: Final = 0.05
"""For a shorter backlog `LoadMonitor.waited` makes no system call. The call costs a twentieth of a request."""
BUSY_IN_FLIGHT: Final = 640
MIN_IN_FLIGHT: Final = 64
"""Fewer requests in flight are no standing queue. It is more than 20 requests per second leave in a stall of 3 s."""
STANDING_WINDOWS: Final = 3
RELIEF_SHARE: Final = 0.25
"""Share of `max_wait_seconds`. Overload ends when the shortest expected response time of a window is not longer."""
KEPT_SHARE: Final = 0.7
"""Weight of the windows before the latest one in the moving average of the answer rate."""
BEST_SHARE: Final = 0.98
"""At the end of each window, the best answer rate so far is multiplied by this factor."""
QUEUE_SHARE: Final = 0.8
"""Share of `max_wait_seconds` that a request may wait in the queue: to reject it after that would cost more."""
SLICE_SECONDS: Final = 0.005
SLICE_SHARE: Final = 0.5
"""Share of an iteration's time for which it begins queued requests, if that is longer than SLICE_SECONDS."""

_LAST_DATA_RECEIVED: Final = struct.Struct("52xI")
"""Reads `tcpi_last_data_recv`, in milliseconds, from the struct tcp_info of Linux."""
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
        self._standing_windows = 0
        self._expected = 0.0
        """Fastest answer of the last window, in seconds. A window without answers sets it to 0, except under overload."""
        self._recent = 0.0, 0.0
        """(answers, seconds): sums over the windows since the service was last idle. Later windows have more weight."""
        self.seconds_each = 0.0
        """Seconds per answer in the recent windows; 0 if there were too few answers."""
        self._best_rate = 0.0
        """Highest number of answers per second since the service was last idle."""
        self.lag = Histogram(LAG_BOUNDS)
        """Delay of the timer that ends each window, in seconds."""
        self._timer: asyncio.TimerHandle | None = None
        self._heartbeat = _NEVER
        self._ask_kernel_until = 0.0
        self._begin_window()

    def _begin_window(self) -> None:
        self._answers = 0
        self._fastest = _NEVER
        self._soonest = _NEVER
        """Shortest time from arrival to answer that was expected for any request of this window."""

    @property
    def is_busy(self) -> bool:
        """Whether so many requests are in flight that the service has work for a while."""
        return self.in_flight >= self._busy_in_flight

    def start(self) -> None:
        """Begin to measure. Call it in the event loop that answers the requests."""
        self._heartbeat = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._beat)

    def stop(self) -> None:
        self._heartbeat = _NEVER
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        now = time.monotonic()
        elapsed = now - self._heartbeat
        self.lag.observe(max(elapsed - WINDOW_SECONDS, 0.0))
        if elapsed > WINDOW_SECONDS + STALL_SECONDS:
            self._ask_kernel_until = now + WINDOW_SECONDS
        self._end_window(elapsed)
        self.start()

    def answered(self, seconds: float) -> None:
        """Count one request that was answered with status 200, `seconds` after its exchange began."""
        self._answers += 1
        if seconds < self._fastest:  # noqa: PLR1730 - min takes three times as long
            self._fastest = seconds

    def admits(self, waited: float, left: float, was_queued: bool, is_excess: bool) -> bool:
        """Whether to admit a request that has waited for `waited` seconds and has `left` seconds until its deadline.

        `was_queued` means that the request waited in the queue, `is_excess` that the queue had no room for it.
        """
        late = (self.in_flight + self.queued) * self.seconds_each if is_excess else waited + self._expected
        if late < self._soonest:  # noqa: PLR1730 - as above
            self._soonest = late
        if self.in_flight < MIN_IN_FLIGHT:
            waited = 0.0
        if is_excess or (was_queued and waited > self._max_wait):
            return False
        if not self.is_overloaded:
            return True
        ahead = self.in_flight * self.seconds_each
        is_in_time = late <= MIN_LATE_SECONDS or max(ahead, self._expected) <= left
        return is_in_time and waited + ahead <= self._max_wait

    @property
    def must_queue(self) -> bool:
        """Whether a request that arrives now has to wait in the queue."""
        return self.queued > 0 or self.is_overloaded or self.in_flight >= self._busy_in_flight

    @property
    def has_room(self) -> bool:
        """Whether the queue can take one more request that will still be answered well within `max_wait_seconds`."""
        if self.is_overloaded:
            return (self.in_flight + self.queued) * self.seconds_each <= self._max_wait * QUEUE_SHARE
        # without overload, one slow receiver may cause a backlog, and a short stall may cause few answers
        limit = max(MIN_IN_FLIGHT, self._best_rate * self._max_wait) if self._best_rate else _NEVER
        return self.queued <= limit

    def waited(self, connection: socket.socket | None, now: float) -> float:
        """Return for how many seconds the newest data of a connection has waited to be read; 0 if that is not known."""
        stood_still = now - self._heartbeat > WINDOW_SECONDS + STALL_SECONDS or now < self._ask_kernel_until
        has_backlog = self.in_flight * self.seconds_each >= MIN_BACKLOG_SECONDS
        return _seconds_since_data(connection) if stood_still or has_backlog or self.must_queue else 0.0

    def _end_window(self, seconds: float = WINDOW_SECONDS) -> None:
        if self.in_flight or self._answers:
            answers = self._recent[0] * KEPT_SHARE + self._answers
            took = self._recent[1] * KEPT_SHARE + seconds
            self._recent = answers, took
            self.seconds_each = took / answers if answers >= 1 else 0.0
            self._best_rate = max(self._best_rate * BEST_SHARE, answers / took if answers >= 1 else 0.0)
        else:
            self._recent, self.seconds_each, self._best_rate = (0.0, 0.0), 0.0, 0.0
        if self._answers:
            self._expected = self._fastest
        elif not (self.is_overloaded and self.seconds_each):
            self._expected = 0.0
        soonest = 0.0 if self._soonest == _NEVER else self._soonest
        relief = self._max_wait * RELIEF_SHARE
        # a window without answers is no sign of overload: a slow receiver, a short stall or errors may be the cause
        is_slow_and_busy = self.is_busy and relief < self._fastest < _NEVER
        is_standing = soonest > self._max_wait and self.in_flight + self.queued >= MIN_IN_FLIGHT
        self._standing_windows = self._standing_windows + 1 if is_standing else 0
        if is_slow_and_busy or self._standing_windows >= STANDING_WINDOWS:
            self.is_overloaded = True
        elif soonest <= relief:
            self.is_overloaded = False
        self._begin_window()


class AdmissionQueue:
    """The queue of requests that have been read but have not begun. The first to arrive is the first to begin.

    The event loop reads every readable socket before it does anything else. If thousands of requests began in one
    iteration, the answers of the next hop would have to wait for all of them. So an iteration begins requests for a
    few milliseconds only, or for longer if it has taken long to reject others.
    """

    def __init__(self, monitor: LoadMonitor) -> None:
        self._monitor = monitor
        self._waiting: deque[Callable[[], None]] = deque()
        self._since = 0.0  # when the latest slice ended, or when the first request was added after it

    def add(self, begin: Callable[[], None]) -> None:
        """Add a request. `begin` is called when the request's turn comes."""
        self._waiting.append(begin)
        self._monitor.queued += 1
        if self._monitor.queued == 1:
            self._since = time.monotonic()
            asyncio.get_running_loop().call_soon(self._begin_some)

    def _begin_some(self) -> None:
        now = time.monotonic()
        end = now + max(SLICE_SECONDS, (now - self._since) * SLICE_SHARE)
        try:
            while self._waiting:
                self._monitor.queued -= 1
                self._waiting.popleft()()
                if time.monotonic() >= end:
                    break
        finally:  # an error of one request must not stop the queue
            if self._waiting:
                self._since = time.monotonic()
                asyncio.get_running_loop().call_soon(self._begin_some)


def _seconds_since_data(connection: socket.socket | None) -> float:
    try:
        information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)  # type: ignore[union-attr]
        return float(_LAST_DATA_RECEIVED.unpack(information)[0]) / 1_000
    except (AttributeError, OSError, struct.error):  # it is not an open TCP connection on Linux
        return 0.0
