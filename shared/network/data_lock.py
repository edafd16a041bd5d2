"""One `make run` per data folder. It waits for the processes that a killed run has left."""

import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path

from network.polling import PollTimer

_RUN_LOCK = ".run.lock"
_PROCESSES_LOCK = ".processes.lock"
# services have ten seconds to stop, and Postgres stops after them
_LEFTOVER_SECONDS = 15


class DataInUseError(RuntimeError):
    """Another run uses this data folder."""


class DataLock:
    """Two locks: the run's own, and `shared`, a descriptor that every process of the run inherits.

    The kernel releases a lock when its last holder ends. So the owner of the first lock knows that no other run is
    alive, and the owner of the second that no process of a killed run is left.
    """

    def __init__(self, data: Path, report: Callable[[str], None]) -> None:
        self._own = _open(data / _RUN_LOCK)
        if not _try_lock(self._own):
            pid = os.pread(self._own, 20, 0).decode(errors="replace")
            raise DataInUseError(
                f"another `make run` (process {pid}) uses the data in {data}: stop it, or use another folder with DATA"
            )
        os.ftruncate(self._own, 0)
        os.write(self._own, str(os.getpid()).encode())
        self.shared = _open(data / _PROCESSES_LOCK)
        if not _try_lock(self.shared):
            report("waiting for the processes of an earlier run to end")
            # without Linux they do not end with their run: then the port check says which ones are left
            timer = PollTimer(_LEFTOVER_SECONDS if sys.platform == "linux" else 1)
            while timer.wait() and not _try_lock(self.shared):
                pass

    def release(self) -> None:
        os.close(self.shared)
        os.close(self._own)


def is_in_use(data: Path) -> bool:
    """Whether a `make run` uses this data folder."""
    try:
        with (data / _RUN_LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
