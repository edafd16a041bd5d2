"""The log file of a service. The service itself rotates it: no other process knows where a line ends."""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

OLDER_FILES: Final = 3
OUTPUT: Final = (1, 2)


class LogFile:
    """A file for stdout and stderr. At ``max_bytes`` it is renamed to ``<path>.1``, that file to ``.2``, up to ``.3``."""

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        *,
        older_files: int = OLDER_FILES,
        descriptors: Sequence[int] = OUTPUT,
    ) -> None:
        self._max_bytes = max_bytes
        self._path = path
        self._new = path.with_name(f"{path.name}.new")
        self._older = [path.with_name(f"{path.name}.{number}") for number in range(1, older_files + 1)]
        self._descriptors = descriptors

    def redirect_output(self) -> None:
        """Write all output to the file from now on. Raises OSError."""
        with _open(self._path) as file:
            self._redirect_to(file.fileno())

    def rotate_if_full(self) -> None:
        """Rotate a full file; to be called between lines. After OSError output continues in the present file."""
        if os.fstat(self._descriptors[0]).st_size >= self._max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        with _open(self._new) as file:
            _remove(self._older[-1])
            names = [*reversed(self._older), self._path]
            for older, newer in pairwise(names):
                with suppress(FileNotFoundError):
                    newer.replace(older)
            # before a file has the name again: a reader that follows the log leaves the old file then,
            # so nothing may be written to it later
            self._redirect_to(file.fileno())
            self._new.replace(self._path)

    def _redirect_to(self, file: int) -> None:
        for descriptor in self._descriptors:
            os.dup2(file, descriptor)


def _open(path: Path) -> BinaryIO:
    """Open a file that only its owner can read: log lines name callers and quotes."""
    file = path.open("ab")
    os.fchmod(file.fileno(), 0o600)
    return file


def _remove(path: Path) -> None:
    """Remove a file. A thread frees its disk space, which takes up to 50 ms for 64 MiB."""
    with suppress(FileNotFoundError):
        file = path.open("rb")
        path.unlink()
        threading.Thread(target=file.close, name="log-file-removal").start()
