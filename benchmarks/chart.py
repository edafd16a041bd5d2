"""Draw the chart of `make bench`: operations per second by number of connections, and processor time by process."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.medians import MedianRow
from benchmarks.names import BARE, DIRECTORY, GENERATOR, MAKE_RUN, POSTGRES, WARM

COSTS_AT: Final = 128
MARKED: Final = {BARE: "#8a8f98", WARM: "#1f6feb"}
NOT_A_HOP: Final = {DIRECTORY: "#d8b365", MAKE_RUN: "#cccccc", POSTGRES: "#555555"}
HOPS: Final = ("#08306b", "#08519c", "#2171b5", "#4292c6", "#6baed6", "#9ecae1")
OTHERS: Final = ("#2ca02c", "#98df8a", "#9467bd", "#ff7f0e", "#d62728")


def draw(rows: Sequence[MedianRow], file: Path) -> None:
    """Write the SVG, with text as text."""
    # a fixed salt keeps the names of SVG elements the same from run to run
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}):
        figure = Figure(figsize=(11, 5), layout="constrained")
        rates, costs = figure.subplots(1, 2)
        _draw_rates(rates, rows)
        _draw_costs(costs, rows)
        figure.savefig(file, metadata={"Date": None})


def _draw_rates(axes: Axes, rows: Sequence[MedianRow]) -> None:
    others = iter(OTHERS)
    for side in dict.fromkeys(row.side for row in rows):
        own = [row for row in rows if row.side == side]
        places = [(row.connections, row.per_second) for row in own]
        colour = MARKED.get(side) or next(others)
        axes.plot(*zip(*places, strict=True), marker="o", label=side, color=colour, linewidth=2)
        for row, place in zip(own, places, strict=True) if side == WARM else ():
            if row.to_bare:
                text = f"{row.to_bare.median:.1f} times bare"
                axes.annotate(text, place, (0, -14), textcoords="offset points", ha="center", color=colour)
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted({row.connections for row in rows}))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.1)
    axes.set_title("operations a second")
    axes.set_xlabel("connections")
    axes.legend()


def _draw_costs(axes: Axes, rows: Sequence[MedianRow]) -> None:
    largest = max(row.connections for row in rows)
    shown_at = COSTS_AT if any(row.connections == COSTS_AT for row in rows) else largest
    shown = [row for row in rows if row.connections == shown_at]
    for place, row in enumerate(shown):
        _draw_processes(axes, place, row, is_named=row == shown[-1])
    axes.set_yticks(range(len(shown)), [row.side for row in shown])
    axes.invert_yaxis()
    axes.set_title(f"µs of processor time an operation, at {shown_at} connections")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=3, frameon=False)


def _draw_processes(axes: Axes, place: int, row: MedianRow, *, is_named: bool) -> None:
    """Draw one bar with a part for each process. The parts have the order in which a request passes the processes."""
    hops, left = iter(HOPS), 0.0
    for name, us in row.cpu_us.items():
        if name == GENERATOR:
            continue
        colour = NOT_A_HOP.get(name) or next(hops, None)
        if colour is None:
            continue  # not a part of the chain, and idle
        label = name if is_named else None
        axes.barh(place, us, left=left, color=colour, edgecolor="white", linewidth=0.5, label=label)
        left += us
