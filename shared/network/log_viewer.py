"""`make logs`: prints the logs of all services together, sorted by time."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

from network import log_format, topology
from network.log_files import POSTGRES, LogFolder
from network.log_filter import LogFilter, LogMatcher
from network.log_records import LogRecord, order_hops
from network.log_search import MAX_LINES, find_lines
from network.terminal import Terminal

HISTORY_LINES = 200
LOOK_SECONDS = 0.1
EVERYTHING = LogFilter()
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


class LogOutput(Protocol):
    """The place where lines are shown."""

    def has_reader(self) -> bool: ...

    def show(self, records: Sequence[LogRecord]) -> None:
        """Show records, which are sorted by time."""

    def note(self, text: str) -> None:
        """Show a remark about the lines."""


class TerminalOutput:
    """Prints lines for people. With `by_trace`, each trace is printed in the order of its hops."""

    def __init__(self, terminal: Terminal, *, by_trace: bool) -> None:
        self._terminal = terminal
        self._by_trace = by_trace
        self.has_reader = terminal.has_reader

    def show(self, records: Sequence[LogRecord]) -> None:
        for line in self._by_traces(records) if self._by_trace else self._by_time(records):
            self._terminal.print_line(line)

    def note(self, text: str) -> None:
        self._terminal.print_line(self._terminal.colour(text, "dim"))

    def _by_time(self, records: Sequence[LogRecord]) -> Iterator[str]:
        return (log_format.format_record(record, self._terminal) for record in records)

    def _by_traces(self, records: Sequence[LogRecord]) -> Iterator[str]:
        traces: dict[str, list[LogRecord]] = {}
        for record in records:
            traces.setdefault(record.trace_id, []).append(record)
        return (
            log_format.format_hop(hop, self._terminal)
            for found in traces.values()
            for hop in order_hops(found)
        )


def show(
    data: Path,
    output: LogOutput,
    wanted: LogFilter = EVERYTHING,
    *,
    service: str | None = None,
    follow: bool = True,
) -> None:
    """Show the last lines, or all lines that the filter accepts; then show new lines until interrupted.

    If `follow` is false, it ends after the existing lines. Raises `LogsNotFoundError` if the folder or the service
    does not exist, or if there are no lines and `follow` is false.
    """
    path = existing_folder(data, service)
    matcher = LogMatcher(wanted)
    is_filtered = wanted != EVERYTHING
    follow = follow and not wanted.is_over(time.time())
    with closing(LogFolder(path, service)) as folder:
        if not is_filtered:
            folder.seek_last(HISTORY_LINES)
        history = find_lines(folder, path, matcher, MAX_LINES if is_filtered else HISTORY_LINES)
        if history.is_cut and is_filtered:
            output.note(f"there are more lines; these are the last {MAX_LINES:,}")
        output.show(history.records)
        if not history.records:
            report_nothing_found(output, wanted, service=service, place=path, follow=follow)
        if follow:
            _follow(folder, output, matcher)


def report_nothing_found(
    output: LogOutput, wanted: LogFilter, *, service: str | None, place: object, follow: bool
) -> None:
    """Show that there are no lines, perhaps because a name is misspelt. Raises LogsNotFoundError unless `follow`."""
    of_service = f" of {service}" if service else ""
    text = f"no line{of_service} in {place}" + (f" has {wanted}" if wanted != EVERYTHING else "")
    if not follow:
        raise LogsNotFoundError(text)
    output.note(f"{text}; waiting for new lines, Ctrl-C ends")


class LogFollower:
    """Shows new lines that the filter accepts, some time after they were added, so that they are sorted by time."""

    def __init__(
        self, output: LogOutput, matcher: LogMatcher, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._output = output
        self._matcher = matcher
        self._merger = LogMerger(clock=clock)

    @property
    def is_over(self) -> bool:
        """Whether the filter accepts no later lines, or nothing reads the output any more."""
        return not self._output.has_reader() or self._matcher.filter.is_over(time.time() - _WINDOW_SECONDS)

    def add(self, records: Iterable[LogRecord]) -> None:
        new = list(records)
        self._matcher.note(new)
        self._merger.add(filter(self._matcher.filter.accepts, new))

    def show_due(self) -> None:
        # not before: a line that names the quote may come after other lines of its trace
        self._output.show([record for record in self._merger.take_due() if self._matcher.accepts(record)])


def _follow(folder: LogFolder, output: LogOutput, matcher: LogMatcher) -> None:
    follower = LogFollower(output, matcher)
    while not follower.is_over:
        follower.add(folder.parse(folder.next_chunks(), matcher.may_note_or_accept))
        follower.show_due()
        time.sleep(LOOK_SECONDS)


def existing_folder(data: Path, service: str | None) -> Path:
    """Return the folder of the logs. Raises LogsNotFoundError if it or the service does not exist."""
    folder = data / "logs"
    if not folder.is_dir():
        raise LogsNotFoundError(
            f"there is no folder {folder}: DATA names the data folder of `make run`, which writes its logs there"
        )
    known = (*topology.SERVICE_NAMES, POSTGRES)
    if service and service not in known and not (folder / f"{service}.log").exists():
        raise LogsNotFoundError(f"there is no service {service!r}; SERVICE is one of {', '.join(known)}")
    return folder
