"""What a run is asked for: `make bench WORKLOADS=warm CONNECTIONS=1,128 ROUNDS=3 SECONDS=5`."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.names import WORKLOADS

ROUNDS, SECONDS = 3, 5
OWN_ROUNDS: Final = {"overload": 5}
"""Of a command whose rounds differ more."""
QUICK_ROUNDS, QUICK_SECONDS = 1, 2
MINUTE_SECONDS, QUICK_MINUTE_SECONDS = 60, 3
MAX_CONNECTIONS: Final = 10_000
OUT: Final = Path("docs/performance")


@dataclass(frozen=True)
class Options:
    """Empty `connections` and `rows` and a zero in `minutes` leave it to the command."""

    command: str
    workloads: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: int
    rows: tuple[int, ...]
    minutes: int
    minute_seconds: int
    data: Path
    out: Path


def parse(arguments: Sequence[str], commands: Sequence[str]) -> Options:
    """An empty value is as good as none, so that make can pass its variables on. Exits where one is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--workloads", type=_words, default=())
    parser.add_argument("--connections", type=_numbers(1, MAX_CONNECTIONS), default=())
    parser.add_argument("--rounds", type=_number(1, 100), default=0)
    parser.add_argument("--seconds", type=_number(1, 3_600), default=0)
    parser.add_argument("--rows", type=_numbers(0, 1_000_000_000), default=(), help="growth: table sizes")
    parser.add_argument("--minutes", type=_number(3, 1_440), default=0, help="memory: how long")
    parser.add_argument("--quick", default="", help="anything: short rounds, for development")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder for what is thrown away")
    given = parser.parse_args([text for text in arguments if not text.endswith("=")])
    asked = (given.workloads, given.connections, given.rounds, given.seconds, given.rows, given.minutes)
    is_whole = not any([*asked, given.quick])
    return Options(
        given.command,
        workloads=given.workloads or WORKLOADS,
        connections=given.connections,
        rounds=given.rounds or (QUICK_ROUNDS if given.quick else OWN_ROUNDS.get(given.command, ROUNDS)),
        seconds=given.seconds or (QUICK_SECONDS if given.quick else SECONDS),
        rows=given.rows,
        minutes=given.minutes,
        minute_seconds=QUICK_MINUTE_SECONDS if given.quick else MINUTE_SECONDS,
        data=(given.data / "bench").resolve(),
        # what is published is a whole run's
        out=(OUT if is_whole else given.data / "bench-results").resolve(),
    )


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in WORKLOADS:
            raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(WORKLOADS)}")
    return words


def _number(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return int(text)

    return convert


def _numbers(least: int, most: int) -> Callable[[str], tuple[int, ...]]:
    one = _number(least, most)

    def convert(text: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one(each) for each in text.split(",")))

    return convert
