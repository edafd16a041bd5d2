"""Run rounds: apply the same load to each chain in turn, and measure rates, processor time and memory."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from benchmarks import wrk
from benchmarks.chains import Machine, MeasuredChain
from benchmarks.errors import BenchmarkError
from benchmarks.measurement import Measurement
from benchmarks.names import LOOK_UP
from benchmarks.processes import CpuSnapshot, resident
from benchmarks.wrk import WrkLoad, WrkResult
from network.polling import PollTimer

WARM_UP_SECONDS: Final = 1
WARM_UP_CONNECTIONS: Final = 32
"""Minimum of connections in the warm-up. With one, the proxy would forget the first identifiers before the last."""
IDLE_SECONDS: Final = 0.5
IDLE_SHARE: Final = 0.04
"""Share of one processor below which a chain counts as idle. A chain that still works on requests uses far more."""
SETTLE_SECONDS: Final = 60


T = TypeVar("T")


@dataclass(frozen=True)
class Side:
    """One of the compared things: a chain with its load. `name` is "bare", or the name of the workload."""

    name: str
    chain: MeasuredChain
    load: WrkLoad


def order(sides: Sequence[T], number: int) -> Sequence[T]:
    """Return the sides in their order in even rounds and reversed in odd ones, so that none always runs first."""
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
        show: Callable[[str], None],
    ) -> list[Measurement]:
        """Measure all sides in each round and at each number of connections. Pass each result to `show` as text.

        Raises BenchmarkError if a round is not valid.
        """
        found = []
        for number in range(rounds):
            for count in connections:
                for side in order(sides, number):
                    found.append(self.measure(side, connections=count, seconds=seconds, number=number))
                    show(str(found[-1]))
        return found

    def measure(self, side: Side, *, connections: int, seconds: int, number: int = 0) -> Measurement:
        """Apply a short load as a warm-up, execute CHECKPOINT, then apply the load and return what was measured.

        Raises BenchmarkError if the responses or the number of new rows are not as expected.
        """
        chain = side.chain
        self._load(side, max(connections, WARM_UP_CONNECTIONS), WARM_UP_SECONDS)
        settle(self._machine, chain)
        self._machine.empty_logs()
        rows = chain.rows()
        self._machine.database.execute("CHECKPOINT")
        before = snapshot(self._machine, chain)
        began = time.monotonic()
        result = self._load(side, connections, seconds)
        elapsed = time.monotonic() - began
        after = snapshot(self._machine, chain)
        memory = resident(chain.pids)
        check(side, result, connections, chain.rows() - rows)
        return Measurement(
            round=number,
            side=side.name,
            connections=connections,
            per_second=round(result.per_second, 1),
            p50_ms=result.p50_us / 1e3,
            p99_ms=result.p99_us / 1e3,
            cpu_us={
                name: round(spent / result.answered * 1e6, 1) for name, spent in after.since(before).items()
            },
            resident_mib={name: round(size / 2**20, 1) for name, size in memory.items()},
            others_share=round(after.others_since(before) / (elapsed * self._processors), 3),
        )

    def _load(self, side: Side, connections: int, seconds: int) -> WrkResult:
        """Apply load. Its identifiers continue after those of the previous load."""
        load = WrkLoad(side.load.workload, side.load.identifiers, self._offset, side.load.quotes)
        result = wrk.run(side.chain.origin, load, connections=connections, seconds=seconds)
        self._offset += result.sent
        return result


def snapshot(machine: Machine, chain: MeasuredChain) -> CpuSnapshot:
    """Return the processor time that the chain and Postgres have used so far."""
    postgres = machine.postgres.pid
    assert postgres is not None  # noqa: S101 - it is up
    return CpuSnapshot.take(chain.pids, postgres)


def settle(machine: Machine, chain: MeasuredChain) -> None:
    """Wait until the chain has finished the requests that were in flight when its load stopped."""
    timer = PollTimer(SETTLE_SECONDS, IDLE_SECONDS)
    before = None
    while timer.wait():
        now = snapshot(machine, chain)
        if before and sum(now.since(before).values()) <= IDLE_SHARE * IDLE_SECONDS:
            return
        before = now
    raise BenchmarkError(f"{chain.name} is still busy {SETTLE_SECONDS} s after its load has stopped")


def check(side: Side, result: WrkResult, connections: int, new_rows: int) -> None:
    """Raise BenchmarkError unless the responses and the number of new rows are as expected."""
    workload = side.load.workload
    found = wrk.faults(result, workload, connections)
    # one row for each 200, and for requests that were in flight when wrk stopped
    reserved, in_flight = (0, 0) if workload == LOOK_UP else (result.quotes, connections)
    if not reserved <= new_rows <= reserved + in_flight:
        found.append(f"the table grew by {new_rows} for {reserved} responses with status 200")
    if found:
        where = f"{side.name}, {connections} connections"
        raise BenchmarkError("\n".join([f"{where}: this run does not count", *found]))
