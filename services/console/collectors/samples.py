"""The metrics of one process at one moment, and figures from two moments: increases, rates, quantiles.

A service may be that of another organisation, so its figures may be anything: NaN, infinity and missing labels, too.

Counters of a process that restarted begin at 0 again: the whole new value is then the increase, as in Prometheus.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from sys import intern
from typing import Final

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

MAX_SAMPLES: Final = 50_000
INFINITY: Final = float("inf")

Labels = Mapping[str, str]


class _SampleLabels(dict[str, str]):
    """The labels of a sample. A label that it does not have is empty, as in Prometheus."""

    def __missing__(self, name: str) -> str:
        return ""


class MetricsError(ValueError):
    """The text is not in Prometheus' format."""


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples of one response of `/metrics`. `at` is the time on the monotonic clock."""

    at: float
    by_name: Mapping[str, Mapping[tuple[str, ...], float]] = field(default_factory=dict)
    """Values by the name of the sample, then by the label values, in the order of `label_names`."""
    label_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def each(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield labels and value of each sample of this name."""
        names = self.label_names.get(name, ())
        for values, value in self.by_name.get(name, {}).items():
            yield _SampleLabels(zip(names, values, strict=True)), value

    def total(self, name: str, **labels: str) -> float | None:
        """Return the sum of all samples with these labels; None if there is none."""
        found = [value for has, value in self.each(name) if _matches(has, labels)]
        return sum(found) if found else None


def parse(text: str, at: float) -> Samples:
    """Read the first MAX_SAMPLES samples of a text in the format of Prometheus. Raises MetricsError."""
    by_name: dict[str, dict[tuple[str, ...], float]] = {}
    label_names: dict[str, tuple[str, ...]] = {}
    try:
        for sample in islice(_samples(text), MAX_SAMPLES):
            if not math.isfinite(sample.value):
                continue
            names = label_names.setdefault(sample.name, tuple(sample.labels))
            # samples of one name have the same labels in our services; a missing one counts as empty
            key = tuple(intern(sample.labels.get(name, "")) for name in names)
            by_name.setdefault(sample.name, {})[key] = sample.value
    except (ValueError, KeyError, IndexError, AttributeError) as error:  # from malformed lines
        raise MetricsError(f"not in Prometheus' text format: {error!s:.200}") from error
    return Samples(at, by_name, label_names)


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


@dataclass(frozen=True, slots=True)
class Window:
    """Two moments of one process, of which `before` is the earlier one."""

    before: Samples
    after: Samples

    @property
    def seconds(self) -> float:
        return self.after.at - self.before.at

    def increases(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        """Yield the labels of each counter of this name, and by how much it has grown: 0 or more."""
        names = self.after.label_names.get(name, ())
        before = self.before.by_name.get(name, {})
        if names != self.before.label_names.get(name, names):
            before = {}
        for values, value in self.after.by_name.get(name, {}).items():
            was = before.get(values, 0.0)
            grown = value - was if value >= was else value
            yield _SampleLabels(zip(names, values, strict=True)), max(grown, 0.0)


def increase(windows: Iterable[Window], name: str, **labels: str) -> float:
    """Return how much the counters with these labels have grown, over all processes."""
    return sum(grown for window in windows for has, grown in window.increases(name) if _matches(has, labels))


def increases_by(
    windows: Iterable[Window], name: str, key: Callable[[Labels], str | None]
) -> dict[str, float]:
    """Return the growth in groups. `key` returns a counter's group; counters for which it returns None do not count."""
    found: dict[str, float] = {}
    for window in windows:
        for labels, grown in window.increases(name):
            group = key(labels) if grown else None
            if group is not None:
                found[group] = found.get(group, 0.0) + grown
    return found


def rate(windows: Sequence[Window], name: str, **labels: str) -> float | None:
    """Return the growth per second, over all processes; None without a window that has a length."""
    rates = [increase([window], name, **labels) / window.seconds for window in windows if window.seconds > 0]
    return sum(rates) if rates else None


def quantile(windows: Sequence[Window], name: str, q: float, **labels: str) -> float | None:
    """Return a quantile of a histogram's observations between two moments; None if there was none.

    Within a bucket observations count as evenly spread, and in the last one (`+Inf`) as at its lower bound, as in
    Prometheus' `histogram_quantile`.
    """
    buckets = _buckets(windows, name, labels)
    total = buckets[-1][1] if buckets else 0.0
    if total <= 0:
        return None
    rank, lower, below = q * total, 0.0, 0.0
    for bound, count in buckets:
        if count >= rank and count > below:
            return lower if bound == INFINITY else lower + (bound - lower) * (rank - below) / (count - below)
        if bound != INFINITY:
            lower = bound
        below = count
    return lower


def mean(windows: Sequence[Window], name: str, **labels: str) -> float | None:
    """Return the mean of a histogram's observations between two moments; None if there was none."""
    count = increase(windows, f"{name}_count", **labels)
    return increase(windows, f"{name}_sum", **labels) / count if count else None


def _buckets(windows: Iterable[Window], name: str, labels: Labels) -> list[tuple[float, float]]:
    """Return upper bound and cumulative count of each bucket. Each process' own counts are cumulative, too."""
    grown: dict[float, float] = {}
    for window in windows:
        for has, value in window.increases(f"{name}_bucket"):
            bound = _bound(has["le"])
            if bound is not None and _matches(has, labels):
                grown[bound] = grown.get(bound, 0.0) + value
    return _rising(sorted(grown.items()))


def _bound(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _rising(buckets: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Make the counts cumulative where a restart between two moments has made them fall."""
    highest, rising = 0.0, []
    for bound, count in buckets:
        highest = max(highest, count)
        rising.append((bound, highest))
    return rising


def _matches(has: Labels, wanted: Labels) -> bool:
    return all(has.get(name) == value for name, value in wanted.items())
