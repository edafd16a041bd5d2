"""Run the load generator wrk, and check whether its counts are as expected."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from benchmarks.errors import BenchmarkError
from network.demo import AUTHORIZATION

SCRIPT: Final = Path(__file__).with_name("load.lua")
ANSWER_SECONDS: Final = 15
"""Time-out of wrk in seconds. It is longer than a service takes to answer with 504."""
LATE_SECONDS: Final = 60
MISSING: Final = (
    "wrk, the load generator, is not installed (Debian, Ubuntu: apt install wrk; macOS: brew install wrk)"
)


@dataclass(frozen=True)
class WrkLoad:
    """The requests that wrk sends. They use `identifiers` identifiers in turn, and begin with the one at `offset`.

    `quotes` is the file with the quotes to look up; None for other workloads.
    """

    workload: str
    identifiers: int
    offset: int = 0
    quotes: Path | None = None


@dataclass(frozen=True)
class WrkResult:
    """The counts of wrk.

    `answers` counts responses by "<status>" or "<operation> <status>"; some workloads leave it empty.
    """

    sent: int
    answered: int
    answers: Mapping[str, int]
    refused: int
    lost: Mapping[str, int]
    duration_us: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def quotes(self) -> int:
        """Number of reservations that were answered with 200."""
        return self.answers.get("200", self.answers.get("reserve 200", self.answered - self.refused))

    @property
    def per_second(self) -> float:
        """Answered operations per second."""
        return self.answered / self.duration_us * 1e6


def require() -> None:
    """Raise BenchmarkError if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchmarkError(MISSING)


def version() -> str:
    """Return wrk's name and version, from the usage message that `wrk -v` prints."""
    done = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split()[:2])


def run(
    origin: str, load: WrkLoad, *, connections: int, seconds: int, prefix: Sequence[str] = ()
) -> WrkResult:
    """Run wrk and return its counts. `prefix` is a command that starts another command, such as taskset.

    Raises BenchmarkError if wrk fails.
    """
    command = [
        *prefix,
        *("wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s"),
        *("--timeout", f"{ANSWER_SECONDS}s", "--script", str(SCRIPT), origin, "--"),
        *(load.workload, uuid4().hex, AUTHORIZATION, str(load.identifiers), str(load.offset)),
        *([str(load.quotes)] if load.quotes else []),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=seconds + LATE_SECONDS
    )
    if done.returncode:
        raise BenchmarkError(f"wrk ended with {done.returncode}: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(output: str) -> WrkResult:
    """Return the counts in wrk's output: the JSON line that load.lua prints last. Raises BenchmarkError without one."""
    last = output.strip().rpartition("\n")[2]
    try:
        return WrkResult(**json.loads(last))
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"load.lua printed no result: {error}\n{output}") from error


def faults(result: WrkResult, workload: str, connections: int) -> list[str]:
    """Describe every unexpected count. When wrk stops, one request of each connection may still be in flight."""
    found = [f"{count} {name} errors" for name, count in result.lost.items() if count]
    if not result.answered:
        found.append("nothing was answered")
    if not 0 <= result.sent - result.answered <= connections:
        found.append(f"{result.sent} requests were sent and {result.answered} answered")
    match workload:
        case "refuse":
            bad = result.answers.get("400", 0)
            if abs(bad - result.quotes) > connections:
                found.append(f"half of the responses should have status 400: {dict(result.answers)}")
            expected = {"200", "400"}
        case "pay":
            expected = {"reserve 200", "pay 200"}
        case _:
            expected = set()
            if result.refused:
                found.append(f"{result.refused} responses with status 400 or more")
    found += [f"{count} responses {name}" for name, count in result.answers.items() if name not in expected]
    return found
