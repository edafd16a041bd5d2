"""Finds the lines of a trace or a quote in the services' log files, where the console runs beside them.

A search is limited in bytes, lines and time, because log files are large and a page must not wait for them. It begins
with the newest lines of each file. A line of JSON begins with its time, so a search with a time window skips the rest
of a file by bisection.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from chassis.logs import iso_time
from console.traces.log_line import LogLine, parse_line

MAX_BYTES: Final = 512 * 1_048_576
MAX_SECONDS: Final = 2.0
MAX_LINES: Final = 400
MAX_FILES: Final = 128
CHUNK_BYTES: Final = 1_048_576

_POSTGRES: Final = "postgres"
_PROBE_BYTES: Final = 65_536
_TIME_START: Final = b'{"time":"'
_TIME_BYTES: Final = len("2026-01-31T12:00:00.000Z")


@dataclass(frozen=True)
class TimeWindow:
    """Unix times in seconds, both included."""

    since: float
    until: float


@dataclass(frozen=True)
class FoundLines:
    """The lines that a search has found, in the order of their times. `is_complete` is false if a limit ended the search."""

    lines: tuple[LogLine, ...]
    is_complete: bool


class LogSearch:
    """Searches the log files of one folder. The calls take up to two seconds, so make them in a thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of_trace(self, trace: str, window: TimeWindow | None = None) -> FoundLines:
        """Return the lines with this L1p trace id."""
        found = self._find(f'"traceId":"{trace}"'.encode(), window)
        return FoundLines(tuple(line for line in found.lines if line.trace_id == trace), found.is_complete)

    def of_quote(self, uuid: str, window: TimeWindow | None = None) -> FoundLines:
        """Return the lines that name a quote: in their uuid or in their path."""
        return self._find(uuid.encode(), window)

    def _find(self, wanted: bytes, window: TimeWindow | None) -> FoundLines:
        with ExitStack() as stack:
            searches = [(service, _blocks(files, window)) for service, files in self._open(stack).items()]
            found = _search(searches, wanted)
        if window is None:
            return found
        lines = tuple(line for line in found.lines if window.since <= line.time <= window.until)
        return FoundLines(lines, found.is_complete)

    def _open(self, stack: ExitStack) -> dict[str, list[BinaryIO]]:
        """Open the log files of each service, the newest file first."""
        found: dict[str, list[BinaryIO]] = {}
        for path in sorted(self._folder.glob("*.log*"))[:MAX_FILES]:
            service, _, age = path.name.partition(".log")
            if service != _POSTGRES and (not age or age[1:].isdecimal()):
                try:
                    file = stack.enter_context(path.open("rb"))
                except OSError:  # rotated away just now, or not readable
                    continue
                found.setdefault(service, []).append(file)
        return found


def _search(searches: Sequence[tuple[str, Iterator[bytes]]], wanted: bytes) -> FoundLines:
    """Read a block of each service in turn, so that a search that a limit ends has gone equally far back in all of them."""
    lines: list[LogLine] = []
    left, until = MAX_BYTES, time.monotonic() + MAX_SECONDS
    open_searches = list(searches)
    while open_searches:
        if left <= 0 or len(lines) >= MAX_LINES or time.monotonic() > until:
            break
        for search in list(open_searches):
            service, blocks = search
            block = next(blocks, None)
            if block is None:
                open_searches.remove(search)
                continue
            left -= len(block)
            if wanted in block:
                lines += _parsed(service, (line for line in block.split(b"\n") if wanted in line))
    lines.sort(key=lambda line: line.time)
    return FoundLines(tuple(lines[-MAX_LINES:]), not open_searches and len(lines) <= MAX_LINES)


def _parsed(service: str, lines: Iterator[bytes]) -> list[LogLine]:
    parsed = (parse_line(service, line) for line in lines)
    return [line for line in parsed if line is not None]


def _blocks(files: Sequence[BinaryIO], window: TimeWindow | None) -> Iterator[bytes]:
    """Yield the whole lines of a service's files in blocks, the newest block first."""
    for file in files:
        start, end = 0, os.fstat(file.fileno()).st_size
        if window is not None:
            start = _bisect(file, start, end, iso_time(max(window.since, 0)).encode())
            end = _bisect(file, start, end, iso_time(max(window.until, 0)).encode(), after=True)
        yield from _backwards(file, start, end)


def _backwards(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    position, rest = end, b""
    while position > start:
        step = min(CHUNK_BYTES, position - start)
        position -= step
        file.seek(position)
        data = file.read(step) + rest
        cut = data.find(b"\n") + 1 if position > start else 0
        rest = data[:cut]
        if len(rest) > CHUNK_BYTES:  # longer than any log line, so this is no line
            rest = b""
        yield data[cut:]


def _bisect(file: BinaryIO, start: int, end: int, time_: bytes, *, after: bool = False) -> int:
    """Return the offset of a line near `time_`, or `start` or `end`.

    It is at or before the first line with this time; with `after`, behind the last one. It may be up to a chunk away from
    that line.
    """
    low, high = start, end
    while high - low > CHUNK_BYTES:
        middle = (low + high) // 2
        file.seek(middle)
        offset, found = _first_time(file.read(_PROBE_BYTES))
        if not found:
            break
        if found < time_ or (after and found == time_):
            low = middle + offset
        else:
            high = middle + offset
    return high if after else low


def _first_time(data: bytes) -> tuple[int, bytes]:
    """Return the offset and the time of the first whole line that begins with a time; an empty time if there is none."""
    at = data.find(b"\n" + _TIME_START) + 1
    begin = at + len(_TIME_START)
    return (at, data[begin : begin + _TIME_BYTES]) if at else (0, b"")
