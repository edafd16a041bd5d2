"""Starts again what ends by itself, but not for ever."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

_LOOK_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
_MOST, _PERIOD_SECONDS = 5, 60.0
_SHOWN_LINES, _SHOWN_CHARACTERS = 6, 240


class Watched(Protocol):
    """What can die and be started again: a `Child`, an `EmbeddedPostgres`."""

    @property
    def name(self) -> str: ...
    @property
    def died(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    def last_lines(self, count: int = 12) -> list[str]: ...
    def start(self) -> None: ...


class Budget:
    """At most `most` restarts in any `period_seconds`."""

    def __init__(self, most: int = _MOST, period_seconds: float = _PERIOD_SECONDS) -> None:
        self._most = most
        self._period_seconds = period_seconds
        self._spent: deque[float] = deque()

    def spend(self, now: float) -> bool:
        """Take one, if there is one."""
        while self._spent and now - self._spent[0] >= self._period_seconds:
            self._spent.popleft()
        if len(self._spent) >= self._most:
            return False
        self._spent.append(now)
        return True


class Supervisor:
    """Looks after `watched` in a thread of its own between `start` and `stop`; `tell` gets a line at a time."""

    def __init__(
        self,
        watched: Iterable[Watched],
        tell: Callable[[str], None],
        *,
        pause_seconds: float = _PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._budgets = {one.name: (one, Budget()) for one in watched}
        self._due: dict[str, float] = {}
        self._given_up: set[str] = set()
        self._tell = tell
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="network-supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Restart nothing from now on."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(2)

    def look(self) -> None:
        """Look once at all: what has died is told, what is due is started."""
        for name, (one, budget) in self._budgets.items():
            if not one.died:
                self._due.pop(name, None)
            elif name in self._due:
                self._restart_if_due(one)
            elif name not in self._given_up:
                self._mourn(one, budget)

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            self.look()

    def _mourn(self, one: Watched, budget: Budget) -> None:
        self._tell(f"{one.name} ended by itself with exit code {one.exit_code}; its last lines:")
        for line in one.last_lines(_SHOWN_LINES):
            self._tell(f"  {line[:_SHOWN_CHARACTERS]}")
        if budget.spend(self._clock()):
            self._due[one.name] = self._clock() + self._pause_seconds
            return
        self._given_up.add(one.name)
        self._tell(f"{one.name} ended more than {_MOST} times within a minute: it is not started again")

    def _restart_if_due(self, one: Watched) -> None:
        if self._clock() < self._due[one.name] or self._ending.is_set():
            return
        del self._due[one.name]
        self._tell(f"{one.name} is started again")
        try:
            one.start()
        except (OSError, RuntimeError) as error:
            self._tell(f"{one.name}: {error}")
