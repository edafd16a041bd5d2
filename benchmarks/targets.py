"""The targets of the benchmarks, and the check whether measured values meet them. Pure: no I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from benchmarks.medians import MedianRow, Ratio
from benchmarks.names import COLD, COLD_ALONE, DIRECTORY, GENERATOR, MAKE_RUN, PAY, POSTGRES, WARM

NOT_OF_THE_CHAIN: Final = {DIRECTORY, GENERATOR, MAKE_RUN, POSTGRES}
Rows: TypeAlias = Mapping[tuple[str, int], MedianRow]


@dataclass(frozen=True)
class TargetOutcome:
    """A target and the measured value, as printed text. `is_met` is None if the value was not measured."""

    name: str
    limit: str
    measured: str
    is_met: bool | None


@dataclass(frozen=True)
class Target:
    """An upper or a lower limit for a measured value."""

    name: str
    limit: float
    is_upper: bool
    unit: str = " times"

    def outcome(self, value: float | None) -> TargetOutcome:
        """Compare the limit with a measured value and return the outcome. `value` is None if it was not measured."""
        limit = f"{'at most' if self.is_upper else 'at least'} {self.limit:g}{self.unit}"
        if value is None:
            return TargetOutcome(self.name, limit, "not measured", None)
        is_met = value <= self.limit if self.is_upper else value >= self.limit
        return TargetOutcome(self.name, limit, f"{value:,.4g}{self.unit}", is_met)


def at_most(name: str, limit: float, unit: str = " times") -> Target:
    return Target(name, limit, is_upper=True, unit=unit)


def at_least(name: str, limit: float, unit: str = " times") -> Target:
    return Target(name, limit, is_upper=False, unit=unit)


def outcomes(rows: Sequence[MedianRow]) -> list[TargetOutcome]:
    """Compare each target of `make bench` with the measured value."""
    found = {(row.side, row.connections): row for row in rows}
    return [target.outcome(measure(found)) for target, measure in TARGETS]


def six(by_process: Mapping[str, float]) -> list[float]:
    """Return the values of the six services of the chain; leave out directory, Postgres, wrk and `make run`."""
    return [value for name, value in by_process.items() if name not in NOT_OF_THE_CHAIN]


def python_cpu_us(row: MedianRow) -> float:
    """Return the processor time per operation of the six services together."""
    return sum(six(row.cpu_us))


def _of(
    side: str, connections: int, value: Callable[[MedianRow], float | Ratio | None]
) -> Callable[[Rows], float | None]:
    """Return a function that gets a value from the row of a side. If the value is a ratio, it returns its median.

    It returns None if the side was not measured at this number of connections.
    """

    def measure(rows: Rows) -> float | None:
        row = rows.get((side, connections))
        found = value(row) if row else None
        return found.median if isinstance(found, Ratio) else found

    return measure


TARGETS: Final = (
    (at_most("1 connection: p50 compared with bare", 1.3), _of(WARM, 1, lambda row: row.p50_to_bare)),
    *(
        (
            at_least(f"{connections} connections: quotes/s compared with bare", limit),
            _of(WARM, connections, lambda row: row.to_bare),
        )
        for connections, limit in ((8, 1.5), (32, 2.7), (128, 4.5), (512, 6.0))
    ),
    (
        at_most("512 connections: p99 compared with p50", 4),
        _of(WARM, 512, lambda row: row.p99_ms / row.p50_ms),
    ),
    (
        at_least("cold compared with warm at 128, the directory takes batches", 0.7),
        _of(COLD, 128, lambda row: row.to_warm),
    ),
    (
        at_least("cold compared with warm at 128, the directory takes no batches", 0.5),
        _of(COLD_ALONE, 128, lambda row: row.to_warm),
    ),
    (at_least("pay compared with warm at 128, in operations/s", 0.8), _of(PAY, 128, lambda row: row.to_warm)),
    (at_most("Python per quote at 128, six services", 230, " µs"), _of(WARM, 128, python_cpu_us)),
    (
        at_most("largest of the six services at 512", 90, " MiB"),
        _of(WARM, 512, lambda row: max(six(row.resident_mib))),
    ),
)
