"""Runs the services of a network as processes: starts them, waits for them, stops them in the order of the chain."""

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Self

from network import http_client
from network.child_process import ChildProcess, inherited_environment
from network.polling import PollTimer
from network.topology import LOG_FILE, PREFIX, ServiceSpec

_READY_SECONDS = 60
_PROBE_SECONDS = 5
# a service has ten seconds to finish the requests it has accepted
_STOP_SECONDS = 12
_MIN_STOP_SECONDS = 0.5
_MAX_SHOWN_BYTES = 300
# Variables of Postgres' clients, such as PGPORT or PGSSLMODE, would change what QUOTES_DATABASE_URL says.
_NOT_INHERITED = (PREFIX, "PG")


class NotReadyError(RuntimeError):
    """The service `name` ended, or was not ready in time. `lines` are the last lines of its log."""

    def __init__(self, name: str, problem: str, lines: Sequence[str]) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.lines = tuple(lines)


class Network:
    """Runs services as processes: `with Network(services(8010, data=…, database_url=…), logs=…) as network: …`.

    Its methods block, and any thread may call them. `overrides` are further environment variables by service name.
    `keep_open` are descriptors that every process inherits. A service that ends is not restarted; `network.supervisor`
    does that.
    """

    def __init__(
        self,
        services: Iterable[ServiceSpec],
        *,
        logs: Path,
        overrides: Mapping[str, Mapping[str, str]] | None = None,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.services = {spec.name: spec for spec in services}
        self._logs = logs
        self._overrides = overrides or {}
        self.children = {spec.name: self._child(spec, keep_open) for spec in self.services.values()}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def origin(self, name: str) -> str:
        return self.services[name].origin

    def start(self) -> None:
        """Start every service that is not running. Do not wait until the services are ready."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for child in self.children.values():
            child.start()

    def wait_ready(self, *names: str, seconds: float = _READY_SECONDS) -> None:
        """Wait until /health/ready of these services (default: all) returns 200. Raises NotReadyError."""
        waiting = dict.fromkeys(names or self.children, "does not answer")
        timer = PollTimer(seconds, 0.05)
        while timer.wait() and waiting:
            for name in list(waiting):
                problem = self._readiness_problem(name)
                if problem is None:
                    del waiting[name]
                else:
                    waiting[name] = problem
        for name, problem in waiting.items():
            raise NotReadyError(
                name, f"is not ready after {seconds:.0f} s: {problem}", self.children[name].last_lines()
            )

    def answers_health_check(self, name: str) -> bool:
        """Whether the service responds to /health/live within five seconds, with any status."""
        try:
            http_client.send("GET", f"{self.origin(name)}/health/live", timeout_seconds=_PROBE_SECONDS)
        except OSError:
            return False
        return True

    def kill(self, name: str) -> None:
        """Send SIGKILL and wait until the service has ended."""
        self.children[name].kill()

    def terminate(self, name: str, *, wait_seconds: float = _STOP_SECONDS) -> int | None:
        """Send SIGTERM and wait. Return the exit code, or None if the service still runs after `wait_seconds`."""
        self.children[name].terminate()
        self.children[name].wait(wait_seconds)
        return self.children[name].exit_code

    def restart(self, name: str, *, ready_seconds: float = _READY_SECONDS) -> None:
        """Restart a service and wait until it is ready. If it runs, it gets SIGTERM first."""
        if self.children[name].running and self.terminate(name) is None:
            self.kill(name)
        self.children[name].start()
        self.wait_ready(name, seconds=ready_seconds)

    def stop(self, *, seconds: float = _STOP_SECONDS) -> list[str]:
        """Stop the services in the order of the chain, so that requests in flight still reach the later services.

        Returns the names of the services that were killed because they had not ended after `seconds`.
        """
        stop_by = time.monotonic() + seconds
        killed = []
        for spec in sorted(self.services.values(), key=lambda spec: spec.stops_last):
            child = self.children[spec.name]
            child.terminate()
            if not child.wait(max(stop_by - time.monotonic(), _MIN_STOP_SECONDS)):
                child.kill()
                killed.append(spec.name)
        return killed

    def _child(self, spec: ServiceSpec, keep_open: Sequence[int]) -> ChildProcess:
        log = self._logs / f"{spec.name}.log"
        own = {**spec.env, **self._overrides.get(spec.name, {}), LOG_FILE: str(log)}
        return ChildProcess(
            spec.name,
            [sys.executable, "-m", spec.module],
            log=log,
            env={**inherited_environment(without=_NOT_INHERITED), **own},
            keep_open=keep_open,
        )

    def _readiness_problem(self, name: str) -> str | None:
        child = self.children[name]
        if child.exit_code is not None:
            raise NotReadyError(name, f"ended at once with exit code {child.exit_code}", child.last_lines())
        try:
            reply = http_client.send(
                "GET", f"{self.origin(name)}/health/ready", timeout_seconds=_PROBE_SECONDS
            )
        except OSError as error:
            return f"does not answer ({error})"
        if reply.status == HTTPStatus.OK:
            return None
        return f"answers {reply.status} {reply.text[:_MAX_SHOWN_BYTES]}".rstrip()
