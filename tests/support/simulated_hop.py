"""A hop with a load monitor in simulated time: a process that may stand still, and a next hop of limited capacity.

Nothing sleeps and nothing runs at the same time, so each run with the same arguments has the same outcome.
"""

import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final

from chassis.admission import WINDOW_SECONDS, LoadMonitor

STEP_SECONDS: Final = 0.001
LATENCY_SECONDS: Final = 0.005
AFTERWARDS_SECONDS: Final = 4.0
"""Time after the last arrival until the run ends."""
BEGUN_PER_STEP: Final = 20
"""Queued requests that one step begins."""
READ_PER_STEP: Final = 1_000
"""Requests that one step reads, if the process has enough processor time."""


@dataclass(frozen=True)
class Arrival:
    at: float
    deadline: float


@dataclass
class Outcome:
    """Counts of responses by status. Times are simulated seconds."""

    statuses: Counter[int] = field(default_factory=Counter)
    rejected: list[tuple[float, Arrival]] = field(default_factory=list)
    """Time and request of each rejection."""
    seconds: list[float] = field(default_factory=list)
    """Time from the arrival of each request until its 200."""

    @property
    def rejected_in_time(self) -> list[Arrival]:
        """Requests that were rejected before their deadline."""
        return [request for at, request in self.rejected if at < request.deadline]


def arrivals(
    rate: float, seconds: float, *, begin: float = 0.0, left: Sequence[float] = (10.0,), seed: int = 1
) -> list[Arrival]:
    """Return requests at random times, `rate` of them per second. `left` are the times until their deadlines, in turn."""
    chance, at, made = random.Random(seed), begin, []
    for each in cycle(left):
        at += chance.expovariate(rate)
        if at >= begin + seconds:
            break
        made.append(Arrival(at, at + each))
    return made


class SimulatedHop:
    """A hop that forwards requests to a next hop, which answers `capacity` of them per second in their order."""

    def __init__(
        self, capacity: float, max_wait_seconds: float = 0.5, read_per_step: int = READ_PER_STEP
    ) -> None:
        self._read_per_step = read_per_step
        self.monitor = LoadMonitor(max_wait_seconds, max_in_flight=2_048)
        self._capacity = capacity
        self._queue: deque[Arrival] = deque()
        self._sent: deque[tuple[float, Arrival]] = deque()
        """Requests at the next hop, with the time at which each began here."""
        self._answered: list[tuple[float, Arrival]] = []
        self._outcome = Outcome()

    def run(
        self,
        requests: Iterable[Arrival],
        *,
        still: Sequence[tuple[float, float]] = (),
        next_still: Sequence[tuple[float, float]] = (),
    ) -> Outcome:
        """Send the requests. In the spans of time `still` this process stands still, in `next_still` the next hop."""
        ahead = deque(requests)
        end = ahead[-1].at + AFTERWARDS_SECONDS
        step, window_began, credit = 0, 0.0, 0.0
        while (now := step * STEP_SECONDS) < end:
            step += 1
            if not _is_in(next_still, now):
                credit = min(credit + self._capacity * STEP_SECONDS, max(self._capacity * STEP_SECONDS, 1.0))
                while credit >= 1 and self._sent and self._sent[0][0] + LATENCY_SECONDS <= now:
                    credit -= 1
                    self._answered.append(self._sent.popleft())
            if _is_in(still, now):
                continue
            self._take_answers(now)
            for _ in range(min(BEGUN_PER_STEP, len(self._queue))):
                self.monitor.queued -= 1
                self._begin(self._queue.popleft(), now, was_queued=True)
            left = self._read_per_step
            while left and ahead and ahead[0].at <= now:
                left -= 1
                self._receive(ahead.popleft(), now)
            if now - window_began >= WINDOW_SECONDS:
                self.monitor._end_window(now - window_began)
                window_began = now
        return self._outcome

    def _receive(self, request: Arrival, now: float) -> None:
        if not self.monitor.must_queue:
            self._begin(request, now)
        elif self.monitor.has_room:
            self._queue.append(request)
            self.monitor.queued += 1
        else:
            self._begin(request, now, is_excess=True)

    def _begin(
        self, request: Arrival, now: float, *, was_queued: bool = False, is_excess: bool = False
    ) -> None:
        monitor = self.monitor
        monitor.in_flight += 1
        if not monitor.admits(now - request.at, request.deadline - now, was_queued, is_excess):
            self._end(503)
            self._outcome.rejected.append((now, request))
        elif request.deadline <= now:
            self._end(504)
        else:
            self._sent.append((now, request))

    def _take_answers(self, now: float) -> None:
        for began, request in self._answered:
            if request.deadline < now:
                self._end(504)
                continue
            self._end(200)
            self.monitor.answered(now - began)
            self._outcome.seconds.append(now - request.at)
        self._answered.clear()

    def _end(self, status: int) -> None:
        self.monitor.in_flight -= 1
        self._outcome.statuses[status] += 1


def _is_in(spans: Sequence[tuple[float, float]], now: float) -> bool:
    return any(begin <= now < end for begin, end in spans)
