"""The last looks at one service: its replicas, and figures over the last seconds and the last hour.

Everything is in memory and bounded: metrics of the last minute, and one point every ten seconds for the last hour.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from console.collectors.look import Health, Look
from console.collectors.samples import Samples, Window, quantile, rate

RECENT_SECONDS: Final = 15.0
"""Rates are means over this time."""
QUANTILE_SECONDS: Final = 60.0
"""Quantiles are over the requests of this time."""
KEPT_APART_SECONDS: Final = 5.0
POINT_SECONDS: Final = 10.0
MAX_POINTS: Final = 360
REQUESTS: Final = "requests_total"
IN_FLIGHT: Final = "requests_in_flight"
PROCESS_START: Final = "process_start_time_seconds"
DURATIONS: Final = "request_duration_seconds"
_WORST_FIRST: Final = (Health.AWAY, Health.FROZEN, Health.NOT_READY, Health.STOPPING, Health.READY)


@dataclass(frozen=True, slots=True)
class Point:
    """Figures of ten seconds. `at` is in seconds since 1970; None stands for unknown."""

    at: float
    rate: float | None
    error_rate: float | None
    p99_seconds: float | None
    in_flight: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a service's last seconds. `at` is the time of the metrics in seconds since 1970. None stands for unknown.

    Rates are per second. Errors are responses with status 500 and above; `refusals` are those with 400 to 499.
    """

    at: float
    rate: float | None
    error_rate: float | None
    refusal_rate: float | None
    p50_seconds: float | None
    p99_seconds: float | None
    in_flight: float | None
    queued: float | None
    versions: tuple[str, ...]


@dataclass
class _Replica:
    """Last look at one replica, and its figures. `kept` has its metrics of the last minute, the oldest first."""

    look: Look
    kept: deque[Samples] = field(default_factory=deque)
    metrics_at: float | None = None
    """Time of the newest metrics in seconds since 1970."""
    previous: Samples | None = None
    """The metrics of the look before the last one, if both had metrics."""
    point_base: Samples | None = None
    restarted_at: float | None = None
    """Time of the look that found the process restarted, in seconds since 1970."""


