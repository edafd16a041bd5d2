"""The services of a network as processes: started, waited for, ended one by one, stopped from front to back."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Self

from network import http
from network.child import Child
from network.deadline import Deadline
from network.plan import LOG_FILE, PREFIX, ServiceSpec

_READY_SECONDS = 60
_PROBE_SECONDS = 5
# a service has ten seconds to finish what it has taken
_STOP_SECONDS = 12
_MIN_STOP_SECONDS = 0.5
_SHOWN_BYTES = 300


class NotReadyError(RuntimeError):
    """A service ended, or did not get ready in time; `name` is its, `lines` the end of its log."""

    def __init__(self, name: str, what: str, lines: Sequence[str]) -> None:
        super().__init__(f"{name} {what}")
        self.name = name
        self.lines = tuple(lines)


class Network:
    """`with Network(services(8010, data=…, database_url=…), logs=…) as network: network.wait_ready()`.

    Synchronous, and usable from any thread. `overrides` are further environment variables by service name;
    `keep_open` are descriptors that every process shall hold. Nothing is restarted unless asked: see
    `network.supervisor`.
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
        """Start all that does not run; nothing is waited for."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for child in self.children.values():
            child.start()

    def wait_ready(self, *names: str, seconds: float = _READY_SECONDS) -> None:
        """Wait until /health/ready of these (of all, if none is named) answers 200; raises NotReadyError."""
        waiting = dict.fromkeys(names or self.children, "does not answer")
        deadline = Deadline(seconds, 0.05)
        while deadline.waits() and waiting:
            for name in list(waiting):
                why = self._why_not_ready(name)
                if why is None:
                    del waiting[name]
                else:
                    waiting[name] = why
        for name, why in waiting.items():
            raise NotReadyError(
                name, f"is not ready after {seconds:.0f} s: {why}", self.children[name].last_lines()
            )

    def kill(self, name: str) -> None:
        """SIGKILL, and wait until it is gone."""
        self.children[name].kill()

    def terminate(self, name: str, *, wait_seconds: float = _STOP_SECONDS) -> int | None:
        """SIGTERM; return the exit code, or None where it still runs after `wait_seconds`."""
        self.children[name].terminate()
        self.children[name].wait(wait_seconds)
        return self.children[name].exit_code

    def restart(self, name: str, *, ready_seconds: float = _READY_SECONDS) -> None:
        """Start it, after a SIGTERM if it still runs, and wait until it is ready."""
        if self.children[name].running and self.terminate(name) is None:
            self.kill(name)
        self.children[name].start()
        self.wait_ready(name, seconds=ready_seconds)

    def stop(self, *, seconds: float = _STOP_SECONDS) -> list[str]:
        """Stop all, one after another from the front: what is under way finds what it needs to the end.

        Returns the names of those that did not end in `seconds` for all together, and were killed.
        """
        deadline = Deadline(seconds)
        killed = []
        for spec in sorted(self.services.values(), key=lambda spec: spec.stops_last):
            child = self.children[spec.name]
            child.terminate()
            if not child.wait(max(deadline.left, _MIN_STOP_SECONDS)):
                child.kill()
                killed.append(spec.name)
        return killed

    def _child(self, spec: ServiceSpec, keep_open: Sequence[int]) -> Child:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        log = self._logs / f"{spec.name}.log"
        own = {**spec.env, **self._overrides.get(spec.name, {}), LOG_FILE: str(log)}
        return Child(
            spec.name,
            [sys.executable, "-m", spec.module],
            log=log,
            env={**inherited, **own},
            keep_open=keep_open,
        )

    def _why_not_ready(self, name: str) -> str | None:
        child = self.children[name]
        if child.exit_code is not None:
            raise NotReadyError(name, f"ended at once with exit code {child.exit_code}", child.last_lines())
        try:
            answer = http.send("GET", f"{self.origin(name)}/health/ready", seconds=_PROBE_SECONDS)
        except OSError as error:
            return f"does not answer ({error})"
        if answer.status == HTTPStatus.OK:
            return None
        return f"answers {answer.status} {answer.text[:_SHOWN_BYTES]}".rstrip()
