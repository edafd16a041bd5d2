"""Handles signals to `make run`.

The first SIGINT or SIGTERM stops the network; a second Ctrl-C kills every process at once. SIGHUP makes the services
read their files again. A window that closes sends SIGHUP, too; `make run` then stops because its output has no reader.
"""

import os
import signal
from collections.abc import Callable


class SignalHandlers:
    """After `install`, the first SIGINT or SIGTERM raises KeyboardInterrupt in the main thread."""

    def __init__(self, kill_all: Callable[[], None]) -> None:
        self._kill_all = kill_all
        self._reload_requested = False

    def install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)
        signal.signal(signal.SIGHUP, self._request_reload)

    def take_reload(self) -> bool:
        """Whether SIGHUP has arrived since the last call."""
        requested, self._reload_requested = self._reload_requested, False
        return requested

    def _request_reload(self, *_: object) -> None:
        self._reload_requested = True

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
