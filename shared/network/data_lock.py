"""Allows only one `make run` per data folder. It first waits until the processes of a killed run have ended."""

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
    """Two file locks. One belongs to the run alone. Every process of the run also holds the other one, `shared`.

    The processes inherit the descriptor `shared`. The kernel releases a lock when the last process that holds it ends.
    So a run that gets the first lock knows that no other run is alive. When it also gets the second lock, it knows
    that no process of a killed run is left.
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
            # only on Linux do they end with their run; elsewhere the port check names those that are left
            timer = PollTimer(_LEFTOVER_SECONDS if sys.platform == "linux" else 1)
            while timer.wait() and not _try_lock(self.shared):
                pass

    def release(self) -> None:
        os.close(self.shared)
        os.close(self._own)


def is_in_use(data: Path) -> bool:
    """Whether a `make run` uses this data folder at present."""
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
