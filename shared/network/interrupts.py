"""What a signal does to a run: the first asks it to stop, a second Ctrl-C kills at once."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


class Interrupts:
    """From `install` on SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, once."""

    def __init__(self, kill_all: Callable[[], None]) -> None:
        self._kill_all = kill_all

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._stop)

    def stopping(self) -> None:
        """From now on no signal interrupts: a Ctrl-C kills, the others change nothing."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._kill)

    def _stop(self, *_: object) -> None:
        self.stopping()
        raise KeyboardInterrupt

    def _kill(self, *_: object) -> None:
        self._kill_all()
        os._exit(130)


def end_with(parent: int) -> None:
    """Have ourselves sent SIGTERM when `parent`, who has started us, ends however (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        raise KeyboardInterrupt
