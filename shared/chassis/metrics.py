"""Metrics of a service in Prometheus' form (wire.md §6)."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_LATENCY_BOUNDS: Final = [*(str(float(bound)) for bound in _LATENCY_BUCKETS), "+Inf"]
_BATCH_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_000)


class RequestMetrics(Collector):
    """The metrics registry of a service, and the metrics about its requests.

    Answered requests are counted in plain numbers, which become samples only when Prometheus collects them. The
    counters of prometheus_client take a lock for each sample, which would cost more than the rest of a request's log
    line.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.in_flight = Gauge("requests_in_flight", "Requests in flight", registry=self.registry)
        self.batch_lines = Histogram(
            "batch_lines", "Lines of a received batch", buckets=_BATCH_BUCKETS, registry=self.registry
        )
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, _DurationHistogram] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. ``method`` and ``route`` are labels, so they must have few different values."""
        key = (method, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = _DurationHistogram()
        durations.sum += seconds
        durations.buckets[bisect_left(_LATENCY_BUCKETS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("requests", "Requests answered", labels=["method", "route", "status"])
        for (method, route, status), number in self._requests.items():
            requests.add_metric([method, route, str(status)], number)
        yield requests
        durations = HistogramMetricFamily(
            "request_duration_seconds", "Time from request to response", labels=["route"]
        )
        for route, each in self._durations.items():
            buckets = list(zip(_LATENCY_BOUNDS, accumulate(each.buckets), strict=True))
            durations.add_metric([route], buckets, each.sum)
        yield durations


class _DurationHistogram:
    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_LATENCY_BUCKETS) + 1)
        self.sum = 0.0
