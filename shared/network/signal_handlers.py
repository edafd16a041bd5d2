"""Handles signals to `make run`. The first signal stops the network; a second Ctrl-C kills every process at once."""

import os
import signal
from collections.abc import Callable


class SignalHandlers:
    """After `install`, the first SIGINT, SIGTERM or SIGHUP raises KeyboardInterrupt in the main thread."""

    def __init__(self, kill_all: Callable[[], None]) -> None:
        self._kill_all = kill_all

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)

    def ignore_but_kill(self) -> None:
        """From now on, let Ctrl-C kill every process at once, and ignore SIGTERM and SIGHUP."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, self._kill)

    def _interrupt(self, *_: object) -> None:
        self.ignore_but_kill()
        raise KeyboardInterrupt

    def _kill(self, *_: object) -> None:
        self._kill_all()
        os._exit(130)
