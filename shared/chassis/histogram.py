"""A histogram in plain numbers, which become samples only when Prometheus collects them.

The histogram of prometheus_client takes a lock for each value, which costs more than the rest of a request's log line.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client.core import HistogramMetricFamily

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
"""Bounds for the duration of requests and statements."""
ITEMS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_000)
"""Bounds for the number of items in a batch."""


class Histogram:
    """How many of the observed values are at most as large as each bound."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = bounds
        self._buckets = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, *values: float) -> None:
        bounds, buckets = self._bounds, self._buckets
        for value in values:
            buckets[bisect_left(bounds, value)] += 1
        self._sum += sum(values)

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add the samples of this histogram to a metric that Prometheus collects."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family.add_metric(labels, list(zip(names, accumulate(self._buckets), strict=True)), self._sum)


def labelled(
    name: str, meaning: str, label: str, histograms: Mapping[str, Histogram]
) -> HistogramMetricFamily:
    """Return the metric of several histograms, each with its own value of one label."""
    metric = HistogramMetricFamily(name, meaning, labels=[label])
    for value, histogram in histograms.items():
        histogram.add_to(metric, [value])
    return metric
