"""Makes a process end when its parent ends, even by SIGKILL: on Linux, the kernel then sends the process a signal.

As a script, this module requests the signal for its own process and then becomes COMMAND. On other systems it only
becomes COMMAND.

    python -I -S parent_death.py SIGNAL PARENT UID GID COMMAND ARGUMENT…

A separate script is used because the preexec_fn of subprocess is not safe with threads, and Python 3.12 warns about
it. The kernel forgets the request when the user changes. So the script first changes to UID and GID (which may be
empty), and then requests the signal. The script runs without the project on its path, so it imports only the standard
library.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def is_tied_to(parent: int, death_signal: int) -> bool:
    """Make the kernel send this process `death_signal` when `parent` ends. Returns False if `parent` has ended."""
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
    # SIGHUP would end the command if it arrived before the command handles it; until here the parent has blocked it
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    os.execv(command[0], command)  # noqa: S606 - there is no shell to go through


if __name__ == "__main__":
    main()
