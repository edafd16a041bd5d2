"""What a service says of itself: log lines, trace ids, metrics.

A line a request goes out in JSON (in a short human form on a terminal). Lines are collected for a fifth of a
second and written at once; a line about an error is written straight away, with all before it.
"""

import asyncio
import json
import logging
import os
import re
import secrets
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import accumulate, count
from typing import Any, Final
from uuid import uuid4

import orjson
import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.log_file import LogFile

TRACE_HEADER: Final = "L1p-Trace-Id"
FLUSH_SECONDS: Final = 0.2
MIN_SECONDS_BETWEEN: Final = 0.01
URGENT: Final = 500
"""The least status of what is written straight away."""
MAX_LINES_HELD: Final = 1_000

_TRACE_IDS: Final = str(uuid4())[:-12]
"""Of this process; what follows is a number that comes once."""
_NUMBERS: Final = count(secrets.randbits(48))
_LAST_48_BITS: Final = (1 << 48) - 1
_SCATTER: Final = 0x9E3779B97F4B
"""Odd, so that no two numbers become one; near ones do not look alike."""
_TRACE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1_000)


def trace_id_from(headers: Iterable[str]) -> str:
    """The caller's own trace id if it is one and given once, else a new UUID (wire.md §3)."""
    given = list(headers)
    return given[0] if len(given) == 1 and _TRACE_ID.match(given[0]) else new_trace_id()


def new_trace_id() -> str:
    """A UUID, at a fiftieth of what uuid4 costs: it need not be hard to guess."""
    return f"{_TRACE_IDS}{next(_NUMBERS) * _SCATTER & _LAST_48_BITS:012x}"


def url_for_log(url: object) -> str:
    """A URL of somebody else's as a log may show it: nothing before an ``@``, and not without end."""
    return repr(str(url).rpartition("@")[2])[:200]


def iso_time(seconds: float) -> str:
    """Unix time as ISO 8601 in UTC with milliseconds and Z."""
    whole, rest = divmod(int(seconds * 1_000), 1_000)
    return f"{_iso_second(whole)}.{rest:03d}Z"


@lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


