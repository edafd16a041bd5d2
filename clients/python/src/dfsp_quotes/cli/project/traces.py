"""The way of a request through the services, from their log files."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from network.log_files import LogChunk, LogFolder
from network.log_records import LoggedHop, LogRecord, order_hops

MAX_TRACES: Final = 20
MAX_HOPS: Final = 1_000
"""Limit for the lines of one trace."""
_NO_ROOM: Final = range(MAX_HOPS)
_MS_PER_SECOND: Final = 1_000
_EVENT_FIELDS: Final = frozenset({"time", "level", "service", "event", "traceId", "id", "cause"})
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)


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
    """Return the trace with this id, and those of requests whose path names this uuid; at most 20, oldest first."""
    ids: dict[str, None] = {}
    uuid = wanted.lower() if _UUID.match(wanted) else None
    for record in _read(folder, {wanted, uuid or wanted}):
        is_path = uuid is not None and uuid in record.text_of("path")
        if len(ids) < MAX_TRACES and record.trace_id and (record.trace_id == wanted or is_path):
            ids[record.trace_id] = None
    records: dict[str, list[LogRecord]] = {each: [] for each in ids}
    for record in _read(folder, ids) if ids else ():
        if len(records.get(record.trace_id, _NO_ROOM)) < MAX_HOPS:
            records[record.trace_id].append(record)
    traces = [_trace(trace_id, order_hops(found)) for trace_id, found in records.items()]
    return sorted(traces, key=lambda trace: trace.hops[0].started)


def _read(folder: Path, texts: Collection[str]) -> Iterator[LogRecord]:
    """Parse the lines of all logs that contain one of these texts."""
    wanted = [text.encode() for text in texts]
    logs = LogFolder(folder)
    try:
        while chunks := logs.next_chunks():
            yield from logs.parse(
                LogChunk(chunk.service, b"\n".join(line for line in chunk.lines() if _has_any(line, wanted)))
                for chunk in chunks
            )
    finally:
        logs.close()


def _has_any(line: bytes, wanted: Collection[bytes]) -> bool:
    return any(text in line for text in wanted)


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
