"""Follows log files: lines half written, files that come later, are emptied or replaced."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from network.records import Record, read

_CHUNK_BYTES = 1_048_576
_MOST_LINE_BYTES = 1_048_576
_LOOK_FOR_FILES_SECONDS = 0.5
# not the services' own, and not JSON
POSTGRES = "postgres"


class LogFile:
    """One file from its beginning, or from its last lines; `lines` gives what is new and whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._rest = b""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def to_last(self, count: int) -> None:
        """Go to where the last `count` lines begin."""
        if (file := self._open()) is None:
            return
        position, newlines = file.seek(0, os.SEEK_END), 0
        while position and newlines <= count:
            step = min(65_536, position)
            position = file.seek(position - step)
            newlines += file.read(step).count(b"\n")
        file.seek(position)
        for _ in range(newlines - count):
            file.readline()

    def to_end(self) -> None:
        """Go to where the next line begins."""
        self.to_last(0)

    def lines(self) -> list[str]:
        """Return the whole lines of the next chunk; nothing where nothing is new."""
        file = self._open()
        if file is None:
            return []
        read_bytes = file.read(_CHUNK_BYTES)
        if not read_bytes and self._replaced(file):
            self.close()
            left, self._rest = self._rest, b""
            return [left.decode(errors="replace")] if left else []
        *whole, self._rest = (self._rest + read_bytes).split(b"\n")
        if len(self._rest) > _MOST_LINE_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        return [line.decode(errors="replace") for line in whole if line.strip()]

    def _open(self) -> BinaryIO | None:
        if self._file is None:
            try:
                self._file = self._path.open("rb")
            except FileNotFoundError:
                return None
        elif os.fstat(self._file.fileno()).st_size < self._file.tell():  # emptied
            self._file.seek(0)
            self._rest = b""
        return self._file

    def _replaced(self, file: BinaryIO) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False  # moved away, and perhaps still written to


class LogFolder:
    """All log files of a folder, or one service's."""

    def __init__(
        self, folder: Path, service: str | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._service = service
        self._clock = clock
        self._files: dict[str, LogFile] = {}
        self._looked = float("-inf")
        self._latest: dict[str, float] = {}
        self._look_for_files()

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def to_last(self, count: int) -> None:
        for file in self._files.values():
            file.to_last(count)

    def to_end(self) -> None:
        for file in self._files.values():
            file.to_end()

    def records(self) -> list[Record]:
        """Return what is new, file by file; a chunk of each at most, so ask again until nothing comes."""
        self._look_for_files()
        return [self._record(service, line) for service, file in self._files.items() for line in file.lines()]

    def all_records(self) -> list[Record]:
        """Return all there is."""
        found: list[Record] = []
        while new := self.records():
            found += new
        return found

    def _record(self, service: str, line: str) -> Record:
        # what has no time belongs to the line before it
        record = read(service, line, otherwise_at=self._latest.get(service) or time.time())
        self._latest[service] = record.at
        return record

    def _look_for_files(self) -> None:
        if self._clock() - self._looked < _LOOK_FOR_FILES_SECONDS:
            return
        self._looked = self._clock()
        for path in sorted(self._folder.glob("*.log")):
            name = path.stem
            if name not in self._files and (name == self._service if self._service else name != POSTGRES):
                self._files[name] = LogFile(path)
