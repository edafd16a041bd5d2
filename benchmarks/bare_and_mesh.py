"""`make bench`: measure the bare chain and this project's chain ("mesh"); write tables, JSON and a chart."""

from dataclasses import asdict
from typing import Final

from benchmarks import chart, report, targets, wrk
from benchmarks.about import about
from benchmarks.chains import Machine
from benchmarks.medians import rows
from benchmarks.options import Options
from benchmarks.rounds import Rounds
from benchmarks.workloads import sides

CONNECTIONS: Final = (1, 8, 32, 128, 512)


def run(options: Options) -> None:
    """Measure both chains, print the results and write them to files. Raises BenchmarkError if a round is not valid."""
    wrk.require()
    with Machine(options.data) as machine:
        on = about(machine, options, wrk.version())
        compared = sides(machine, options.workloads, options.data)
        measured = Rounds(machine).run(
            compared,
            connections=options.connections or CONNECTIONS,
            rounds=options.rounds,
            seconds=options.seconds,
            show=print,
        )
    found = rows(measured)
    content = {
        "about": on,
        "medians": [asdict(row) for row in found],
        "targets": [asdict(one) for one in targets.outcomes(found)],
        "rounds": [asdict(one) for one in measured],
    }
    report.write(options, "results", content, report.comparison(on, measured, found))
    chart.draw(found, options.text_folder / "chart.svg")
