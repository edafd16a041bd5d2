"""One run per data folder, which waits for what a killed one has left."""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

from network.deadline import Deadline

# services have ten seconds, Postgres follows
_LEFTOVER_SECONDS = 15


class DataInUseError(RuntimeError):
    """Another run uses this data folder."""


class DataLock:
    """Two locks: the run's own, and one that its processes hold too (give them `shared`).

    The kernel drops a lock with its last holder. So whoever gets the first knows that no run is alive, and
    whoever gets the second that none of a killed run's processes is.
    """

    def __init__(self, data: Path, tell: Callable[[str], None]) -> None:
        self._own = _open(data / ".run.lock")
        if not _take(self._own):
            raise DataInUseError(f"another `make run` (process {_read(self._own)}) uses the data in {data}")
        os.ftruncate(self._own, 0)
        os.write(self._own, str(os.getpid()).encode())
        self.shared = _open(data / ".processes.lock")
        if not _take(self.shared):
            tell("waiting for the processes of an earlier run to end")
            # elsewhere they do not end with the run: the check of the ports will say which are there
            deadline = Deadline(_LEFTOVER_SECONDS if sys.platform == "linux" else 1)
            while deadline.waits() and not _take(self.shared):
                pass

    def release(self) -> None:
        os.close(self.shared)
        os.close(self._own)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(descriptor: int) -> str:
    return os.pread(descriptor, 20, 0).decode(errors="replace")
