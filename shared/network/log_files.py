"""Follows log files, including files that are created later, truncated or rotated."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from network.log_records import LogRecord, parse

_MAX_CHUNK_BYTES = 1_048_576
_MAX_LINE_BYTES = 1_048_576
_FILE_SCAN_INTERVAL_SECONDS = 0.5
_MAX_VAIN_SEARCHES = 20
# Postgres' log is not JSON and is shown only on request
POSTGRES = "postgres"


@dataclass(frozen=True)
class LogChunk:
    """Complete lines of one service's log."""

    service: str
    data: bytes

    @property
    def line_count(self) -> int:
        return self.data.count(b"\n")

    def lines(self) -> list[bytes]:
        return [line for line in self.data.split(b"\n") if line.strip()]


class FollowedLog:
    """Reads a log chunk by chunk: from its beginning, or from the position that `seek_last` or `seek_end` sets.

    The log may be rotated at any time: `<path>.1` is then the previous file, and `<path>.2` the one before it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._partial_line = b""
        self._vain_searches = 0

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def seek_last(self, lines: int) -> None:
        """Move to the first of the last `lines` lines. It may be in an older file."""
        for age in range(self._oldest_age() + 1):
            if (file := self._open(age)) is None:
                return
            self._continue_with(file)
            lines -= _seek_last(file, lines)
            if lines <= 0:
                return

    def seek_end(self) -> None:
        self.seek_last(0)

    def seek_since(self, time: float) -> None:
        """Move to the beginning of the first file that may have lines after the Unix time `time`."""
        for age in range(self._oldest_age(), -1, -1):
            if (file := self._open(age)) is None:
                continue
            if age == 0 or os.fstat(file.fileno()).st_mtime >= time:
                self._continue_with(file)
                return
            file.close()

    def next_chunk(self) -> bytes:
        """Return the next complete lines, at most about a megabyte; empty if there is nothing new."""
        if (file := self._current_file()) is None:
            return b""
        new = file.read(_MAX_CHUNK_BYTES)
        if not new and (next_file := self._open_next(file)) is not None:
            new = file.read(_MAX_CHUNK_BYTES)  # lines that were written just before the rotation
            if new:
                next_file.close()
            else:
                self._continue_with(next_file)
                new = (b"\n" if self._partial_line else b"") + next_file.read(_MAX_CHUNK_BYTES)
        return self._take_whole_lines(new)

    def _take_whole_lines(self, new: bytes) -> bytes:
        data = self._partial_line + new
        end = data.rfind(b"\n") + 1
        if len(data) - end > _MAX_LINE_BYTES:
            end = len(data)
        self._partial_line = data[end:]
        return data[:end]

    def _current_file(self) -> BinaryIO | None:
        if self._file is None:
            self._file = self._open(self._oldest_age())
        elif os.fstat(self._file.fileno()).st_size < self._file.tell():  # truncated
            self._file.seek(0)
            self._partial_line = b""
        return self._file

    def _open_next(self, file: BinaryIO) -> BinaryIO | None:
        """Open the file that follows `file`, which was rotated. Return None if it was not rotated."""
        if self._has_age(file, 0) or not self._path.exists():
            return None  # not rotated; or renamed just now, and the service still writes to it
        for age in range(1, self._oldest_age() + 2):
            if self._has_age(file, age):
                next_file = self._open(age - 1)
                if next_file is None or self._has_age(file, age):
                    return next_file
                next_file.close()  # rotated once more meanwhile: the next call finds the right file
                return None
        self._vain_searches += 1
        if os.fstat(file.fileno()).st_nlink and self._vain_searches < _MAX_VAIN_SEARCHES:
            return None  # perhaps rotated several times during the search: the next call may find it
        return self._open(0)  # this one was deleted, or moved elsewhere

    def _continue_with(self, file: BinaryIO) -> None:
        self.close()
        self._file = file
        self._vain_searches = 0

    def _path_of_age(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}") if age else self._path

    def _open(self, age: int) -> BinaryIO | None:
        try:
            return self._path_of_age(age).open("rb")
        except FileNotFoundError:
            return None

    def _oldest_age(self) -> int:
        ages = (path.suffix[1:] for path in self._path.parent.glob(f"{self._path.name}.*"))
        return max((int(age) for age in ages if age.isdecimal()), default=0)

    def _has_age(self, file: BinaryIO, age: int) -> bool:
        try:
            return os.path.samestat(self._path_of_age(age).stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False


def _seek_last(file: BinaryIO, lines: int) -> int:
    """Move to the first of the last `lines` lines. Return the number of lines from there to the end of the file.

    The file may have fewer lines than `lines`.
    """
    position, newlines = file.seek(0, os.SEEK_END), 0
    while position and newlines <= lines:
        step = min(65_536, position)
        position = file.seek(position - step)
        newlines += file.read(step).count(b"\n")
    file.seek(position)
    for _ in range(newlines - lines):
        file.readline()
    return min(newlines, lines)


class LogFolder:
    """Reads all logs of a folder except the log of Postgres, or only the log of one service."""

    def __init__(
        self, folder: Path, service: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._service = service
        self._clock = clock
        self._logs: dict[str, FollowedLog] = {}
        self._scanned_at = float("-inf")
        self._latest_line: dict[str, bytes] = {}
        self._scan()

    def close(self) -> None:
        for log in self._logs.values():
            log.close()

    def seek_last(self, lines: int) -> None:
        for log in self._logs.values():
            log.seek_last(lines)

    def seek_end(self) -> None:
        for log in self._logs.values():
            log.seek_end()

    def seek_since(self, time: float) -> None:
        for log in self._logs.values():
            log.seek_since(time)

    def next_chunks(self) -> list[LogChunk]:
        """Return the next chunk of each log that has one. To read everything, call it until the list is empty."""
        self._scan()
        return [LogChunk(service, data) for service, log in self._logs.items() if (data := log.next_chunk())]

    def parse(
        self, chunks: Iterable[LogChunk], may_accept: Callable[[bytes], bool] = lambda _line: True
    ) -> list[LogRecord]:
        """Parse the lines for which `may_accept` is true. Pass each chunk once, in the order of reading."""
        records = []
        for chunk in chunks:
            for line in chunk.lines():
                is_json = line.startswith(b"{")
                if may_accept(line):
                    default_time = time.time() if is_json else self._time_of_latest_line(chunk.service)
                    records.append(
                        parse(chunk.service, line.decode(errors="replace"), default_time=default_time)
                    )
                if is_json:
                    self._latest_line[chunk.service] = line
        return records

    def _time_of_latest_line(self, service: str) -> float:
        """Return the time for a line without a time, such as a line of a traceback: that of the line before it."""
        line = self._latest_line.get(service, b"")
        return parse(service, line.decode(errors="replace"), default_time=time.time()).time

    def _scan(self) -> None:
        if self._clock() - self._scanned_at < _FILE_SCAN_INTERVAL_SECONDS:
            return
        self._scanned_at = self._clock()
        for path in sorted(self._folder.glob("*.log")):
            name = path.stem
            is_shown = name == self._service if self._service else name != POSTGRES
            if is_shown and name not in self._logs:
                self._logs[name] = FollowedLog(path)
