"""SQL of spans: insert, find the spans of a trace or quote, list failed requests, retention."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from chassis.database import Database
from console.traces.span import Span

MAX_SPANS: Final = 500
"""Maximum number of spans of one timeline."""
MAX_TRACES: Final = 20
"""Maximum number of traces of one quote."""
MAX_DELETED: Final = 5_000

# a span that arrives twice is the same span
_INSERT: Final = """
INSERT INTO span (
    trace_id, span_id, parent_id, service, name, start_ns, duration_ns, is_error, attributes, links,
    l1p_trace_id, quote_uuid, error_id, caller
)
SELECT * FROM unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::boolean[],
    $9::jsonb[], $10::jsonb[], $11::text[], $12::text[], $13::text[], $14::text[]
)
ON CONFLICT (trace_id, span_id) DO NOTHING
"""

_OF_TRACE: Final = """
SELECT trace_id, span_id, parent_id, service, name, start_ns, duration_ns, is_error, attributes, links
FROM span WHERE l1p_trace_id = $1 OR trace_id = $1 ORDER BY start_ns, id LIMIT $2
"""

_BY_ID: Final = """
SELECT trace_id, span_id, parent_id, service, name, start_ns, duration_ns, is_error, attributes, links
FROM span WHERE (trace_id, span_id) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY start_ns, id
"""

# a hop before the payee may not know the uuid of a quote, but all hops have the trace id
_TRACES_OF_QUOTE: Final = """
SELECT coalesce(l1p_trace_id, trace_id) AS trace, min(start_ns) AS start_ns FROM span
WHERE quote_uuid = $1 GROUP BY 1 ORDER BY 2 LIMIT $2
"""

# one row for each trace with an error: of its failed spans the one that began last, which is the deepest hop
_FAILED: Final = """
SELECT trace, service, name, start_ns, error_id, caller, attributes->'http.response.status_code' AS status FROM (
    SELECT *, row_number() OVER (PARTITION BY trace ORDER BY start_ns DESC, duration_ns) AS place FROM (
        SELECT *, l1p_trace_id AS trace FROM span
        WHERE is_error AND l1p_trace_id IS NOT NULL AND ($1::text IS NULL OR error_id = $1) AND ($2::text IS NULL OR caller = $2)
        ORDER BY start_ns DESC LIMIT $3
    ) AS latest
) AS placed WHERE place = 1 ORDER BY start_ns DESC LIMIT $4
"""

_DELETE_OLD: Final = """
DELETE FROM span WHERE id = ANY(ARRAY(
    SELECT id FROM (SELECT id, received FROM span ORDER BY id LIMIT $3) AS oldest
    WHERE received < clock_timestamp() - make_interval(secs => $1) OR id <= (SELECT max(id) FROM span) - $2::bigint
)) RETURNING 1
"""

_HOPS_PER_TRACE: Final = 8


@dataclass(frozen=True)
class TraceSummary:
    """A trace of a quote: its id, and when it began, in Unix time in nanoseconds."""

    trace: str
    start_ns: int


@dataclass(frozen=True)
class FailedRequest:
    """A request that failed: its trace, and the span in which the error seems to have begun."""

    trace: str
    service: str
    name: str
    start_ns: int
    error_id: str | None
    caller: str | None
    status: int | None


class SpanRepository:
    """The spans that services exported, for a limited time."""

    def __init__(self, database: Database, keep_seconds: float, max_rows: int) -> None:
        self._database = database
        self._keep_seconds = keep_seconds
        self._max_rows = max_rows

    async def insert(self, spans: Sequence[Span], deadline: float | None = None) -> None:
        """Insert spans with one statement. Spans that are there already stay as they are."""
        rows = [
            (
                span.trace_id,
                span.span_id,
                span.parent_id,
                span.service,
                span.name,
                span.start_ns,
                span.duration_ns,
                span.is_error,
                orjson.dumps(span.attributes).decode(),
                orjson.dumps(span.links).decode(),
                span.l1p_trace_id,
                span.quote_uuid,
                span.error_id,
                span.caller,
            )
            for span in spans
        ]
        if rows:
            await self._database.fetch(_INSERT, *zip(*rows, strict=True), deadline=deadline)

    async def of_trace(self, trace: str) -> list[Span]:
        """Return the first spans of a trace, by its L1p trace id or by its W3C trace id, and the spans they link to."""
        found = [_span(row) for row in await self._database.fetch(_OF_TRACE, trace, MAX_SPANS)]
        own = {(span.trace_id, span.span_id) for span in found}
        linked = sorted({link for span in found for link in span.links} - own)[:MAX_SPANS]
        if linked:
            found += [_span(row) for row in await self._database.fetch(_BY_ID, *zip(*linked, strict=True))]
        return found

    async def traces_of_quote(self, uuid: str) -> list[TraceSummary]:
        """Return the first traces that name a quote, the earliest first."""
        rows = await self._database.fetch(_TRACES_OF_QUOTE, uuid, MAX_TRACES)
        return [TraceSummary(row["trace"], row["start_ns"]) for row in rows]

    async def failed(self, error_id: str | None, caller: str | None, limit: int) -> list[FailedRequest]:
        """Return the latest requests that failed, the latest first; of one error id, of one caller, or of all."""
        rows = await self._database.fetch(_FAILED, error_id, caller, limit * _HOPS_PER_TRACE, limit)
        return [_failed(row) for row in rows]

    async def delete_old(self) -> bool:
        """Delete a batch of the spans that are too old or too many. Return whether more may be left."""
        rows = await self._database.fetch(_DELETE_OLD, self._keep_seconds, self._max_rows, MAX_DELETED)
        return len(rows) >= MAX_DELETED


def _span(row: Any) -> Span:  # noqa: ANN401 - a record
    return Span(
        row["trace_id"],
        row["span_id"],
        row["parent_id"],
        row["service"],
        row["name"],
        row["start_ns"],
        row["duration_ns"],
        row["is_error"],
        orjson.loads(row["attributes"]),
        tuple((trace_id, span_id) for trace_id, span_id in orjson.loads(row["links"])),
    )


def _failed(row: Any) -> FailedRequest:  # noqa: ANN401 - a record
    status = None if row["status"] is None else orjson.loads(row["status"])
    return FailedRequest(
        row["trace"],
        row["service"],
        row["name"],
        row["start_ns"],
        row["error_id"],
        row["caller"],
        status if isinstance(status, int) else None,
    )
