"""A line of a service's log, read."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from network import plan

_MILLISECONDS = 1000
# times are written in whole milliseconds
_GRAIN_SECONDS = 0.001


@dataclass(frozen=True)
class Record:
    """`at` is when it was written (seconds since 1970); `fields` is empty where the line is not JSON."""

    service: str
    at: float
    text: str
    fields: Mapping[str, Any]

    @property
    def is_request(self) -> bool:
        return self.fields.get("event") == "request"

    @property
    def trace_id(self) -> str:
        return self.word("traceId")

    @property
    def status(self) -> int:
        value = self.fields.get("status")
        return value if isinstance(value, int) else 0

    @property
    def duration_ms(self) -> float:
        value = self.fields.get("duration_ms")
        return float(value) if isinstance(value, int | float) else 0.0

    @property
    def began(self) -> float:
        """A request's `time` is when it was finished."""
        return self.at - self.duration_ms / _MILLISECONDS

    def word(self, name: str) -> str:
        value = self.fields.get(name)
        return "" if value is None else str(value)


@dataclass(frozen=True)
class Hop:
    """One service's part in a call."""

    record: Record
    began: float


def read(service: str, text: str, *, otherwise_at: float) -> Record:
    """Read a line; what has no time of its own (a traceback) gets `otherwise_at`."""
    try:
        value = json.loads(text) if text.startswith("{") else None
    except (ValueError, RecursionError):
        value = None
    fields = value if isinstance(value, dict) else {}
    return Record(service, _seconds(fields.get("time")) or otherwise_at, text, fields)


def clock(at: float) -> str:
    """Return the time of day in UTC, as in the log."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def way(records: Iterable[Record]) -> list[Hop]:
    """Put one trace's lines in the order in which the hops began.

    Hops begin within the millisecond that a line's time is exact to, so among lines of one call the chain's
    own order decides.
    """
    hops: list[Hop] = []
    for call in _calls(sorted(records, key=lambda record: record.began)):
        latest = call[0].began
        for record in sorted(call, key=lambda record: plan.rank(record.service)):
            latest = max(latest, record.began)
            hops.append(Hop(record, latest))
    return hops


def _calls(records: list[Record]) -> list[list[Record]]:
    calls: list[list[Record]] = []
    finished = float("-inf")
    for record in records:
        if record.began > finished + _GRAIN_SECONDS:
            calls.append([])
        calls[-1].append(record)
        finished = max(finished, record.at)
    return calls


def _seconds(time: object) -> float | None:
    if not isinstance(time, str):
        return None
    try:
        return datetime.fromisoformat(time).timestamp()
    except (ValueError, OverflowError):
        return None
