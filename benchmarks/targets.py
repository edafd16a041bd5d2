"""What is aimed at, beside what was measured. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from benchmarks.medians import Ratio, Row
from benchmarks.names import COLD, COLD_ALONE, DIRECTORY, GENERATOR, MAKE_RUN, PAY, POSTGRES, WARM

NOT_OF_THE_SIX: Final = {DIRECTORY, GENERATOR, MAKE_RUN, POSTGRES}
Rows: TypeAlias = Mapping[tuple[str, int], Row]


@dataclass(frozen=True)
class Outcome:
    """A target as it is printed; `is_met` is None where nothing was measured."""

    what: str
    wanted: str
    measured: str
    is_met: bool | None


@dataclass(frozen=True)
class Target:
    """What a value shall be at most, or at least."""

    what: str
    limit: float
    is_most: bool
    unit: str = " times"

    def beside(self, value: float | None) -> Outcome:
        """None where a run has left out what it needs."""
        wanted = f"{'at most' if self.is_most else 'at least'} {self.limit:g}{self.unit}"
        if value is None:
            return Outcome(self.what, wanted, "not measured", None)
        is_met = value <= self.limit if self.is_most else value >= self.limit
        return Outcome(self.what, wanted, f"{value:,.4g}{self.unit}", is_met)


def most(what: str, limit: float, unit: str = " times") -> Target:
    return Target(what, limit, is_most=True, unit=unit)


def least(what: str, limit: float, unit: str = " times") -> Target:
    return Target(what, limit, is_most=False, unit=unit)


def outcomes(rows: Sequence[Row]) -> list[Outcome]:
    """Each target of `make bench` beside what was measured."""
    found = {(row.side, row.connections): row for row in rows}
    return [target.beside(measure(found)) for target, measure in TARGETS]


def six(by_process: Mapping[str, float]) -> list[float]:
    """The values of a chain's own six Python processes: the directory is any network's."""
    return [value for name, value in by_process.items() if name not in NOT_OF_THE_SIX]


def python_cpu_us(row: Row) -> float:
    """Of all six together."""
    return sum(six(row.cpu_us))


def _of(
    side: str, connections: int, value: Callable[[Row], float | Ratio | None]
) -> Callable[[Rows], float | None]:
    """The value of one row, of a ratio its median; None where there is no such row or ratio."""

    def measure(rows: Rows) -> float | None:
        row = rows.get((side, connections))
        found = value(row) if row else None
        return found.median if isinstance(found, Ratio) else found

    return measure


TARGETS: Final = (
    (most("1 connection: p50 to bare's", 1.3), _of(WARM, 1, lambda row: row.p50_to_bare)),
    *(
        (
            least(f"{connections} connections: quotes/s to bare's", limit),
            _of(WARM, connections, lambda row: row.to_bare),
        )
        for connections, limit in ((8, 1.5), (32, 2.7), (128, 4.5), (512, 6.0))
    ),
    (most("512 connections: p99 to p50", 4), _of(WARM, 512, lambda row: row.p99_ms / row.p50_ms)),
    (
        least("cold to warm at 128, the directory takes batches", 0.7),
        _of(COLD, 128, lambda row: row.to_warm),
    ),
    (
        least("cold to warm at 128, the directory takes none", 0.5),
        _of(COLD_ALONE, 128, lambda row: row.to_warm),
    ),
    (least("pay to warm at 128, in operations", 0.8), _of(PAY, 128, lambda row: row.to_warm)),
    (most("processor time a quote at 128, six processes", 230, " µs"), _of(WARM, 128, python_cpu_us)),
    (
        most("largest of the six processes at 512", 90, " MiB"),
        _of(WARM, 512, lambda row: max(six(row.resident_mib))),
    ),
)