class Lines:
    """Where log lines go: one file descriptor, written in bunches.

    ``file`` is what it leads to, where this process has to keep that small.
    """

    def __init__(self, descriptor: int | None = None, file: LogFile | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self.file = file
        self._held: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        """When the timer ends, on the monotonic clock."""
        self._flushed = 0.0

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        """Takes lines without their newlines; ``now`` writes them and all before them straight away.

        Of errors in their thousands, a bunch each hundredth of a second: they come when there is no time to spare.
        """
        self._held.extend(lines)
        if len(self._held) >= MAX_LINES_HELD or (
            now and time.monotonic() - self._flushed >= MIN_SECONDS_BETWEEN
        ):
            self.flush()
        elif self._timer is None or now:
            self._flush_in(MIN_SECONDS_BETWEEN if now else FLUSH_SECONDS)

    def _flush_in(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if self._timer is not None and self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        try:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.flush)
        except RuntimeError:  # no loop runs: before the start, after the end
            self.flush()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed = time.monotonic()
        if not self._held:
            return
        data = memoryview(b"\n".join(self._held) + b"\n")
        self._held.clear()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            if self.file is not None:
                self.file.rotate_if_full()
        except OSError:  # a full disk or a closed pipe must not stop payments
            return


class Counts(Collector):
    """Requests answered, and how long they took: counted in plain numbers, told when somebody asks.

    prometheus_client's own counters take a lock for each sample, which costs more than all else in a log line.
    """

    def __init__(self) -> None:
        self._requests: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, _Durations] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        key = (method, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        durations = self._durations.get(route)
        if durations is None:
            durations = self._durations[route] = _Durations()
        durations.sum += seconds
        durations.buckets[bisect_left(_LATENCY_BUCKETS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("requests", "Requests answered", labels=["method", "route", "status"])
        for (method, route, status), number in self._requests.items():
            requests.add_metric([method, route, str(status)], number)
        yield requests
        durations = HistogramMetricFamily(
            "request_duration_seconds", "Time from request to reply", labels=["route"]
        )
        for route, each in self._durations.items():
            bounds = [*(str(float(bound)) for bound in _LATENCY_BUCKETS), "+Inf"]
            durations.add_metric([route], list(zip(bounds, accumulate(each.buckets), strict=True)), each.sum)
        yield durations


class _Durations:
    __slots__ = ("buckets", "sum")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_LATENCY_BUCKETS) + 1)
        self.sum = 0.0


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
        self._counts = Counts()
        self.registry.register(self._counts)
        self.in_hand = Gauge("requests_in_hand", "Requests being worked on", registry=self.registry)
        self.batch_lines = Histogram(
            "batch_lines", "Lines in a batch", buckets=_BATCH_BUCKETS, registry=self.registry
        )

    def _emit(self, _logger: object, level: str, event: MutableMapping[str, Any]) -> str:
        head = {"time": iso_time(time.time()), "level": level, "service": self.service}
        self.write([_json({**head, **event})], now=level != "info")
        raise structlog.DropEvent

    def write(self, lines: list[bytes], *, now: bool) -> None:
        """Takes lines of JSON; ``now`` writes them straight away."""
        self.lines.write(lines if self._console is None else map(self._for_people, lines), now=now)

    def _for_people(self, line: bytes) -> bytes:
        assert self._console is not None  # noqa: S101 - who calls has looked
        event = json.loads(line)
        event["timestamp"] = event.pop("time")
        return str(self._console(None, event["level"], event)).encode("utf-8", "replace")

    def request(self, *, status: int, **members: Any) -> None:  # noqa: ANN401 - each as `answered` has it
        """One answered request: a line and its counts."""
        line = self.answered(iso_time(time.time()), status=status, **members)
        self.write([line], now=status >= URGENT)

    def answered(
        self,
        at: str,
        trace_id: str,
        caller: str | None,
        method: str,
        path: str,
        route: str,
        status: int,
        seconds: float,
        error: tuple[str, str | None] | None,
    ) -> bytes:
        """Counts one answered request, and gives its line.

        ``at`` is from `iso_time`; ``trace_id`` is one that `trace_id_from` gave; ``error`` is id and cause.
        """
        self._counts.count(method, route, status, seconds)
        # nearly every line shares this with others; to write all of each anew took three times as long
        pattern = _pattern(self.service, caller, method, status, error)
        return (pattern % (at, trace_id, _quoted(path), seconds * 1_000)).encode()


@lru_cache(maxsize=256)
def _quoted(path: str) -> str:
    """Apart from all else: that of a payment or a look-up is another each time."""
    return _json(path).decode()


@lru_cache(maxsize=256)
def _pattern(
    service: str, caller: str | None, method: str, status: int, error: tuple[str, str | None] | None
) -> str:
    """The log line of a request, but for its time, trace id, path and milliseconds."""
    level = "info" if status < 400 else "warning" if status < 500 else "error"  # noqa: PLR2004
    begun = _members({"level": level, "service": service, "event": "request"})
    asked = _members({"caller": caller, "method": method})
    ended = "" if error is None else f",{_members({'id': error[0], 'cause': error[1]})}"
    begun, asked, ended = (part.replace("%", "%%") for part in (begun, asked, ended))
    return f'{{"time":"%s",{begun},"traceId":"%s",{asked},"path":%s,"status":{status},"duration_ms":%.3f{ended}}}'


def _members(event: dict[str, Any]) -> str:
    """Without the braces."""
    return _json(event)[1:-1].decode()


def _json(event: object) -> bytes:
    try:
        return orjson.dumps(event, default=str)
    except orjson.JSONEncodeError:  # a lone surrogate in a cause: escaped rather than lost
        return json.dumps(event, default=str).encode()


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
