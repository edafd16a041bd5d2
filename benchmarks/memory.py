"""`make bench-memory`: measure the resident memory of each process every minute, under full load."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from benchmarks import report, tables, wrk
from benchmarks.about import about
from benchmarks.chains import Machine, MeasuredChain
from benchmarks.errors import BenchmarkError
from benchmarks.names import WARM
from benchmarks.options import Options
from benchmarks.processes import resident
from benchmarks.rounds import Side, check
from benchmarks.targets import TargetOutcome, at_most
from benchmarks.workloads import WARM_IDENTIFIERS
from benchmarks.wrk import WrkLoad

MINUTES: Final = 10
CONNECTIONS: Final = (128,)
SETTLED_MINUTE: Final = 2
"""By then every pool and cache is full."""
MAX_GROWTH: Final = 1.05


def run(options: Options) -> None:
    wrk.require()
    minutes = options.minutes or MINUTES
    with Machine(options.data) as machine:
        on = about(machine, options, wrk.version())
        side = Side(WARM, machine.mesh("mesh", WARM_IDENTIFIERS), WrkLoad(WARM, WARM_IDENTIFIERS))
        found = {
            connections: _under_load(machine, side, connections, minutes, options.minute_seconds)
            for connections in options.connections or CONNECTIONS
        }
    content = {"about": on, "resident_mib": {str(connections): each for connections, each in found.items()}}
    report.write(options, "memory", content, described(on, found))


def _under_load(
    machine: Machine, side: Side, connections: int, minutes: int, minute_seconds: int
) -> list[dict[str, float]]:
    """Apply load and return the resident memory of each process in MiB at the end of each minute."""
    rows = side.chain.rows()
    samples = []
    with ThreadPoolExecutor(1) as pool:
        # two seconds longer, so that the last sample is taken under load, too
        seconds = minutes * minute_seconds + 2
        load = pool.submit(wrk.run, side.chain.origin, side.load, connections=connections, seconds=seconds)
        began = time.monotonic()
        for minute in range(1, minutes + 1):
            time.sleep(max(0.0, began + minute * minute_seconds - time.monotonic()))
            if load.done():
                break
            samples.append(_mib(side.chain))
            machine.empty_logs()
            print(f"minute {minute}: {sum(samples[-1].values()):.0f} MiB in total")
        result = load.result()
    check(side, result, connections, side.chain.rows() - rows)
    if len(samples) < minutes:
        raise BenchmarkError(f"wrk ended after minute {len(samples)} of {minutes}")
    return samples


def _mib(chain: MeasuredChain) -> dict[str, float]:
    return {name: round(size / 2**20, 2) for name, size in resident(chain.pids).items()}


def described(on: dict[str, Any], found: Mapping[int, Sequence[Mapping[str, float]]]) -> str:
    """Return the results as Markdown: one line for each minute, one column for each process."""
    parts = ["# Memory under full load", report.described(on)]
    for connections, samples in found.items():
        names = list(samples[0])
        lines = [
            (str(minute), *(f"{each[name]:.1f}" for name in names))
            for minute, each in enumerate(samples, start=1)
        ]
        parts += [
            f"## {connections} connections",
            tables.table(("MiB resident at minute", *names), lines),
            tables.targets_table(steady(samples)),
        ]
    return report.joined(parts)


def steady(samples: Sequence[Mapping[str, float]]) -> list[TargetOutcome]:
    """Compare the memory of each process in the last minute with its memory in minute two."""
    then, last = samples[SETTLED_MINUTE - 1], samples[-1]
    return [
        at_most(f"{name}: last minute compared with minute two", MAX_GROWTH).outcome(last[name] / then[name])
        for name in then
    ]
