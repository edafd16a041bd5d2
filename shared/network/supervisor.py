"""Restarts processes that end or hang, until the restart succeeds.

The delay before a restart grows by one second with every second failure in a row, up to 30 s. supervisord does the
same; systemd can double the delay instead. With this rule, a process serves again within about ten seconds after the
end of a fault that lasted less than a minute, although a failed start takes some seconds, too.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

_LOOK_INTERVAL_SECONDS = 0.25
_PROBE_INTERVAL_SECONDS = 3.0
_MAX_SILENCE_SECONDS = 15.0
# until a service answers for the first time after its start
_MAX_START_SECONDS = 60.0
# a machine that was suspended or overloaded must not count as a silent service
_MIN_FAILED_PROBES = 3
_STABLE_SECONDS = 10.0
_DELAY_STEP_SECONDS, _MAX_DELAY_SECONDS = 1.0, 30.0
_MAX_SHOWN_LINES, _MAX_LINE_LENGTH = 6, 240
_JOIN_SECONDS = 2.0
_REQUEST_SECONDS = 100.0


class RestartError(RuntimeError):
    """A process was not restarted as requested. The message is for people."""


class RestartableProcess(Protocol):
    """A process that can be restarted: a `ChildProcess` or an `EmbeddedPostgres`."""

    @property
    def name(self) -> str: ...
    @property
    def pid(self) -> int | None: ...
    @property
    def uptime_seconds(self) -> float | None: ...
    @property
    def starts(self) -> int: ...
    @property
    def died(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    def last_lines(self, count: int = 12) -> list[str]: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


@dataclass(frozen=True)
class SupervisedProcess:
    """A process, and its health check `answers`, which is None if the process has none."""

    process: RestartableProcess
    answers: Callable[[], bool] | None = None


class Backoff:
    """Counts failures in a row, and returns the delay before the next attempt."""

    def __init__(self) -> None:
        self.failures = 0

    def next_delay_seconds(self) -> float:
        self.failures += 1
        return min((self.failures + 1) // 2 * _DELAY_STEP_SECONDS, _MAX_DELAY_SECONDS)

    def reset(self) -> None:
        self.failures = 0


class ProcessSupervisor:
    """Supervises one process. Call `look` often. It calls `report` with one line at a time."""

    def __init__(
        self,
        supervised: SupervisedProcess,
        report: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._process = supervised.process
        self._answers = supervised.answers
        self._report = report
        self._clock = clock
        self._is_stopping = is_stopping
        self._backoff = Backoff()
        self._restart_at: float | None = None
        self._started_at = self._last_answer = self._probe_at = clock()
        self._has_answered = True
        self._failed_probes = 0
        self._requested: Future[None] | None = None
        self._request_lock = threading.Lock()

    def request_restart(self) -> "Future[None]":
        """Make the next `look` restart the process. The result raises RestartError if the process does not start.

        Any thread may call this. If a request waits already, no second one is made.
        """
        with self._request_lock:
            if self._requested is None:
                self._requested = Future()
            return self._requested

    def refuse_restart(self) -> None:
        """Refuse a requested restart, because the supervision has ended."""
        with self._request_lock:
            requested = self._requested
        if requested is not None:
            self._answer(requested, RestartError("`make run` stops"))

    @staticmethod
    def _answer(requested: "Future[None]", error: RestartError | None) -> None:
        with suppress(InvalidStateError):  # it was refused meanwhile
            if error is None:
                requested.set_result(None)
            else:
                requested.set_exception(error)

    def look(self) -> None:
        """Check the process once. If it has ended or hangs, schedule a restart. If a restart is due, restart it.

        The restart blocks this method until it has ended.
        """
        now = self._clock()
        if self._requested is not None:
            self._restart_as_requested(self._requested)
        elif self._restart_at is not None:
            if now >= self._restart_at:
                self._restart()
        elif self._process.died:
            self._schedule_restart(f"{self._process.name} ended with exit code {self._process.exit_code}")
        elif self._answers is not None and now >= self._probe_at:
            self._probe_at = now + _PROBE_INTERVAL_SECONDS
            self._probe(self._answers)
        elif self._has_answered and not self._failed_probes and now - self._started_at >= _STABLE_SECONDS:
            self._backoff.reset()

    def _probe(self, answers: Callable[[], bool]) -> None:
        if answers():
            if not self._has_answered:
                self._report(f"{self._process.name} is running again")
            self._has_answered, self._failed_probes, self._last_answer = True, 0, self._clock()
            return
        self._failed_probes += 1
        silent_seconds = self._clock() - self._last_answer
        limit = _MAX_SILENCE_SECONDS if self._has_answered else _MAX_START_SECONDS
        if silent_seconds < limit or self._failed_probes < _MIN_FAILED_PROBES:
            return
        if self._process.died or self._is_stopping():
            return
        self._process.kill()
        self._schedule_restart(
            f"{self._process.name} did not answer its health check for {silent_seconds:.0f} s and was killed"
        )

    def _restart_as_requested(self, requested: "Future[None]") -> None:
        self._report(f"restarting {self._process.name}, as requested")
        self._process.stop()
        self._backoff.reset()
        self._restart()
        is_started = self._restart_at is None
        error = None if is_started else RestartError(f"{self._process.name} does not start: its log says why")
        with self._request_lock:
            self._requested = None
        self._answer(requested, RestartError("`make run` stops") if self._is_stopping() else error)

    def _schedule_restart(self, problem: str) -> None:
        lines = self._process.last_lines(_MAX_SHOWN_LINES)
        self._report(problem + ("; its last log lines:" if lines else ""))
        for line in lines:
            self._report(f"  {line[:_MAX_LINE_LENGTH]}")
        delay = self._backoff.next_delay_seconds()
        self._restart_at = self._clock() + delay
        self._report(f"{self._process.name} will be restarted in {delay:.0f} s")

    def _restart(self) -> None:
        if self._is_stopping():
            return
        self._restart_at = None
        if self._backoff.failures:
            self._report(f"restarting {self._process.name} (attempt {self._backoff.failures})")
        try:
            self._process.start()
        except (OSError, RuntimeError) as error:
            if not self._is_stopping():
                first_line = str(error).partition("\n")[0].rstrip(":")  # the log lines follow in the report
                self._schedule_restart(f"{self._process.name} could not be restarted: {first_line}")
            return
        self._started_at = self._last_answer = self._clock()
        self._failed_probes = 0
        self._has_answered = self._answers is None
        if self._has_answered:
            self._report(f"{self._process.name} is running again")


class Supervisor:
    """Supervises processes between `start` and `stop`, each in its own thread. So a slow restart delays no other."""

    def __init__(self, processes: Iterable[SupervisedProcess], report: Callable[[str], None]) -> None:
        self._stopping = threading.Event()
        self._supervisors = {
            process.process.name: ProcessSupervisor(process, report, is_stopping=self._stopping.is_set)
            for process in processes
        }
        self._threads = [
            threading.Thread(target=self._run, args=[each], name=f"supervisor-{name}", daemon=True)
            for name, each in self._supervisors.items()
        ]

    def restart(self, name: str, seconds: float = _REQUEST_SECONDS) -> None:
        """Restart a process and wait until it has started. Raises RestartError, also for an unknown name."""
        if name not in self._supervisors:
            raise RestartError(
                f"there is no service {name!r}; SERVICE is one of {', '.join(self._supervisors)}"
            )
        try:
            self._supervisors[name].request_restart().result(seconds)
        except TimeoutError:
            raise RestartError(
                f"{name} did not start within {seconds:.0f} s; it is still being restarted"
            ) from None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop the supervision: nothing is restarted from now on."""
        self._stopping.set()
        wait_until = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, wait_until - time.monotonic()))
        for supervisor in self._supervisors.values():
            supervisor.refuse_restart()

    def _run(self, supervisor: ProcessSupervisor) -> None:
        while not self._stopping.wait(_LOOK_INTERVAL_SECONDS):
            supervisor.look()
