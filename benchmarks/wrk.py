"""Load by wrk, and what it has to have seen for a round to count."""

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
"""What wrk takes for a time-out: more than a service takes to answer 504."""
LATE_SECONDS: Final = 60
MISSING: Final = (
    "wrk is not installed: it makes the load (Debian, Ubuntu: apt install wrk; macOS: brew install wrk)"
)


@dataclass(frozen=True)
class Load:
    """What to send: identifiers in turn from `offset` on, and the file of quotes to look up."""

    workload: str
    identifiers: int
    offset: int = 0
    quotes: Path | None = None


@dataclass(frozen=True)
class Seen:
    """What wrk saw. `answers` are counts by "<status>" or "<what> <status>", where the workload tells them apart."""

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
        """How many reservations were answered 200."""
        return self.answers.get("200", self.answers.get("reserve 200", self.answered - self.refused))

    @property
    def per_second(self) -> float:
        """Operations answered, of whatever kind."""
        return self.answered / self.duration_us * 1e6


def require() -> None:
    """Raises BenchmarkError where wrk is missing."""
    if shutil.which("wrk") is None:
        raise BenchmarkError(MISSING)


def version() -> str:
    """As it says so itself, with a usage error."""
    told = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return " ".join(told.stdout.split()[:2])


def run(origin: str, load: Load, *, connections: int, seconds: int, prefix: Sequence[str] = ()) -> Seen:
    """Run wrk and return its counts. `prefix` is a command that runs the command after it, such as taskset.

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


def parse(output: str) -> Seen:
    """The JSON that load.lua prints last."""
    last = output.strip().rpartition("\n")[2]
    try:
        return Seen(**json.loads(last))
    except (ValueError, TypeError) as error:
        raise BenchmarkError(f"wrk's script printed no result: {error}\n{output}") from error


def faults(seen: Seen, workload: str, connections: int) -> list[str]:
    """What was not as expected; when wrk stops, each connection may have one request under way."""
    found = [f"{count} {what} errors" for what, count in seen.lost.items() if count]
    if not seen.answered:
        found.append("nothing was answered")
    if not 0 <= seen.sent - seen.answered <= connections:
        found.append(f"{seen.sent} requests were sent and {seen.answered} answered")
    match workload:
        case "refuse":
            bad = seen.answers.get("400", 0)
            if abs(bad - seen.quotes) > connections:
                found.append(f"half of {dict(seen.answers)} should be 400")
            expected = {"200", "400"}
        case "pay":
            expected = {"reserve 200", "pay 200"}
        case _:
            expected = set()
            if seen.refused:
                found.append(f"{seen.refused} answers of 400 or more")
    found += [f"{count} answers {what}" for what, count in seen.answers.items() if what not in expected]
    return found
