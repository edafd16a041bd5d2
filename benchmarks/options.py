"""Command-line options: `make bench WORKLOADS=warm CONNECTIONS=1,128 ROUNDS=3 SECONDS=5`."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.names import COLD, LOOK_UP, PAY, REFUSE, WARM, WORKLOADS
from network.topology import PREFIX

ROUNDS, SECONDS = 3, 5
COMMAND_ROUNDS: Final = {"overload": 5}
"""Default number of rounds of a command, if it is not ROUNDS: results of overload differ more from round to round."""
COMMAND_WORKLOADS: Final = {"compare": (WARM, COLD, PAY, LOOK_UP, REFUSE)}
QUICK_ROUNDS, QUICK_SECONDS = 1, 2
MINUTE_SECONDS, QUICK_MINUTE_SECONDS = 60, 3
MAX_CONNECTIONS: Final = 10_000
PUBLISHED: Final = Path("docs/performance")
OVERLOAD: Final = ("also", "only")


@dataclass(frozen=True)
class Options:
    """Options of one command. If `connections`, `rows` or `minutes` is empty or zero, the command uses its default.

    Results are written to `text_folder` as Markdown and as a chart, and to `json_folder` as JSON.
    """

    command: str
    workloads: tuple[str, ...]
    connections: tuple[int, ...]
    rounds: int
    seconds: int
    rows: tuple[int, ...]
    minutes: int
    minute_seconds: int
    base: Path | None
    base_settings: dict[str, str]
    overload: str
    data: Path
    text_folder: Path
    json_folder: Path


def parse(arguments: Sequence[str], commands: Sequence[str]) -> Options:
    """Return the options of a command line. `--name=` has no effect, because make passes its empty variables like that.

    Exits with a usage message if a value is wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=commands)
    parser.add_argument("--workloads", type=_words, default=())
    parser.add_argument("--connections", type=_numbers(1, MAX_CONNECTIONS), default=())
    parser.add_argument("--rounds", type=_number(1, 100), default=0)
    parser.add_argument("--seconds", type=_number(1, 3_600), default=0)
    parser.add_argument("--rows", type=_numbers(0, 1_000_000_000), default=(), help="growth: table sizes")
    parser.add_argument("--minutes", type=_number(3, 1_440), default=0, help="memory: how long")
    parser.add_argument("--base", type=Path, help="compare: folder of another checkout, with its own .venv")
    parser.add_argument(
        "--base-settings",
        type=_settings,
        default={},
        help="compare: NAME=value,... for the other checkout alone",
    )
    parser.add_argument(
        "--overload",
        choices=OVERLOAD,
        default="",
        help="compare: goodput under overload, too, or nothing else",
    )
    parser.add_argument("--quick", default="", help="any value: short rounds, for development")
    parser.add_argument("--data", type=Path, default=Path(".data"), help="folder for temporary data and JSON")
    given = parser.parse_args([text for text in arguments if not text.endswith("=")])
    limits = (given.workloads, given.connections, given.rounds, given.seconds, given.rows, given.minutes)
    is_whole = not any([*limits, given.quick]) and given.command != "compare"
    results = (given.data / "bench-results").resolve()
    return Options(
        given.command,
        workloads=given.workloads or COMMAND_WORKLOADS.get(given.command, WORKLOADS),
        connections=given.connections,
        rounds=given.rounds or (QUICK_ROUNDS if given.quick else COMMAND_ROUNDS.get(given.command, ROUNDS)),
        seconds=given.seconds or (QUICK_SECONDS if given.quick else SECONDS),
        rows=given.rows,
        minutes=given.minutes,
        minute_seconds=QUICK_MINUTE_SECONDS if given.quick else MINUTE_SECONDS,
        base=given.base,
        base_settings=given.base_settings,
        overload=given.overload,
        data=(given.data / "bench").resolve(),
        # only the results of a whole run are published
        text_folder=PUBLISHED.resolve() if is_whole else results,
        json_folder=results,
    )


def _words(text: str) -> tuple[str, ...]:
    words = tuple(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in WORKLOADS:
            raise argparse.ArgumentTypeError(f"unknown workload {word!r}: use one of {', '.join(WORKLOADS)}")
    return words


def _settings(text: str) -> dict[str, str]:
    settings = dict(each.partition("=")[::2] for each in text.split(","))
    for name in settings:
        if not name.startswith(PREFIX):
            raise argparse.ArgumentTypeError(f"{name!r} is not a setting: the name must begin with {PREFIX}")
    return settings


def _number(minimum: int, maximum: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return convert


def _numbers(minimum: int, maximum: int) -> Callable[[str], tuple[int, ...]]:
    one = _number(minimum, maximum)

    def convert(text: str) -> tuple[int, ...]:
        return tuple(dict.fromkeys(one(each) for each in text.split(",")))

    return convert
