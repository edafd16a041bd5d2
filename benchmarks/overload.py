"""`make bench-overload`: send requests at three times the best rate of this project's chain (open-loop load).

The load generator runs on one processor, and all services and Postgres on another, so that neither slows the other.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from operator import itemgetter
from statistics import median
from typing import Any, Final

from benchmarks import report, tables, wrk
from benchmarks.about import about
from benchmarks.chains import Machine, MeasuredChain
from benchmarks.errors import BenchmarkError
from benchmarks.names import GENERATOR, WARM
from benchmarks.options import Options
from benchmarks.rounds import settle
from benchmarks.targets import at_least, at_most
from benchmarks.workloads import WARM_IDENTIFIERS
from benchmarks.wrk import WrkLoad

TIMES: Final = 3
CONNECTIONS: Final = (32, 128, 512)
LATE_SECONDS: Final = 120
EXPECTED: Final = {"200", "503", "504"}
"""Statuses that an overloaded service may respond with. Any other status and a closed connection are faults."""
MAX_LATE_SECONDS: Final = 0.25
"""A round is not valid if a request was sent later than this, because the generator was too slow for its rate."""


@dataclass(frozen=True)
class Overloaded:
    """One round. Rates are per second."""

    best: float
    """Mean of `before` and `after`."""
    before: float
    after: float
    offered: float
    sent: int
    not_sent: int
    statuses: dict[str, int]
    goodput: float
    p50_ms: float
    p99_ms: float
    max_late_ms: float


GOODPUT: Final = at_least("goodput compared with the best rate", 0.8)
SLOWEST: Final = at_most("p99 of responses with status 200", 1_000, " ms")


def run(options: Options) -> None:
    """Measure, print the results and write them to files. Raises BenchmarkError if a round is not valid."""
    wrk.require()
    on_own_processor = pin_services()
    with Machine(options.data) as machine:
        on = about(machine, options, wrk.version())
        mesh = machine.mesh("mesh", WARM_IDENTIFIERS)
        rounds = [_round(machine, mesh, options, on_own_processor) for _ in range(options.rounds)]
    content = {"about": on, "rounds": [asdict(one) for one in rounds]}
    report.write(options, "overload", content, described(on, rounds))


def pin_services() -> tuple[str, ...]:
    """Pin this process and its later child processes to one processor. Raises BenchmarkError if there is only one.

    Return the command prefix that pins the load generator to another processor.
    """
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:  # noqa: PLR2004
        raise BenchmarkError(
            "overload needs two processors: one for the load generator, one for the services"
        )
    generator, services = processors[:2]
    os.sched_setaffinity(0, {services})
    return ("taskset", "--cpu-list", str(generator))


def _round(machine: Machine, mesh: MeasuredChain, options: Options, pinned: tuple[str, ...]) -> Overloaded:
    connections, before = best_rate(mesh, options, pinned)
    offered = before * TIMES
    result = offer(machine, mesh, offered, options, pinned)
    # the machine's own speed changes from one moment to the next
    after = closed_loop(mesh, connections, options, pinned)
    one = Overloaded(best=(before + after) / 2, before=before, after=after, offered=offered, **result)
    print(
        f"best {before:.0f}/s before and {after:.0f}/s after, offered {offered:.0f}/s, "
        f"goodput {one.goodput:.0f}/s, p99 {one.p99_ms:.0f} ms"
    )
    return one


def best_rate(mesh: MeasuredChain, options: Options, pinned: tuple[str, ...]) -> tuple[int, float]:
    """Return the number of connections with the highest rate of answered reservations, and that rate per second."""
    rates = {
        connections: closed_loop(mesh, connections, options, pinned)
        for connections in options.connections or CONNECTIONS
    }
    return max(rates.items(), key=itemgetter(1))


def closed_loop(mesh: MeasuredChain, connections: int, options: Options, pinned: tuple[str, ...]) -> float:
    """Return the reservations per second when each connection waits for a response before the next request."""
    load = WrkLoad(WARM, WARM_IDENTIFIERS)
    result = wrk.run(mesh.origin, load, connections=connections, seconds=options.seconds, prefix=pinned)
    if faults := wrk.faults(result, WARM, connections):
        raise BenchmarkError(
            "\n".join([f"{mesh.name}, {connections} connections: this run does not count", *faults])
        )
    print(f"{mesh.name}: {GENERATOR} with {connections} connections: {result.per_second:.0f}/s")
    return result.per_second


def offer(
    machine: Machine, mesh: MeasuredChain, rate: float, options: Options, pinned: tuple[str, ...]
) -> dict[str, Any]:
    """Send `rate` reservations per second; return the counts of the load generator.

    Raises BenchmarkError if a status was unexpected or the generator was too slow.
    """
    settle(machine, mesh)
    machine.empty_logs()
    rows = mesh.rows()
    machine.database.execute("CHECKPOINT")
    command = [*pinned, sys.executable, "-m", "benchmarks.openloop"]
    command += [mesh.origin, str(rate), str(options.seconds)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=options.seconds + LATE_SECONDS
    )
    if done.returncode:
        raise BenchmarkError(f"the load generator ended with {done.returncode}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    check(result, mesh.rows() - rows)
    settle(machine, mesh)
    return result


def check(result: dict[str, Any], new_rows: int) -> None:
    """Raise BenchmarkError if a status or the number of new rows is unexpected, or the load generator was too slow."""
    statuses: dict[str, int] = result["statuses"]
    faults = [f"{count} {status}" for status, count in statuses.items() if count and status not in EXPECTED]
    good = statuses.get("200", 0)
    # a reservation may be committed although its caller got 503 or 504
    if not good <= new_rows <= result["sent"]:
        faults.append(f"the table grew by {new_rows} for {good} responses with status 200")
    if result["max_late_ms"] > MAX_LATE_SECONDS * 1e3:
        faults.append(f"the load generator itself was {result['max_late_ms']:.0f} ms late")
    if faults:
        raise BenchmarkError("\n".join(["overload: this run does not count", *faults]))


def described(on: dict[str, Any], rounds: list[Overloaded]) -> str:
    """Return the results as Markdown: one line for each round, and the targets with the measured medians."""
    head = (
        "round",
        "best before/s",
        "best after/s",
        "offered/s",
        "not sent",
        "200",
        "503",
        "504",
        "goodput/s",
        "of the best",
        "p50 ms",
        "p99 ms",
    )
    lines = [
        (
            str(number + 1),
            f"{one.before:,.0f}",
            f"{one.after:,.0f}",
            f"{one.offered:,.0f}",
            f"{one.not_sent:,}",
            *(f"{one.statuses.get(status, 0):,}" for status in ("200", "503", "504")),
            f"{one.goodput:,.0f}",
            f"{one.goodput / one.best:.2f}",
            f"{one.p50_ms:,.0f}",
            f"{one.p99_ms:,.0f}",
        )
        for number, one in enumerate(rounds)
    ]
    outcomes = [
        GOODPUT.outcome(median(one.goodput / one.best for one in rounds)),
        SLOWEST.outcome(median(one.p99_ms for one in rounds)),
    ]
    parts = [
        "# Overload: three times the best rate",
        report.described(on),
        tables.table(head, lines),
        tables.targets_table(outcomes),
    ]
    return report.joined(parts)
