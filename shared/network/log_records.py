"""Parses a line of a service's log, and sorts the lines of one trace."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from network import topology

_MS_PER_SECOND = 1000
# services write times in whole milliseconds
_CLOCK_STEP_SECONDS = 0.001


@dataclass(frozen=True)
class LogRecord:
    """One line of a log. `time` is Unix time; `fields` is empty if the line is not a JSON object."""

    service: str
    time: float
    text: str
    fields: Mapping[str, Any]

    @property
    def is_request(self) -> bool:
        return self.fields.get("event") == "request"

    @property
    def trace_id(self) -> str:
        return self.text_of("traceId")

    @property
    def status(self) -> int:
        value = self.fields.get("status")
        return value if isinstance(value, int) else 0

    @property
    def duration_ms(self) -> float:
        value = self.fields.get("duration_ms")
        return float(value) if isinstance(value, int | float) else 0.0

    @property
    def start_time(self) -> float:
        """Time at which the request started. `time` is when it was answered."""
        return self.time - self.duration_ms / _MS_PER_SECOND

    def text_of(self, field: str) -> str:
        """Return the value of a field as text; empty if the field is missing or null."""
        value = self.fields.get(field)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class LoggedHop:
    """One service's log line about a request, and when the service started it."""

    record: LogRecord
    start_time: float


def parse(service: str, text: str, *, default_time: float) -> LogRecord:
    """Parse a line. If the line has no time, as in a traceback, its time is `default_time`."""
    try:
        value = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        value = None
    fields = value if isinstance(value, dict) else {}
    return LogRecord(service, _seconds(fields.get("time")) or default_time, text, fields)


def time_of_day(time: float) -> str:
    """Return the time of day in UTC, in the format that the printed logs use."""
    return datetime.fromtimestamp(time, UTC).strftime("%H:%M:%S.%f")[:-3]


def order_hops(records: Iterable[LogRecord]) -> list[LoggedHop]:
    """Sort the lines of one trace: request by request, and within each request in the order of the chain.

    The times in the log cannot give this order: they are exact to a millisecond, and a hop often starts in the same
    millisecond as the hop before it.
    """
    hops: list[LoggedHop] = []
    for request in _split_requests(sorted(records, key=lambda record: record.start_time)):
        latest = request[0].start_time
        for record in sorted(request, key=lambda record: topology.chain_position(record.service)):
            latest = max(latest, record.start_time)
            hops.append(LoggedHop(record, latest))
    return hops


def _split_requests(records: list[LogRecord]) -> list[list[LogRecord]]:
    """Split the lines of one trace into requests: one request has ended before the next one starts.

    `records` must be sorted by their start time.
    """
    requests: list[list[LogRecord]] = []
    last_end = float("-inf")
    for record in records:
        if record.start_time > last_end + _CLOCK_STEP_SECONDS:
            requests.append([])
        requests[-1].append(record)
        last_end = max(last_end, record.time)
    return requests


def _seconds(time: object) -> float | None:
    if not isinstance(time, str):
        return None
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None