class ServiceRecord:
    """Last looks at one service, and its figures."""

    def __init__(self, name: str, origin: str) -> None:
        self.name = name
        self.origin = origin
        self.points: deque[Point] = deque(maxlen=MAX_POINTS)
        self._replicas: dict[str, _Replica] = {}

    @property
    def looks(self) -> Sequence[Look]:
        """The last look at each replica."""
        return [each.look for each in self._replicas.values()]

    @property
    def health(self) -> Health:
        """The worst state of a replica; AWAY before the first look."""
        found = {look.health for look in self.looks}
        return next((each for each in _WORST_FIRST if each in found), Health.AWAY)

    @property
    def is_known(self) -> bool:
        """Whether the console has looked at the service."""
        return bool(self._replicas)

    def add(self, looks: Sequence[Look]) -> None:
        """Store the looks of one round. Replicas that are not among them are forgotten: their address is gone."""
        before, self._replicas = self._replicas, {}
        for look in looks:
            replica = before.get(look.replica) or _Replica(look)
            replica.look = look
            replica.previous = replica.kept[-1] if replica.kept else None
            if look.samples is not None:
                if _is_restarted(replica.kept, look.samples):
                    replica.restarted_at = look.at
                _keep(replica.kept, look.samples)
                replica.metrics_at = look.at
                replica.point_base = replica.point_base or look.samples
            else:
                replica.previous = None
            self._replicas[look.replica] = replica

    @property
    def restarted_at(self) -> float | None:
        """The time when a replica was last found restarted, in seconds since 1970; None if none was."""
        known = [each.restarted_at for each in self._replicas.values() if each.restarted_at is not None]
        return max(known, default=None)

    def last_windows(self) -> list[Window]:
        """Return, for each replica that answered, the time between its last two looks."""
        return [
            Window(each.previous, each.look.samples)
            for each in self._replicas.values()
            if each.previous is not None and each.look.samples is not None
        ]

    def windows(self, seconds: float) -> list[Window]:
        """Return, for each replica that has metrics, the window that ends with its newest metrics.

        It has about this length, and is shorter if the console has looked for a shorter time.
        """
        return [
            Window(_base(each.kept, seconds), each.kept[-1])
            for each in self._replicas.values()
            if len(each.kept) > 1
        ]

    def gauge(self, name: str, **labels: str) -> float | None:
        """Return the sum of a gauge over all replicas; None if none has it."""
        found = [value for each in self.newest() if (value := each.total(name, **labels)) is not None]
        return sum(found) if found else None

    def highest(self, name: str, **labels: str) -> float | None:
        """Return the highest value of a gauge that every replica reads from the same database; None if none has it."""
        found = [value for each in self.newest() if (value := each.total(name, **labels)) is not None]
        return max(found) if found else None

    def metrics_at(self) -> float | None:
        """Return the time of the oldest among the newest metrics of the replicas, in seconds since 1970."""
        known = [each.metrics_at for each in self._replicas.values() if each.metrics_at is not None]
        return min(known, default=None)

    def figures(self) -> Figures | None:
        """Return the figures of the newest metrics; None if the service has never answered."""
        at = self.metrics_at()
        if at is None:
            return None
        recent, minute = self.windows(RECENT_SECONDS), self.windows(QUANTILE_SECONDS)
        return Figures(
            at,
            rate(recent, REQUESTS),
            _status_rate(recent, "5"),
            _status_rate(recent, "4"),
            quantile(minute, DURATIONS, 0.5),
            quantile(minute, DURATIONS, 0.99),
            self._in_flight(),
            self.gauge("requests_queued"),
            tuple(sorted(self._versions())),
        )

    def add_point(self, at: float) -> None:
        """Add a point for the time since the last one."""
        windows = []
        for each in self._replicas.values():
            if each.look.samples is not None and each.point_base is not None:
                if each.look.samples.at > each.point_base.at:
                    windows.append(Window(each.point_base, each.look.samples))
                each.point_base = each.look.samples
        answers = bool(windows)
        self.points.append(
            Point(
                at,
                rate(windows, REQUESTS),
                _status_rate(windows, "5"),
                quantile(windows, DURATIONS, 0.99),
                self._in_flight() if answers else None,
            )
        )

    def _in_flight(self) -> float | None:
        """Return the requests in flight, without the console's own request for the metrics."""
        found = [value - 1 for each in self.newest() if (value := each.total(IN_FLIGHT)) is not None]
        return sum(max(value, 0.0) for value in found) if found else None

    def newest(self) -> Iterator[Samples]:
        """Yield the newest metrics of each replica, however old they are."""
        return (each.kept[-1] for each in self._replicas.values() if each.kept)

    def _versions(self) -> set[str]:
        return {
            labels["version"]
            for each in self.newest()
            for labels, _ in each.each("service_build_info")
            if labels.get("version")
        }


def _status_rate(windows: Sequence[Window], first_digit: str) -> float | None:
    """Return the responses per second whose status begins with this digit."""
    found = [
        sum(grown for labels, grown in each.increases(REQUESTS) if labels["status"].startswith(first_digit))
        / each.seconds
        for each in windows
        if each.seconds > 0
    ]
    return sum(found) if found else None


def _keep(kept: deque[Samples], new: Samples) -> None:
    """Append metrics. Keep older ones KEPT_APART_SECONDS apart, and only one that is older than QUANTILE_SECONDS."""
    if len(kept) > 1 and new.at - kept[-2].at < KEPT_APART_SECONDS:
        kept.pop()
    kept.append(new)
    while len(kept) > 2 and new.at - kept[1].at > QUANTILE_SECONDS:  # noqa: PLR2004 - the window needs two
        kept.popleft()


def _base(kept: deque[Samples], seconds: float) -> Samples:
    """Return the newest metrics that are at least `seconds` older than the last ones; else the oldest."""
    end = kept[-1].at
    for each in reversed(kept):
        if end - each.at >= seconds:
            return each
    return kept[0]


def _is_restarted(kept: deque[Samples], new: Samples) -> bool:
    before = kept[-1].total(PROCESS_START) if kept else None
    after = new.total(PROCESS_START)
    return before is not None and after is not None and before != after
