"""`make logs`: prints the logs of all services together, sorted by time."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from network import log_format, topology
from network.log_files import POSTGRES, LogChunk, LogFolder
from network.log_records import LogRecord, order_hops
from network.terminal import Terminal

HISTORY_LINES = 200
LOOK_SECONDS = 0.1
# services hold lines back for up to 0.2 s
_WINDOW_SECONDS = 0.4


class LogsNotFoundError(ValueError):
    """The folder, the service or the trace has no logs."""


class LogMerger:
    """Sorts the lines of several files by time. For this purpose it keeps each line for `window_seconds`."""

    def __init__(
        self, window_seconds: float = _WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_seconds = window_seconds
        self._clock = clock
        self._count = itertools.count()
        self._held: list[tuple[float, int, float, LogRecord]] = []

    def add(self, records: Iterable[LogRecord]) -> None:
        now = self._clock()
        for record in records:
            heapq.heappush(self._held, (record.time, next(self._count), now, record))

    def take_due(self) -> list[LogRecord]:
        """Remove and return the lines that have been kept long enough, and all lines with an earlier time."""
        added_before = self._clock() - self._window_seconds
        latest = max((time for time, _, added, _ in self._held if added <= added_before), default=None)
        if latest is None:
            return []
        due = []
        while self._held and self._held[0][0] <= latest:
            due.append(heapq.heappop(self._held)[3])
        return due


def show(
    data: Path,
    terminal: Terminal,
    *,
    trace: str | None = None,
    service: str | None = None,
    follow: bool = True,
) -> None:
    """Print the last lines, or all lines of one trace; then print new lines until interrupted.

    If `follow` is false, it ends after the existing lines. Raises `LogsNotFoundError` if the folder or the service
    does not exist, or if there are no lines and `follow` is false.
    """
    folder = LogFolder(_existing_folder(data, service), service)
    try:
        if trace is None:
            folder.seek_last(HISTORY_LINES)
        history = _read_history(folder, trace)
        print_records(history if trace else history[-HISTORY_LINES:], terminal, trace)
        if not history:
            report_nothing_found(terminal, trace=trace, service=service, place=data / "logs", follow=follow)
        if follow:
            _follow(folder, terminal, trace)
    finally:
        folder.close()


def report_nothing_found(
    terminal: Terminal, *, trace: str | None, service: str | None, place: object, follow: bool
) -> None:
    """Print that there are no lines, perhaps because a name is misspelt. Raises LogsNotFoundError unless `follow`."""
    of_service = f" of {service}" if service else ""
    text = f"no line{of_service} in {place}" + (f" has the trace id {trace!r}" if trace else "")
    if not follow:
        raise LogsNotFoundError(text)
    terminal.print_line(terminal.colour(f"{text}; waiting for new lines, Ctrl-C ends", "dim"))


def print_records(records: list[LogRecord], terminal: Terminal, trace: str | None) -> None:
    """Print records, which are sorted by time. The records of one trace are printed in the order of the hops."""
    if trace is None:
        for record in records:
            terminal.print_line(log_format.format_record(record, terminal))
        return
    for hop in order_hops(records):
        terminal.print_line(log_format.format_hop(hop, terminal))


def _follow(folder: LogFolder, terminal: Terminal, trace: str | None) -> None:
    merger = LogMerger()
    while terminal.has_reader():
        merger.add(_parse(folder, folder.next_chunks(), trace))
        print_records(merger.take_due(), terminal, trace)
        time.sleep(LOOK_SECONDS)


def _read_history(folder: LogFolder, trace: str | None) -> list[LogRecord]:
    history: list[LogRecord] = []
    while chunks := folder.next_chunks():
        history += _parse(folder, chunks, trace)
    return sorted(history, key=lambda record: record.time)


def _parse(folder: LogFolder, chunks: Iterable[LogChunk], trace: str | None) -> list[LogRecord]:
    records = folder.parse(chunks, containing=trace or "")
    return [record for record in records if trace is None or record.trace_id == trace]


def _existing_folder(data: Path, service: str | None) -> Path:
    folder = data / "logs"
    if not folder.is_dir():
        raise LogsNotFoundError(
            f"there is no folder {folder}: DATA names the data folder of `make run`, which writes its logs there"
        )
    known = (*topology.SERVICE_NAMES, POSTGRES)
    if service and service not in known and not (folder / f"{service}.log").exists():
        raise LogsNotFoundError(f"there is no service {service!r}; SERVICE is one of {', '.join(known)}")
    return folder
