"""Read the processor time and memory of processes from /proc (Linux)."""

import os
import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.errors import BenchmarkError
from benchmarks.names import GENERATOR, POSTGRES

TICKS: Final = os.sysconf("SC_CLK_TCK")
PROC: Final = Path("/proc")


@dataclass(frozen=True)
class ProcessStat:
    """From /proc/<pid>/stat: the parent's id, and the processor seconds of the process and of its ended children."""

    parent: int
    cpu_seconds: float
    ended_children_cpu_seconds: float


def parse_stat(text: str) -> ProcessStat:
    """Parse /proc/<pid>/stat. The process name may contain spaces and parentheses; the last parenthesis ends it."""
    fields = text.rpartition(")")[2].split()
    user, system, children_user, children_system = (int(field) / TICKS for field in fields[11:15])
    return ProcessStat(int(fields[1]), user + system, children_user + children_system)


def parse_resident(status: str) -> int:
    """Return the resident memory in bytes: VmRSS in the text of /proc/<pid>/status."""
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1_024


def parse_busy(stat: str) -> float:
    """Return the seconds that all processors together were busy since the boot, from the text of /proc/stat."""
    user, nice, system, _idle, _waiting, interrupts, soft = (
        int(field) for field in stat.split("\n", 1)[0].split()[1:8]
    )
    return (user + nice + system + interrupts + soft) / TICKS


def stat_of(pid: int) -> ProcessStat:
    return parse_stat(_read(pid, "stat"))


def resident(pids: Mapping[str, int]) -> dict[str, int]:
    """Return resident memory in bytes by name."""
    return {name: parse_resident(_read(pid, "status")) for name, pid in pids.items()}


def _read(pid: int, what: str) -> str:
    try:
        return (PROC / str(pid) / what).read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise BenchmarkError(f"process {pid} has ended, so the measurement cannot go on") from error


def children_of(parent: int) -> dict[int, ProcessStat]:
    """Return the statistics of a process's children, by process id."""
    found = {}
    for folder in PROC.glob("[0-9]*"):
        try:
            stat = parse_stat((folder / "stat").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has just ended
        if stat.parent == parent:
            found[int(folder.name)] = stat
    return found


def environment_of(pid: int) -> list[str]:
    """Return the NAME=value pairs of the environment with which the process was started."""
    return (PROC / str(pid) / "environ").read_text().split("\0")


def family_cpu_seconds(pid: int) -> float:
    """Return the processor seconds of a process and all its children. Postgres has one child for each connection."""
    own, children = stat_of(pid), children_of(pid)
    return (
        own.cpu_seconds + own.ended_children_cpu_seconds + sum(stat.cpu_seconds for stat in children.values())
    )


@dataclass(frozen=True)
class CpuSnapshot:
    """Processor seconds used until now: of each process by name, and of the whole machine."""

    by_name: Mapping[str, float]
    machine: float

    @classmethod
    def take(cls, pids: Mapping[str, int], postgres: int) -> "CpuSnapshot":
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        by_name = {
            **{name: stat_of(pid).cpu_seconds for name, pid in pids.items()},
            POSTGRES: family_cpu_seconds(postgres),
            # wrk is the only child process that ends during a round
            GENERATOR: children.ru_utime + children.ru_stime,
        }
        return cls(by_name, parse_busy((PROC / "stat").read_text()))

    def since(self, before: "CpuSnapshot") -> dict[str, float]:
        """Return the processor seconds of each process, by name, since an earlier snapshot."""
        return {name: seconds - before.by_name[name] for name, seconds in self.by_name.items()}

    def others_since(self, before: "CpuSnapshot") -> float:
        """Return the processor seconds that all other processes of the machine used since an earlier snapshot."""
        return max(0.0, self.machine - before.machine - sum(self.since(before).values()))
