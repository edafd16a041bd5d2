"""Rounds: each chain under the same load in turn, and what it took."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from benchmarks import wrk
from benchmarks.chains import Chain, Machine
from benchmarks.errors import BenchmarkError
from benchmarks.measured import Measured
from benchmarks.names import LOOK_UP
from benchmarks.processes import Snapshot, resident
from benchmarks.wrk import Load, Seen
from network.polling import PollTimer

WARM_UP_SECONDS: Final = 1
WARM_UP_CONNECTIONS: Final = 32
"""At least: one caller alone would not get round all identifiers before the proxy forgets the first."""
IDLE_SECONDS: Final = 0.5
IDLE_SHARE: Final = 0.04
"""Of one processor: what an idle chain still uses, and far less than one that finishes something."""
SETTLE_SECONDS: Final = 60


T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """One of those compared: `name` is the chain's for bare, the workload's for the mesh."""

    name: str
    chain: Chain
    load: Load


def order(sides: Sequence[T], number: int) -> Sequence[T]:
    """Return the sides forwards in even rounds and backwards in odd ones, so that neither always runs first."""
    return sides if number % 2 == 0 else sides[::-1]


class Rounds:
    """Measures one side at a time on one machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._processors = os.cpu_count() or 1
        self._offset = 0

    def run(
        self,
        sides: Sequence[Side],
        *,
        connections: Sequence[int],
        rounds: int,
        seconds: int,
        tell: Callable[[str], None],
    ) -> list[Measured]:
        """What each side did, in alternating order. Raises BenchmarkError where anything was unexpected."""
        found = []
        for number in range(rounds):
            for many in connections:
                for side in order(sides, number):
                    found.append(self.measure(side, connections=many, seconds=seconds, number=number))
                    tell(str(found[-1]))
        return found

    def measure(self, side: Side, *, connections: int, seconds: int, number: int = 0) -> Measured:
        """CHECKPOINT, load, and the count of what it left in the table."""
        chain = side.chain
        self._load(side, max(connections, WARM_UP_CONNECTIONS), WARM_UP_SECONDS)
        settle(self._machine, chain)
        self._machine.empty_logs()
        rows = chain.rows()
        self._machine.database.execute("CHECKPOINT")
        before = snapshot(self._machine, chain)
        began = time.monotonic()
        seen = self._load(side, connections, seconds)
        elapsed = time.monotonic() - began
        after = snapshot(self._machine, chain)
        memory = resident(chain.pids)
        grown = chain.rows() - rows
        check(side, seen, connections, grown)
        return Measured(
            round=number,
            side=side.name,
            connections=connections,
            per_second=round(seen.per_second, 1),
            p50_ms=seen.p50_us / 1e3,
            p99_ms=seen.p99_us / 1e3,
            cpu_us={
                name: round(spent / seen.answered * 1e6, 1) for name, spent in after.since(before).items()
            },
            resident_mib={name: round(size / 2**20, 1) for name, size in memory.items()},
            others_share=round(after.others_since(before) / (elapsed * self._processors), 3),
        )

    def _load(self, side: Side, connections: int, seconds: int) -> Seen:
        """Each load goes on with the identifiers where the last one stopped."""
        load = Load(side.load.workload, side.load.identifiers, self._offset, side.load.quotes)
        seen = wrk.run(side.chain.origin, load, connections=connections, seconds=seconds)
        self._offset += seen.sent
        return seen


def snapshot(machine: Machine, chain: Chain) -> Snapshot:
    """What the chain and Postgres have used so far."""
    postgres = machine.postgres.pid
    assert postgres is not None  # noqa: S101 - it was waited for
    return Snapshot.take(chain.pids, postgres)


def settle(machine: Machine, chain: Chain) -> None:
    """Return when the chain has finished what was under way when its load stopped."""
    timer = PollTimer(SETTLE_SECONDS, IDLE_SECONDS)
    before = None
    while timer.wait():
        now = snapshot(machine, chain)
        if before and sum(now.since(before).values()) <= IDLE_SHARE * IDLE_SECONDS:
            return
        before = now
    raise BenchmarkError(f"{chain.name} is still busy {SETTLE_SECONDS} s after the load has stopped")


def check(side: Side, seen: Seen, connections: int, grown: int) -> None:
    """Raise BenchmarkError where not exactly the expected happened."""
    workload = side.load.workload
    found = wrk.faults(seen, workload, connections)
    # a row for each 200, and for what wrk no longer waited for
    reserved, under_way = (0, 0) if workload == LOOK_UP else (seen.quotes, connections)
    if not reserved <= grown <= reserved + under_way:
        found.append(f"the table grew by {grown} for {reserved} answers of 200")
    if found:
        where = f"{side.name}, {connections} connections"
        raise BenchmarkError("\n".join([f"{where}: this run does not count", *found]))
