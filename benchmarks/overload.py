"""`make bench-overload`: three times what the mesh can do at best, offered without waiting for answers.

The generator has one processor, all services and Postgres another, so that neither takes the other's.
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
from benchmarks.chains import Chain, Machine
from benchmarks.errors import BenchmarkError
from benchmarks.names import GENERATOR, WARM
from benchmarks.options import Options
from benchmarks.rounds import settle
from benchmarks.targets import least, most
from benchmarks.workloads import WARM_IDENTIFIERS
from benchmarks.wrk import Load

TIMES: Final = 3
CONNECTIONS: Final = (32, 128, 512)
LATE_SECONDS: Final = 120
EXPECTED: Final = {"200", "503", "504"}
"""What a service may answer that has too much to do; everything else, a closed connection too, is a fault."""
KEPT_UP: Final = 0.25
"""Seconds: a generator that is later than that offers less than it says."""


@dataclass(frozen=True)
class Overloaded:
    """One round; rates are a second."""

    best: float
    """The mean of just before and just after."""
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


GOODPUT: Final = least("goodput to the best rate", 0.8)
SLOWEST: Final = most("p99 of what is answered 200", 1_000, " ms")


def run(options: Options) -> None:
    wrk.require()
    generator, services = _two_processors()
    # whatever is started from here on inherits it
    os.sched_setaffinity(0, {services})
    with Machine(options.data) as machine:
        on = about(machine, options, wrk.version())
        mesh = machine.mesh("mesh", WARM_IDENTIFIERS)
        rounds = [_round(machine, mesh, options, generator) for _ in range(options.rounds)]
    content = {"about": on, "rounds": [asdict(one) for one in rounds]}
    report.write(options.out, "overload", content, described(on, rounds))


def _two_processors() -> tuple[int, int]:
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:  # noqa: PLR2004
        raise BenchmarkError("overload needs two processors: one for the generator, one for the services")
    return ours[0], ours[1]


def _round(machine: Machine, mesh: Chain, options: Options, generator: int) -> Overloaded:
    pinned = ("taskset", "--cpu-list", str(generator))
    rates = {
        connections: _closed_loop(mesh, connections, options, pinned)
        for connections in options.connections or CONNECTIONS
    }
    connections, before = max(rates.items(), key=itemgetter(1))
    settle(machine, mesh)
    machine.empty_logs()
    rows = machine.rows(mesh.table)
    machine.database.execute("CHECKPOINT")
    rate = before * TIMES
    seen = _open_loop(mesh.origin, rate, options.seconds, pinned)
    check(seen, machine.rows(mesh.table) - rows)
    settle(machine, mesh)
    # the machine's own speed is not the same from one moment to the next
    after = _closed_loop(mesh, connections, options, pinned)
    one = Overloaded(best=(before + after) / 2, before=before, after=after, offered=rate, **seen)
    print(
        f"best {before:.0f}/s before and {after:.0f}/s after, offered {rate:.0f}/s, "
        f"goodput {one.goodput:.0f}/s, p99 {one.p99_ms:.0f} ms"
    )
    return one


def _closed_loop(mesh: Chain, connections: int, options: Options, pinned: tuple[str, ...]) -> float:
    load = Load(WARM, WARM_IDENTIFIERS)
    seen = wrk.run(mesh.origin, load, connections=connections, seconds=options.seconds, before=pinned)
    if faults := wrk.faults(seen, WARM, connections):
        raise BenchmarkError("\n".join([f"{connections} connections: this run does not count", *faults]))
    print(f"{GENERATOR} with {connections} connections: {seen.per_second:.0f}/s")
    return seen.per_second


def _open_loop(origin: str, rate: float, seconds: int, pinned: tuple[str, ...]) -> dict[str, Any]:
    command = [*pinned, sys.executable, "-m", "benchmarks.openloop", origin, str(rate), str(seconds)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + LATE_SECONDS
    )
    if done.returncode:
        raise BenchmarkError(f"the generator ended with {done.returncode}: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(seen: dict[str, Any], grown: int) -> None:
    """Raise BenchmarkError where this says nothing about the services, or something bad."""
    statuses: dict[str, int] = seen["statuses"]
    faults = [f"{count} {what}" for what, count in statuses.items() if count and what not in EXPECTED]
    good = statuses.get("200", 0)
    # what was given up on may have been committed all the same
    if not good <= grown <= seen["sent"]:
        faults.append(f"the table grew by {grown} for {good} answers of 200")
    if seen["max_late_ms"] > KEPT_UP * 1e3:
        faults.append(f"the generator itself was {seen['max_late_ms']:.0f} ms late")
    if faults:
        raise BenchmarkError("\n".join(["overload: this run does not count", *faults]))


def described(on: dict[str, Any], rounds: list[Overloaded]) -> str:
    """Each round, and the targets beside their medians."""
    head = (
        "round",
        "best before/s",
        "best after/s",
        "offered/s",
        "no caller free",
        "200",
        "503",
        "504",
        "goodput/s",
        "to the best",
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
    aims = [
        GOODPUT.beside(median(one.goodput / one.best for one in rounds)),
        SLOWEST.beside(median(one.p99_ms for one in rounds)),
    ]
    parts = [
        "# Three times the best rate",
        report.described(on),
        tables.table(head, lines),
        tables.aims(aims),
    ]
    return report.joined(parts)
