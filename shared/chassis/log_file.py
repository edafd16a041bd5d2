"""The file that a service's log goes to, kept small by the service itself: nobody else knows when a line ends."""

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
    """Stdout and stderr as a file. At ``max_bytes`` it becomes ``<path>.1``, what was that ``.2``, up to ``.3``."""

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

    def take_over(self) -> None:
        """From now on all output goes to the file. Raises OSError where it cannot be written to."""
        with _open(self._path) as file:
            self._lead_to(file.fileno())

    def rotate_if_full(self) -> None:
        """To be called between lines. Raises OSError where there can be no other file: output goes on all the same."""
        if os.fstat(self._descriptors[0]).st_size >= self._max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        with _open(self._new) as file:
            _remove(self._older[-1])
            names = [*reversed(self._older), self._path]
            for older, newer in pairwise(names):
                with suppress(FileNotFoundError):
                    newer.replace(older)
            # while there is no file of the name: who follows the log leaves the old one when there is another,
            # and nothing may be written to it after that
            self._lead_to(file.fileno())
            self._new.replace(self._path)

    def _lead_to(self, file: int) -> None:
        for descriptor in self._descriptors:
            os.dup2(file, descriptor)


def _open(path: Path) -> BinaryIO:
    """Open a file that only its owner can read: log lines name callers and quotes."""
    file = path.open("ab")
    os.fchmod(file.fileno(), 0o600)
    return file


def _remove(path: Path) -> None:
    """Remove a file here, and free what it held in a thread: 64 MiB take up to 50 ms."""
    with suppress(FileNotFoundError):
        file = path.open("rb")
        path.unlink()
        threading.Thread(target=file.close, name="log-file-removal").start()
