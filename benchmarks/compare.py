"""`make bench-compare BASE=folder`: measure this checkout and the one in BASE under the same load, in turn."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from statistics import median
from typing import Any, Final

from benchmarks import about, overload, report, tables, wrk
from benchmarks.chains import THIS_CHECKOUT, Checkout, Machine, MeasuredChain
from benchmarks.errors import BenchmarkError
from benchmarks.measurement import Measurement
from benchmarks.medians import Ratio, by_pairs, ratio_of
from benchmarks.names import WARM
from benchmarks.options import Options
from benchmarks.rounds import Rounds, Side, order
from benchmarks.targets import six
from benchmarks.workloads import WARM_IDENTIFIERS, mesh_sides

BASE, NEW = "base", "new"
WARM_CONNECTIONS: Final = (1, 8, 32, 128, 512)
OTHER_CONNECTIONS: Final = (128,)


@dataclass(frozen=True)
class Figure:
    """One measured value of a round, with its title and the format in which its median is printed."""

    title: str
    value: Callable[[Measurement], float]
    format: str = ",.0f"


FIGURES: Final = (
    Figure("operations/s", lambda one: one.per_second),
    Figure("p50 ms", lambda one: one.p50_ms, ".1f"),
    Figure("p99 ms", lambda one: one.p99_ms, ".1f"),
    Figure("Python µs", lambda one: sum(six(one.cpu_us))),
    Figure("largest MiB", lambda one: max(six(one.resident_mib)), ".1f"),
)


@dataclass(frozen=True)
class Cell:
    """The rounds of both checkouts under one workload with one number of connections."""

    workload: str
    connections: int
    base: Sequence[Measurement]
    new: Sequence[Measurement]

    def ratio(self, figure: Figure) -> Ratio:
        """Return new to base, round by round."""
        found = by_pairs(self.new, self.base, figure.value)
        assert found is not None  # noqa: S101 - both ran in each round
        return found


@dataclass(frozen=True)
class OverloadedPair:
    """One overload round of both checkouts at the same rate of requests. The keys are "base" and "new"."""

    offered: float
    best: Mapping[str, float]
    """Best rate of each checkout per second: the mean of the rates before and after the overload."""
    results: Mapping[str, Mapping[str, Any]]
    """Counts of the load generator."""


def run(options: Options) -> None:
    """Measure both checkouts; print and write the results. Raises BenchmarkError if a round is not valid."""
    if options.base is None:
        raise BenchmarkError("compare needs another checkout with an environment: BASE=folder")
    wrk.require()
    checkouts = {BASE: Checkout.at(options.base, options.base_settings), NEW: THIS_CHECKOUT}
    on: dict[str, Any] = {}
    cells: list[Cell] = []
    pairs: list[OverloadedPair] = []
    if options.overload != "only":
        with Machine(options.data) as machine:
            on = _about(machine, options)
            cells = _compare(machine, checkouts, options)
    if options.overload:
        # last, because it pins this process to one processor until it ends
        pinned = overload.pin_services()
        with Machine(options.data) as machine:
            on = on or _about(machine, options)
            pairs = _compare_overloaded(machine, checkouts, options, pinned)
    content = {
        "about": on,
        "ratios": [
            {
                "workload": cell.workload,
                "connections": cell.connections,
                **{figure.title: asdict(cell.ratio(figure)) for figure in FIGURES},
            }
            for cell in cells
        ],
        "rounds": [asdict(one) for cell in cells for one in (*cell.base, *cell.new)],
        "overload": [asdict(pair) for pair in pairs],
    }
    report.write(options, "compare", content, described(on, cells, pairs))


def _about(machine: Machine, options: Options) -> dict[str, Any]:
    assert options.base is not None  # noqa: S101 - looked at before
    return {
        **about.about(machine, options, wrk.version()),
        "base_commit": about.commit(options.base),
        "base_settings": options.base_settings,
    }


def _start(
    machine: Machine, checkouts: Mapping[str, Checkout], options: Options
) -> dict[str, dict[str, Side]]:
    """Start the network of each checkout on a separate database.

    Return the sides (chains with their load) by name of the checkout and by workload.
    """
    return {
        name: {
            workload: replace(side, name=f"{name} {workload}")
            for workload, side in mesh_sides(
                machine,
                options.workloads,
                options.data,
                name=name,
                checkout=checkout,
                database=machine.create_database(name),
            ).items()
        }
        for name, checkout in checkouts.items()
    }


def _compare(machine: Machine, checkouts: Mapping[str, Checkout], options: Options) -> list[Cell]:
    sides = _start(machine, checkouts, options)
    rounds = Rounds(machine)
    measured: dict[tuple[str, int], dict[str, list[Measurement]]] = {
        place: {BASE: [], NEW: []} for place in places(options)
    }
    for number in range(options.rounds):
        for position, ((workload, connections), found) in enumerate(measured.items()):
            for name in order((BASE, NEW), number + position):
                side = sides[name][workload]
                one = rounds.measure(side, connections=connections, seconds=options.seconds, number=number)
                found[name].append(one)
                print(one)
    return [Cell(*place, found[BASE], found[NEW]) for place, found in measured.items()]


def places(options: Options) -> Iterator[tuple[str, int]]:
    """Yield each workload with each number of connections at which it is measured."""
    for workload in options.workloads:
        defaults = WARM_CONNECTIONS if workload == WARM else OTHER_CONNECTIONS
        for connections in options.connections or defaults:
            yield workload, connections


def _compare_overloaded(
    machine: Machine, checkouts: Mapping[str, Checkout], options: Options, pinned: tuple[str, ...]
) -> list[OverloadedPair]:
    meshes = {
        name: machine.mesh(name, WARM_IDENTIFIERS, checkout=checkout, database=machine.create_database(name))
        for name, checkout in checkouts.items()
    }
    return [_overload_both(machine, meshes, options, pinned, number) for number in range(options.rounds)]


def _overload_both(
    machine: Machine,
    meshes: Mapping[str, MeasuredChain],
    options: Options,
    pinned: tuple[str, ...],
    number: int,
) -> OverloadedPair:
    names = order((BASE, NEW), number)
    before = {name: overload.best_rate(meshes[name], options, pinned) for name in names}
    # both checkouts get the same rate, which is at least three times the best rate of each
    offered = max(map(itemgetter(1), before.values())) * overload.TIMES
    results = {}
    for name in names:
        results[name] = overload.offer(machine, meshes[name], offered, options, pinned)
        print(f"{name}: {offered:.0f}/s offered, goodput {results[name]['goodput']:.0f}/s")
    after = {name: overload.closed_loop(meshes[name], before[name][0], options, pinned) for name in names}
    best = {name: (before[name][1] + after[name]) / 2 for name in names}
    return OverloadedPair(offered, best, results)


def described(on: dict[str, Any], cells: Sequence[Cell], pairs: Sequence[OverloadedPair]) -> str:
    """Return the results as Markdown."""
    own = "".join(f" {name}={value}" for name, value in on["base_settings"].items())
    parts = [f"# {on['commit']} compared with {on['base_commit']}{own}", report.described(on)]
    if cells:
        measured = [one for cell in cells for one in (*cell.base, *cell.new)]
        parts += [report.noise(measured), "## New to base", _ratios(cells), "## Medians", _medians(cells)]
    if pairs:
        parts += ["## Overload", _overloaded(pairs)]
    return report.joined(parts)


def _ratios(cells: Sequence[Cell]) -> str:
    return tables.table(
        ("workload", "connections", *(figure.title for figure in FIGURES)),
        (
            (
                cell.workload,
                str(cell.connections),
                *(tables.ratio_text(cell.ratio(figure)) for figure in FIGURES),
            )
            for cell in cells
        ),
    )


def _medians(cells: Sequence[Cell]) -> str:
    def text(cell: Cell, figure: Figure) -> str:
        base, new = (median(map(figure.value, rounds)) for rounds in (cell.base, cell.new))
        return f"{base:{figure.format}} → {new:{figure.format}}"

    return tables.table(
        ("base → new", "connections", *(figure.title for figure in FIGURES)),
        (
            (cell.workload, str(cell.connections), *(text(cell, figure) for figure in FIGURES))
            for cell in cells
        ),
    )


def _overloaded(pairs: Sequence[OverloadedPair]) -> str:
    """Return a Markdown table: one line for each value, with both medians and the ratio of new to base."""
    values: Mapping[str, Callable[[OverloadedPair, str], float]] = {
        "best rate/s": lambda pair, name: pair.best[name],
        "goodput/s": lambda pair, name: pair.results[name]["goodput"],
        "p50 ms of 200s": lambda pair, name: pair.results[name]["p50_ms"],
        "p99 ms of 200s": lambda pair, name: pair.results[name]["p99_ms"],
    }
    lines = [
        (
            title,
            f"{median(value(pair, BASE) for pair in pairs):,.0f}",
            f"{median(value(pair, NEW) for pair in pairs):,.0f}",
            tables.ratio_text(ratio_of([value(pair, NEW) / value(pair, BASE) for pair in pairs])),
        )
        for title, value in values.items()
    ]
    offered = median(pair.offered for pair in pairs)
    head = (f"median of {len(pairs)} rounds, {offered:,.0f}/s offered", BASE, NEW, "new to base")
    return tables.table(head, lines)
