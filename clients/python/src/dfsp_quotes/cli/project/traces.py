"""The way of a request through the services, from their log files."""

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from network import log_search
from network.log_files import LogFolder
from network.log_filter import LogFilter, LogMatcher, is_uuid
from network.log_records import LoggedHop, LogRecord, order_hops

MAX_TRACES: Final = 20
MAX_HOPS: Final = 1_000
"""Limit for the lines of one trace."""
_MS_PER_SECOND: Final = 1_000
_EVENT_FIELDS: Final = frozenset({"time", "level", "service", "event", "traceId", "id", "cause"})


@dataclass(frozen=True)
class Hop:
    """One log line of a trace: a request that a service answered, or another event."""

    service: str
    started: datetime
    offset_ms: float
    """Time from the start of the trace to the start of the hop."""
    duration_ms: float
    """Zero for an event."""
    status: int | None
    """None for an event."""
    text: str
    """Method and path of a request, or an event with its fields."""
    error: str
    """Error id and cause; empty if there are none."""


@dataclass(frozen=True)
class Trace:
    """All log lines with one trace id, in the order in which the hops started."""

    trace_id: str
    hops: tuple[Hop, ...]

    @property
    def duration_ms(self) -> float:
        return max(hop.offset_ms + hop.duration_ms for hop in self.hops)


def find_traces(folder: Path, wanted: str) -> list[Trace]:
    """Return the trace with this id, and those that name the quote with this uuid; at most 20, oldest first."""
    matcher = LogMatcher(LogFilter(trace=wanted))
    if is_uuid(wanted):
        matcher.traces.update(log_search.find_traces(folder, wanted.lower(), MAX_TRACES))
    records: dict[str, list[LogRecord]] = {}
    with closing(LogFolder(folder)) as logs:
        for record in log_search.read_all(logs, matcher.may_be_of_trace):
            if matcher.accepts(record) and len(records.setdefault(record.trace_id, [])) < MAX_HOPS:
                records[record.trace_id].append(record)
    traces = [_trace(trace_id, order_hops(found)) for trace_id, found in records.items()]
    return sorted(traces, key=lambda trace: trace.hops[0].started)[:MAX_TRACES]


def _trace(trace_id: str, hops: list[LoggedHop]) -> Trace:
    start = hops[0].start_time
    return Trace(trace_id, tuple(_hop(hop, start) for hop in hops))


def _hop(hop: LoggedHop, trace_start: float) -> Hop:
    record = hop.record
    return Hop(
        service=record.service,
        started=datetime.fromtimestamp(hop.start_time, UTC),
        offset_ms=round((hop.start_time - trace_start) * _MS_PER_SECOND, 3),
        duration_ms=record.duration_ms if record.is_request else 0.0,
        status=record.status if record.is_request else None,
        text=_text(record),
        error=": ".join(value for name in ("id", "cause") if (value := record.text_of(name))),
    )


def _text(record: LogRecord) -> str:
    if record.is_request:
        return f"{record.text_of('method')} {record.text_of('path')}"
    fields = [f"{name}={value}" for name, value in record.fields.items() if name not in _EVENT_FIELDS]
    return " ".join([record.text_of("event"), *fields])
