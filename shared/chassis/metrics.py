"""The metrics registry of a service, and the metrics about its requests, in Prometheus' form (docs/metrics.md).

Answered requests are kept as plain numbers. They are added to the counts many at a time, and become samples only when
Prometheus collects them. The counters of prometheus_client take a lock for each sample, which would cost more than the
rest of a request's log line.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.caller_counts import MAX_LISTED, CallerCounts
from chassis.errors import error_ids
from chassis.histogram import Histogram

OTHER: Final = "other"
MAX_RECENT: Final = 1_000
"""Maximum number of answered requests that are not in the counts yet. More of them would only take memory."""

Rejection = Literal["overload", "queue_full", "capacity", "shutdown"]

Outcome = tuple[str | None, str, str, int, str | None, bool]
"""Caller, method, route, status, error id, and whether the next hop raised the error and this service passed it on.

Method and route are labels, so they must have few different values. Caller and error id may have any. The error id is
None for a success.
"""

# Prometheus does not need the time at which each counter was created: the process has a start time
disable_created_metrics()  # type: ignore[no-untyped-call]


class RequestMetrics(Collector):
    """The metrics registry of a service, and the metrics about its requests."""

    def __init__(self, max_callers: int = MAX_LISTED) -> None:
        """`max_callers` limits the callers that are listed by name."""
        self.registry = CollectorRegistry()
        self.callers = CallerCounts(max_callers)
        self.rejected: dict[Rejection, int] = {"overload": 0, "queue_full": 0, "capacity": 0, "shutdown": 0}
        self._recent: dict[Outcome, list[float]] = {}
        """Durations of the answered requests that have not been added to the counts, by outcome."""
        self._recent_waits: list[float] = []
        """For each of these requests, the seconds from its arrival at this machine until it began."""
        self._waits = Histogram()
        self._operations: dict[tuple[str, str], _Operation] = {}
        self._error_ids = error_ids()
        self.registry.register(self)

    def know_errors(self, ids: Iterable[str]) -> None:
        """Use these error ids as labels, like those of chassis.errors. All other ids are counted as `other`."""
        self._error_ids |= set(ids)

    def count(self, outcome: Outcome, seconds: float, waited: float) -> None:
        """Count one answered request.

        ``seconds`` is the time from the arrival of the request at this machine to its answer, ``waited`` the part of it
        before the request began.
        """
        durations = self._recent.get(outcome)
        if durations is None:
            self._recent[outcome] = [seconds]
        else:
            durations.append(seconds)
        self._recent_waits.append(waited)
        if len(self._recent_waits) >= MAX_RECENT:
            self._add_recent()

    def _add_recent(self) -> None:
        """Add the latest answered requests to the counts."""
        recent, self._recent = self._recent, {}
        for (caller, method, route, status, error, is_upstream), durations in recent.items():
            operation = self._operations.get((method, route))
            if operation is None:
                operation = self._operations[method, route] = _Operation()
            # the next hop may be another company's, with unknown ids
            label = error if error is None or error in self._error_ids else OTHER
            operation.outcomes[status, label, is_upstream] += len(durations)
            operation.durations.observe(*durations)
            if caller is not None:
                self.callers.count(caller, label, len(durations))
        waits, self._recent_waits = self._recent_waits, []
        self._waits.observe(*waits)

    def collect(self) -> Iterator[Metric]:
        self._add_recent()
        requests = CounterMetricFamily("requests", "Requests answered", labels=["method", "route", "status"])
        durations = HistogramMetricFamily(
            "request_duration_seconds", "Time from request to response", labels=["method", "route"]
        )
        errors = CounterMetricFamily(
            "request_errors",
            "Errors answered, raised by this service (own) or by the next hop (upstream)",
            labels=["method", "route", "status", "error", "origin"],
        )
        for (method, route), operation in self._operations.items():
            statuses: Counter[int] = Counter()
            for (status, error, is_upstream), number in operation.outcomes.items():
                statuses[status] += number
                if error is not None:
                    origin = "upstream" if is_upstream else "own"
                    errors.add_metric([method, route, str(status), error, origin], number)
            for status, number in statuses.items():
                requests.add_metric([method, route, str(status)], number)
            operation.durations.add_to(durations, [method, route])
        rejected = CounterMetricFamily(
            "requests_rejected", "Requests rejected before they began", labels=["reason"]
        )
        for reason, number in self.rejected.items():
            rejected.add_metric([reason], number)
        waits = HistogramMetricFamily(
            "request_wait_seconds", "Time from the arrival of a request until it begins", labels=[]
        )
        self._waits.add_to(waits, [])
        yield from (requests, durations, waits, errors, rejected)
        yield from self.callers.collect()


class _Operation:
    __slots__ = ("durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[int, str | None, bool]] = Counter()
        """How many requests by status, error id, and whether the next hop raised the error."""
        self.durations = Histogram()
