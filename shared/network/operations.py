"""`make status`, `make restart` and `make reload`: how an operator inspects and controls a `make run`."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import Any

from network import control, data_lock, http_client
from network.control import ControlError
from network.polling import PollTimer
from network.terminal import Terminal, escape_controls

READY_SECONDS = 60.0
_PROBE_SECONDS = 3.0
_RESTART_SECONDS = 120.0
_MAX_PROBLEM_LENGTH = 160
_HEADINGS = ("service", "pid", "port", "uptime", "restarts", "health")


def status(data: Path, terminal: Terminal) -> int:
    """Print a line for each process of the network. Return the exit code: 1 if one of them is not ready."""
    found = _send(data, {"command": "status"})
    services: Sequence[Mapping[str, Any]] = found["services"]
    with ThreadPoolExecutor(max(1, len(services))) as threads:
        healths = list(threads.map(_health, services))
    rows = [
        (
            str(each["name"]),
            str(each["pid"] or "-"),
            str(each["port"] or "-"),
            "-" if each["uptimeSeconds"] is None else uptime(each["uptimeSeconds"]),
            str(each["restarts"]),
            health,
        )
        for each, (_, health) in zip(services, healths, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    terminal.print_line(f"make run: process {found['pid']}, data {data}")
    terminal.print_line(terminal.colour(_row(_HEADINGS, widths), "dim"))
    for row, (is_ready, _) in zip(rows, healths, strict=True):
        line = escape_controls(_row(row, widths))
        terminal.print_line(line if is_ready else terminal.colour(line, "red"))
    return 0 if all(is_ready for is_ready, _ in healths) else 1


def restart(data: Path, service: str, terminal: Terminal) -> int:
    """Restart a service and wait until it is ready. Return the exit code: 1 if it is not ready in time."""
    began = time.monotonic()
    restarted = _send(data, {"command": "restart", "service": service}, seconds=_RESTART_SECONDS)
    timer = PollTimer(READY_SECONDS, 0.1)
    problem = ""
    while timer.wait():
        is_ready, problem = _health(restarted)
        if is_ready:
            seconds = time.monotonic() - began
            terminal.print_line(
                f"{service} was restarted (process {restarted['pid']}) and is ready after {seconds:.1f} s"
            )
            return 0
    terminal.print_line(
        f"{service} was restarted (process {restarted['pid']}), but: {escape_controls(problem)}"
    )
    return 1


def reload(data: Path, terminal: Terminal) -> int:
    """Make every service read its files again."""
    names = _send(data, {"command": "reload"})["services"]
    terminal.print_line(
        f"{', '.join(names)} read their files again; make logs SINCE=10s says what they found"
    )
    return 0


def uptime(seconds: float) -> str:
    """Return `0:01:55`, or `3 d 0:01:55`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{rest:02}"


def _send(data: Path, request: Mapping[str, Any], *, seconds: float = 10) -> dict[str, Any]:
    if not data_lock.is_in_use(data):
        raise ControlError(f"no `make run` uses the data folder {data}; DATA names another folder")
    return control.send(data, request, seconds=seconds)


def _health(service: Mapping[str, Any]) -> tuple[bool, str]:
    """Return whether a process is ready, and its health in words."""
    if service["pid"] is None:
        return False, "not running"
    if service["origin"] is None:
        return True, "running"
    try:
        reply = http_client.send("GET", f"{service['origin']}/health/ready", timeout_seconds=_PROBE_SECONDS)
    except OSError as error:
        return False, f"does not answer: {error}"[:_MAX_PROBLEM_LENGTH]
    content = reply.json
    if reply.status != HTTPStatus.OK:
        return False, f"not ready: {_texts(content.get('missing'))}"[:_MAX_PROBLEM_LENGTH]
    warnings = _texts(content.get("warnings"))
    return True, f"ready, but {warnings}"[:_MAX_PROBLEM_LENGTH] if warnings else "ready"


def _texts(values: object) -> str:
    return "; ".join(map(str, values)) if isinstance(values, list) else ""


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
