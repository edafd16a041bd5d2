"""What a service says of itself: log lines, trace ids, metrics.

A line a request goes out in JSON (in a short human form on a terminal). Lines are collected for a fifth of a
second and written at once; a line about an error is written straight away, with all before it.
"""

import asyncio
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterable, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

TRACE_HEADER: Final = "L1p-Trace-Id"
FLUSH_SECONDS: Final = 0.2
MOST_LINES_HELD: Final = 1_000

_TRACE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)


def trace_id_from(headers: Iterable[str]) -> str:
    """The caller's own trace id if it is one and given once, else a new UUID (wire.md §3)."""
    given = list(headers)
    if len(given) == 1 and _TRACE_ID.match(given[0]):
        return given[0]
    digits = os.urandom(16).hex()  # a fifth of what uuid4 costs
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{'89ab'[int(digits[16], 16) & 3]}{digits[17:20]}-{digits[20:]}"


def url_for_log(url: object) -> str:
    """A URL of somebody else's as a log may show it: nothing before an ``@``, and not without end."""
    return repr(str(url).rpartition("@")[2])[:200]


def iso_time(seconds: float) -> str:
    """Unix time as ISO 8601 in UTC with milliseconds and Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Lines:
    """Where log lines go: one file descriptor, written in bunches."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._held: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, line: bytes, *, now: bool) -> None:
        """Takes a line without its newline; ``now`` writes it and all before it straight away."""
        self._held.append(line)
        if now or len(self._held) >= MOST_LINES_HELD:
            self.flush()
        elif self._timer is None:
            try:
                self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
            except RuntimeError:  # no loop runs: before the start, after the end
                self.flush()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._held:
            return
        data = memoryview(b"\n".join(self._held) + b"\n")
        self._held.clear()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # a full disk or a closed pipe must not stop payments
            return


class Telemetry:
    """Log and metrics of one service."""

    def __init__(self, service: str, lines: Lines | None = None, *, human: bool | None = None) -> None:
        self.service = service
        self.lines = lines or Lines()
        self._human = sys.stdout.isatty() if human is None else human
        self._console = structlog.dev.ConsoleRenderer() if self._human else None
        self.log: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
            None,
            processors=[self._emit],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self._durations = Histogram(
            "request_duration_seconds",
            "Time from request to reply",
            ["route"],
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.in_hand = Gauge("requests_in_hand", "Requests being worked on", registry=self.registry)
        # labels() costs more than counting does
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def _emit(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        head = {"time": iso_time(time.time()), "level": level, "service": self.service}
        self._write({**head, **event}, now=level != "info")
        raise structlog.DropEvent

    def _write(self, event: dict[str, Any], *, now: bool) -> None:
        if self._console is not None:
            event["timestamp"] = event.pop("time")
            line = str(self._console(None, event["level"], event)).encode("utf-8", "replace")
        else:
            try:
                line = orjson.dumps(event, default=str)
            except orjson.JSONEncodeError:  # a lone surrogate in a cause: escaped rather than lost
                line = json.dumps(event, default=str).encode()
        self.lines.write(line, now=now)

    def request(
        self,
        *,
        trace_id: str,
        caller: str | None,
        method: str,
        path: str,
        route: str,
        status: int,
        seconds: float,
        error: tuple[str, str | None] | None,
    ) -> None:
        """One answered request: a line and its counts. ``error`` is id and cause."""
        key = (method, route, status)
        children = self._children.get(key)
        if children is None:
            children = self._requests.labels(method, route, str(status)), self._durations.labels(route)
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)
        event = {
            "time": iso_time(time.time()),
            "level": "info" if status < 400 else "warning" if status < 500 else "error",  # noqa: PLR2004
            "service": self.service,
            "event": "request",
            "traceId": trace_id,
            "caller": caller,
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
        }
        if error is not None:
            event["id"], event["cause"] = error
        self._write(event, now=status >= 500)  # noqa: PLR2004


class StandardLogging(logging.Handler):
    """Brings what libraries say through ``logging`` (asyncio, aiohttp) into our lines."""

    def __init__(self, telemetry: Telemetry) -> None:
        super().__init__(logging.WARNING)
        self._telemetry = telemetry

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["cause"] = logging.Formatter().formatException(record.exc_info)
        level = record.levelname.lower()
        write = getattr(self._telemetry.log, level, self._telemetry.log.error)
        write(record.getMessage(), **fields)
