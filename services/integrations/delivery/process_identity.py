"""Identity of a process: which machine it runs on, and whether it still exists there.

A process id alone is not enough, as the system reuses them. The start time of the process, the boot of the machine and
the process namespace make it unique; each container has another namespace.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_STATE_FIELD = 0
_START_FIELD = 19
"""Fields of /proc/<pid>/stat behind the command, which may contain spaces."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`machine` is empty where the system does not tell; then no process is ever called dead."""

    machine: str
    text: str

    def is_dead(self, other: str) -> bool:
        """Whether `other` is a process of this machine that no longer exists."""
        if not self.machine or not other.startswith(self.machine):
            return False
        pid, _, started = other.removeprefix(self.machine).partition(":")
        return pid.isdigit() and not _exists(int(pid), started)


def this_process() -> ProcessIdentity:
    pid = os.getpid()
    started = _start_time(pid)
    try:
        parts = f"{_BOOT_ID.read_text()}{_NAMESPACE.readlink()}"
    except OSError:
        return ProcessIdentity("", "")
    machine = hashlib.blake2b(parts.encode(), digest_size=8).hexdigest() + ":"
    return ProcessIdentity(machine, f"{machine}{pid}:{started}")


def _exists(pid: int, started: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's, and /proc may hide it
        return True
    return _start_time(pid) == started


def _start_time(pid: int) -> str | None:
    """Return when a process started, in clock ticks since the boot, or None if it does not exist or has ended."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE_FIELD] in {"Z", "X"} else fields[_START_FIELD]
