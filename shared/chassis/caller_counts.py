"""Requests and errors by caller, for the callers with the most requests (docs/metrics.md, "Callers").

There may be many callers, and each is several time series in Prometheus. So at most a hundred or so are listed by name,
and all others are counted together. The memory is limited, too: a caller has one count for each known error id, and
MAX_NOTED limits the other callers whose requests are counted because they may enter the list.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

MAX_LISTED: Final = 100
MAX_NOTED: Final = 1_000
MAX_NAME_CHARACTERS: Final = 64
OTHER: Final = "other"
TURN_SECONDS: Final = 60.0
"""Time between two changes of a full list: each change begins new time series in Prometheus."""
MARGIN: Final = 2
"""A caller enters a full list if it has at least this many times the requests of the caller that leaves it.

With a margin of 1, callers with about the same number of requests would take each other's place in turn.
"""


class CallerCounts(Collector):
    """Counts by caller. No count decreases, and each request is in exactly one of them."""

    def __init__(self, max_listed: int = MAX_LISTED, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_listed = max_listed
        self._clock = clock
        self._turn_ends = clock() + TURN_SECONDS
        self._listed: dict[str, _Counts] = {}
        self._others = _Counts()
        self._noted: dict[str, int] = {}
        """Requests in this turn of the callers that are not listed, approximately."""

    def count(self, caller: str, error: str | None, requests: int = 1) -> None:
        """Count requests of a caller. `error` is a label, so it must have few different values."""
        name = caller[:MAX_NAME_CHARACTERS]
        counts = self._listed.get(name)
        if counts is None:
            counts = self._counts_of_new(name, requests)
        counts.requests += requests
        if error is not None:
            counts.errors[error] = counts.errors.get(error, 0) + requests

    def _counts_of_new(self, name: str, requests: int) -> "_Counts":
        """Return the counts of a caller that is not listed, and list it if there is room."""
        if name == OTHER or not self._max_listed:
            return self._others
        if len(self._listed) < self._max_listed:
            counts = self._listed[name] = _Counts()
            return counts
        self._note(name, requests)
        now = self._clock()
        if now >= self._turn_ends:
            self._turn_ends = now + TURN_SECONDS
            self._list_the_busiest()
        return self._listed.get(name, self._others)

    def _note(self, name: str, requests: int) -> None:
        """Count the requests of a caller that is not listed, for the next change of the list.

        If too many names are noted, all numbers are halved, and the names with one request are forgotten. So those
        with many requests stay (lossy counting, Manku and Motwani 2002).
        """
        while len(self._noted) >= MAX_NOTED and name not in self._noted:
            self._noted = {noted: number // 2 for noted, number in self._noted.items() if number > 1}
        self._noted[name] = self._noted.get(name, 0) + requests

    def _list_the_busiest(self) -> None:
        quietest = sorted(self._listed, key=lambda name: self._listed[name].of_this_turn)
        busiest = sorted(self._noted.items(), key=lambda each: each[1], reverse=True)
        for leaving, (entering, number) in zip(quietest, busiest, strict=False):
            if number < MARGIN * (self._listed[leaving].of_this_turn + 1):
                break
            del self._listed[leaving]
            self._listed[entering] = _Counts()
        self._noted.clear()
        for counts in self._listed.values():
            counts.before_this_turn = counts.requests

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "caller_requests", "Requests answered, of the callers with the most requests", labels=["caller"]
        )
        errors = CounterMetricFamily("caller_errors", "Errors answered", labels=["caller", "error"])
        every = [*self._listed.items(), (OTHER, self._others)]
        for name, counts in every:
            requests.add_metric([name], counts.requests)
            for error, number in counts.errors.items():
                errors.add_metric([name, error], number)
        yield requests
        yield errors


@dataclass(slots=True)
class _Counts:
    requests: int = 0
    before_this_turn: int = 0
    errors: dict[str, int] = field(default_factory=dict)

    @property
    def of_this_turn(self) -> int:
        return self.requests - self.before_this_turn
