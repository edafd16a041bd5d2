"""Runs a command that ends when the process that started it does. A script of its own: imports nothing of ours.

    python -I -S tether.py SIGNAL PARENT UID GID COMMAND ARGUMENT…

The kernel sends SIGNAL to the command when the starting thread ends, also by SIGKILL (Linux; elsewhere the
command is just run). A process in between rather than subprocess' preexec_fn: that is not safe beside threads,
and Python 3.12 warns of it. UID and GID may be empty; they are taken here because a change of user clears the
wish.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    death_signal, parent, uid, gid, *command = sys.argv[1:]
    if uid:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):  # it ended before the wish was told
        sys.exit(1)
    # Python ignores these two, and what is ignored stays so for the command
    for name in ("SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.execv(command[0], command)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    main()
