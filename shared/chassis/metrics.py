"""The metrics registry of a service, and the metrics about its requests, in Prometheus' form (docs/metrics.md).

Answered requests are counted in plain numbers, which become samples only when Prometheus collects them. The counters of
prometheus_client take a lock for each sample, which would cost more than the rest of a request's log line.
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

Rejection = Literal["overload", "queue_full", "capacity", "shutdown"]

# Prometheus does not need the time at which each counter was created: the process has a start time
disable_created_metrics()  # type: ignore[no-untyped-call]


class RequestMetrics(Collector):
    """The metrics registry of a service, and the metrics about its requests."""

    def __init__(self, max_callers: int = MAX_LISTED) -> None:
        """`max_callers` limits the callers that are listed by name."""
        self.registry = CollectorRegistry()
        self.callers = CallerCounts(max_callers)
        self.rejected: dict[Rejection, int] = {"overload": 0, "queue_full": 0, "capacity": 0, "shutdown": 0}
        self.waits = Histogram()
        """Seconds from the arrival of a request at this machine until it begins."""
        self._operations: dict[tuple[str, str], _Operation] = {}
        self._error_ids = error_ids()
        self.registry.register(self)
        self.registry.register(self.callers)

    def know_errors(self, ids: Iterable[str]) -> None:
        """Use these error ids as labels, like those of chassis.errors. All other ids are counted as `other`."""
        self._error_ids |= set(ids)

    def count(
        self, method: str, route: str, status: int, seconds: float, error: str | None, *, is_upstream: bool
    ) -> None:
        """Count one answered request. ``method`` and ``route`` are labels, so they must have few different values.

        ``error`` is the id of an error, None for a success. ``is_upstream`` is true for an error that the next hop
        raised and this service passed on.
        """
        operation = self._operations.get((method, route))
        if operation is None:
            operation = self._operations[method, route] = _Operation()
        outcome = status, error if error is None else self.error_label(error), is_upstream
        operation.outcomes[outcome] = operation.outcomes.get(outcome, 0) + 1
        operation.durations.observe(seconds)

    def error_label(self, error: str) -> str:
        """Return the error's id if it is known, else `other`: the next hop may be another company's, with unknown ids."""
        return error if error in self._error_ids else OTHER

    def collect(self) -> Iterator[Metric]:
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
        self.waits.add_to(waits, [])
        yield from (requests, durations, waits, errors, rejected)


class _Operation:
    __slots__ = ("durations", "outcomes")

    def __init__(self) -> None:
        self.outcomes: dict[tuple[int, str | None, bool], int] = {}
        """How many requests by status, error id, and whether the next hop raised the error."""
        self.durations = Histogram()
