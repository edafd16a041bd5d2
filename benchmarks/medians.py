"""Summarise the rounds of each side (a chain with its load) as medians and ratios. Pure: no I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.measurement import Measurement
from benchmarks.names import BARE, WARM


@dataclass(frozen=True)
class Ratio:
    """Median, minimum and maximum of a ratio. Each round gives one: a value of one side divided by the other side's."""

    median: float
    min: float
    max: float


def ratio_of(rounds: Sequence[float]) -> Ratio:
    """Return the median, minimum and maximum of the ratios of single rounds. There must be at least one."""
    return Ratio(median(rounds), min(rounds), max(rounds))


@dataclass(frozen=True)
class MedianRow:
    """Medians of all rounds of one side at one number of connections.

    `to_bare` and `to_warm` are its operations per second divided by those of the sides "bare" and "warm"
    (benchmarks.names). A ratio is None if the other side did not run.
    """

    side: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    to_bare: Ratio | None
    to_warm: Ratio | None
    p50_to_bare: Ratio | None
    cpu_us: dict[str, float]
    resident_mib: dict[str, float]


def rows(measured: Sequence[Measurement]) -> list[MedianRow]:
    """Return one row for each side and number of connections, in the order in which they were first measured."""
    places = dict.fromkeys((one.side, one.connections) for one in measured)
    return [_row(side, connections, measured) for side, connections in places]


def _row(side: str, connections: int, measured: Sequence[Measurement]) -> MedianRow:
    at = [one for one in measured if one.connections == connections]
    own = [one for one in at if one.side == side]

    def ratio_to(other: str, value: Callable[[Measurement], float]) -> Ratio | None:
        return by_pairs(own, [one for one in at if one.side == other], value) if other != side else None

    return MedianRow(
        side,
        connections,
        per_second=median(one.per_second for one in own),
        p50_ms=median(one.p50_ms for one in own),
        p99_ms=median(one.p99_ms for one in own),
        to_bare=ratio_to(BARE, lambda one: one.per_second),
        to_warm=ratio_to(WARM, lambda one: one.per_second) if side != BARE else None,
        p50_to_bare=ratio_to(BARE, lambda one: one.p50_ms),
        cpu_us=_by_name([one.cpu_us for one in own]),
        resident_mib=_by_name([one.resident_mib for one in own]),
    )


def by_pairs(
    ours: Sequence[Measurement], others: Sequence[Measurement], value: Callable[[Measurement], float]
) -> Ratio | None:
    """Divide our value by the others' value in each round and summarise the ratios; None if no round has both.

    Divides values of the same round, because a slow moment of the machine slows both sides.
    """
    other = {one.round: value(one) for one in others}
    ratios = [value(one) / other[one.round] for one in ours if one.round in other]
    return ratio_of(ratios) if ratios else None


def _by_name(each: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: median(one[name] for one in each) for name in each[0]}
