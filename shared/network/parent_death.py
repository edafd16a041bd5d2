"""Tie a process' life to its parent's: the kernel sends it a signal when the parent ends, even by SIGKILL (Linux).

As a script it ties itself, then becomes COMMAND; elsewhere than on Linux it just runs COMMAND:

    python -I -S parent_death.py SIGNAL PARENT UID GID COMMAND ARGUMENT…

A process in between is used because subprocess' preexec_fn is not safe beside threads, and Python 3.12 warns about
it. The kernel drops the tie when the user changes, so UID and GID (which may be empty) are set here, before it. As
a script this module runs without the project on its path: it imports only the standard library.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def is_tied_to(parent: int, death_signal: int) -> bool:
    """Have the kernel send us `death_signal` when the parent ends. Returns False if it has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    return os.getppid() == parent


def main() -> None:
    death_signal, parent, uid, gid, *command = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if not is_tied_to(int(parent), int(death_signal)):
        sys.exit(1)
    # Python ignores these two signals, and the command would inherit that
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    main()
