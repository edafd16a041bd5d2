"""Follows log files: lines half written, files that come later, are emptied or rotated."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from network.records import Record, read

_CHUNK_BYTES = 1_048_576
_MAX_LINE_BYTES = 1_048_576
_LOOK_FOR_FILES_SECONDS = 0.5
# not the services' own, and not JSON
POSTGRES = "postgres"


@dataclass(frozen=True)
class Chunk:
    """Whole lines of one service's log."""

    service: str
    data: bytes

    @property
    def count(self) -> int:
        return self.data.count(b"\n")

    def lines(self) -> list[bytes]:
        return [line for line in self.data.split(b"\n") if line.strip()]


class LogFile:
    """A log from its beginning, or from its last lines; `chunk` gives what is new.

    It may be rotated meanwhile: `<path>.1` is what it was before, `<path>.2` what it was before that.
    """

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
        for age in range(self._oldest() + 1):
            if (file := self._open(age)) is None:
                return
            self._go_on_with(file)
            count -= _to_last(file, count)
            if count <= 0:
                return

    def to_end(self) -> None:
        """Go to where the next line begins."""
        self.to_last(0)

    def chunk(self) -> bytes:
        """Return the next whole lines, about a megabyte at most; nothing where nothing is new."""
        if (file := self._current()) is None:
            return b""
        new = file.read(_CHUNK_BYTES)
        if not new and (following := self._following(file)) is not None:
            new = file.read(_CHUNK_BYTES)  # its last lines may have come after the first look
            if new:
                following.close()
            else:
                self._go_on_with(following)
                new = (b"\n" if self._rest else b"") + following.read(_CHUNK_BYTES)
        return self._whole(new)

    def _whole(self, new: bytes) -> bytes:
        written = self._rest + new
        end = written.rfind(b"\n") + 1
        if len(written) - end > _MAX_LINE_BYTES:
            end = len(written)
        self._rest = written[end:]
        return written[:end]

    def _current(self) -> BinaryIO | None:
        if self._file is None:
            self._file = self._open(self._oldest())
        elif os.fstat(self._file.fileno()).st_size < self._file.tell():  # emptied
            self._file.seek(0)
            self._rest = b""
        return self._file

    def _following(self, file: BinaryIO) -> BinaryIO | None:
        """Open what was written after this one, where that has begun."""
        if self._is_called(file, 0) or not self._path.exists():
            return None  # it is not rotated; or moved away, and still written to
        for age in range(1, self._oldest() + 2):
            if self._is_called(file, age):
                following = self._open(age - 1)
                if following is None or self._is_called(file, age):
                    return following
                following.close()  # rotated again in between: the next look finds the right one
                return None
        return self._open(0)  # it is gone: removed, or too old to be kept

    def _go_on_with(self, file: BinaryIO) -> None:
        self.close()
        self._file = file

    def _name(self, age: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{age}") if age else self._path

    def _open(self, age: int) -> BinaryIO | None:
        try:
            return self._name(age).open("rb")
        except FileNotFoundError:
            return None

    def _oldest(self) -> int:
        ages = (path.suffix[1:] for path in self._path.parent.glob(f"{self._path.name}.*"))
        return max((int(age) for age in ages if age.isdecimal()), default=0)

    def _is_called(self, file: BinaryIO, age: int) -> bool:
        try:
            return os.path.samestat(self._name(age).stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False


def _to_last(file: BinaryIO, count: int) -> int:
    """Go to where the last lines of a file begin, and return how many they are."""
    position, newlines = file.seek(0, os.SEEK_END), 0
    while position and newlines <= count:
        step = min(65_536, position)
        position = file.seek(position - step)
        newlines += file.read(step).count(b"\n")
    file.seek(position)
    for _ in range(newlines - count):
        file.readline()
    return min(newlines, count)


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

    def chunks(self) -> list[Chunk]:
        """Return the next of each file that has something new; ask again until nothing comes."""
        self._look_for_files()
        return [Chunk(service, data) for service, file in self._files.items() if (data := file.chunk())]

    def read(self, chunks: Iterable[Chunk], *, holding: str = "") -> list[Record]:
        """Read the lines that hold these characters, each chunk once and in the order of `chunks`."""
        wanted = holding.encode()
        return [
            self._record(chunk.service, line.decode(errors="replace"))
            for chunk in chunks
            for line in chunk.lines()
            if wanted in line
        ]

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
