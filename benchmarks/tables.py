"""Results as Markdown tables. Pure: no I/O."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.medians import MedianRow, Ratio
from benchmarks.names import GENERATOR
from benchmarks.targets import TargetOutcome, python_cpu_us


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table with padded cells: the first column aligned left, all others right."""
    cells = [list(head), *(list(line) for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def aligned(line: Sequence[str]) -> str:
        first, *others = line
        padded = [
            first.ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)),
        ]
        return f"| {' | '.join(padded)} |"

    return "\n".join(aligned(line) for line in (cells[0], ruler, *cells[1:]))


def rates(rows: Sequence[MedianRow]) -> str:
    """Return the table of rates and response times by workload and number of connections."""
    head = ("workload", "connections", "operations/s", "p50 ms", "p99 ms", "to bare", "to warm")
    return table(
        head,
        (
            (
                row.side,
                str(row.connections),
                f"{row.per_second:,.0f}",
                f"{row.p50_ms:.1f}",
                f"{row.p99_ms:.1f}",
                ratio_text(row.to_bare) if row.to_bare else "",
                ratio_text(row.to_warm) if row.to_warm else "",
            )
            for row in rows
        ),
    )


def ratio_text(ratio: Ratio) -> str:
    """Return a ratio as text: the median, and in parentheses the minimum and maximum of all rounds."""
    return f"{ratio.median:.2f} ({ratio.min:.2f} to {ratio.max:.2f})"


def processor_times(rows: Sequence[MedianRow]) -> str:
    """Return a table of one side's processor time per operation by process (line) and connections (column)."""
    columns = {_title(row): {**_but_generator(row), "Python of the six": python_cpu_us(row)} for row in rows}
    return _by_process("µs per operation", columns)


def _but_generator(row: MedianRow) -> dict[str, float]:
    return {name: us for name, us in row.cpu_us.items() if name != GENERATOR}


def memory(rows: Sequence[MedianRow]) -> str:
    """Return a table of one side's resident memory by process (line) and connections (column)."""
    return _by_process("MiB resident", {_title(row): row.resident_mib for row in rows})


def _title(row: MedianRow) -> str:
    return f"at {row.connections}"


def _by_process(what: str, columns: Mapping[str, Mapping[str, float]]) -> str:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return table(
        (what, *columns),
        ((name, *(f"{column[name]:,.0f}" for column in columns.values())) for name in names),
    )


def targets_table(outcomes: Sequence[TargetOutcome]) -> str:
    """Return the table of targets and measured values."""
    words = {True: "yes", False: "no", None: ""}
    return table(
        ("target", "limit", "measured", "met"),
        ((one.name, one.limit, one.measured, words[one.is_met]) for one in outcomes),
    )
