"""Identity of a process: shows on which machine it runs, and whether it still exists there.

The process id alone is not enough, because the system reuses ids. The start time of the process, the machine's boot id
and the process namespace make the identity unique. Each container has another namespace.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_STATE_FIELD = 0
_START_FIELD = 19
"""Positions of two fields in /proc/<pid>/stat, counted after the command, because a command may contain spaces."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """`text` identifies the process, and begins with `machine`, which identifies the machine.

    `machine` is empty if the system does not tell which machine it is. Then no other process ever counts as dead.
    """

    machine: str
    text: str

    def is_dead(self, other: str) -> bool:
        """Whether the process with the identity `other` ran on this machine and no longer exists."""
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
    except PermissionError:  # the process belongs to another user, and /proc may hide it
        return True
    return _start_time(pid) == started


def _start_time(pid: int) -> str | None:
    """Return the start time of a process in clock ticks after the boot; None if it has ended or does not exist."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[_STATE_FIELD] in {"Z", "X"} else fields[_START_FIELD]
