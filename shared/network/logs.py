"""`make logs`: all services' logs, merged by time."""

import heapq
import itertools
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from network import lines, plan
from network.records import Record, way
from network.tail import POSTGRES, Chunk, LogFolder
from network.terminal import Terminal

_HISTORY_LINES = 200
_LOOK_SECONDS = 0.1
# services hold lines back for up to 0.2 s
_WINDOW_SECONDS = 0.4


class UnknownServiceError(ValueError):
    """There is no such service, nor a log of that name."""


class Merger:
    """Lines of several files in the order of their times, each held back for `window_seconds` at least."""

    def __init__(
        self, window_seconds: float = _WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window_seconds = window_seconds
        self._clock = clock
        self._count = itertools.count()
        self._held: list[tuple[float, int, float, Record]] = []

    def add(self, records: Iterable[Record]) -> None:
        now = self._clock()
        for record in records:
            heapq.heappush(self._held, (record.at, next(self._count), now, record))

    def due(self) -> list[Record]:
        """Take what came a window ago, and before it whatever is older by its own time."""
        until = self._clock() - self._window_seconds
        latest = max((at for at, _, came, _ in self._held if came <= until), default=None)
        if latest is None:
            return []
        taken = []
        while self._held and self._held[0][0] <= latest:
            taken.append(heapq.heappop(self._held)[3])
        return taken


def show(
    data: Path,
    terminal: Terminal,
    *,
    trace: str | None = None,
    service: str | None = None,
    follow: bool = True,
) -> None:
    """Print what is there (the last lines; all of one trace), then what comes, until interrupted."""
    folder = LogFolder(_checked(data / "logs", service), service)
    try:
        if trace is None:
            folder.to_last(_HISTORY_LINES)
        history = _history(folder, trace)
        _print(history if trace else history[-_HISTORY_LINES:], terminal, trace)
        if follow:
            _follow(folder, terminal, trace)
    finally:
        folder.close()


def _follow(folder: LogFolder, terminal: Terminal, trace: str | None) -> None:
    merger = Merger()
    while terminal.is_read():
        merger.add(_read(folder, folder.chunks(), trace))
        _print(merger.due(), terminal, trace)
        time.sleep(_LOOK_SECONDS)


def _history(folder: LogFolder, trace: str | None) -> list[Record]:
    history: list[Record] = []
    while chunks := folder.chunks():
        history += _read(folder, chunks, trace)
    return sorted(history, key=lambda record: record.at)


def _read(folder: LogFolder, chunks: Iterable[Chunk], trace: str | None) -> list[Record]:
    records = folder.read(chunks, holding=trace or "")
    return [record for record in records if trace is None or record.trace_id == trace]


def _print(records: list[Record], terminal: Terminal, trace: str | None) -> None:
    if trace is None:
        for record in records:
            terminal.say(lines.line(record, terminal))
        return
    for hop in way(records):
        terminal.say(lines.hop(hop, terminal))


def _checked(folder: Path, service: str | None) -> Path:
    if service and service not in {*plan.NAMES, POSTGRES} and not (folder / f"{service}.log").exists():
        raise UnknownServiceError(f"no service {service!r}; there are {', '.join((*plan.NAMES, POSTGRES))}")
    return folder
