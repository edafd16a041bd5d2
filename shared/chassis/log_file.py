"""The log file of a service. The service rotates the file itself, because no other process knows where a line ends."""

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
    """A file for stdout and stderr. At ``max_bytes`` it is renamed to ``<path>.1``, and a new file begins.

    Before that, ``.1`` is renamed to ``.2`` and ``.2`` to ``.3``; the old ``.3`` is removed.
    """

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
        """Write stdout and stderr to the file from now on. Raises OSError."""
        with _open(self._path) as file:
            self._redirect_to(file.fileno())

    def rotate_if_full(self) -> None:
        """Rotate the file if it is full. Call it between two lines. After OSError the old file stays in use."""
        if os.fstat(self._descriptors[0]).st_size >= self._max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        with _open(self._new) as file:
            _remove(self._older[-1])
            names = [*reversed(self._older), self._path]
            for older, newer in pairwise(names):
                with suppress(FileNotFoundError):
                    newer.replace(older)
            # before the new file gets the log's name: a reader that follows the log then leaves the old file,
            # so nothing may be written to the old file later
            self._redirect_to(file.fileno())
            self._new.replace(self._path)

    def _redirect_to(self, file: int) -> None:
        for descriptor in self._descriptors:
            os.dup2(file, descriptor)


def _open(path: Path) -> BinaryIO:
    """Open a file that only its owner can read, because log lines contain the names of callers and quotes."""
    file = path.open("ab")
    os.fchmod(file.fileno(), 0o600)
    return file


def _remove(path: Path) -> None:
    """Remove a file. A thread closes it, because to free the disk space of 64 MiB takes up to 50 ms."""
    with suppress(FileNotFoundError):
        file = path.open("rb")
        path.unlink()
        threading.Thread(target=file.close, name="log-file-removal").start()
