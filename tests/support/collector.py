"""A collector of traces: receives spans by OTLP over HTTP, as Jaeger, Tempo and OpenTelemetry's collector do."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from support.payee import until
from support.serving import Seen, stub

KINDS: Final = {2: "server", 3: "client"}
ERROR: Final = 2


@dataclass(frozen=True)
class CollectedSpan:
    """A span as the collector received it. Ids are hex digits."""

    service: str
    name: str
    kind: str
    trace_id: str
    id: str
    parent_id: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: tuple[tuple[str, str], ...]
    """Trace id and span id of each link."""
    failure: str | None
    resource: dict[str, Any]

    @property
    def link(self) -> tuple[str, str]:
        """The link to this span."""
        return self.trace_id, self.id


@dataclass
class Collector:
    """A running collector."""

    url: str
    """The URL for traces."""
    spans: list[CollectedSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def receive(self, seen: Seen) -> web.Response:
        assert "/v1/traces" == seen.target
        assert "application/x-protobuf" == seen.headers["Content-Type"]
        self.bodies.append(seen.body)
        self.spans += spans_in(seen.body)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    async def of(self, trace_id: str, count: int) -> list[CollectedSpan]:
        """Wait until the collector has at least this many spans of a trace. Return them, the first one first."""
        return await self.where(lambda span: span.trace_id == trace_id, count)

    async def where(self, fits: Callable[[CollectedSpan], bool], count: int = 1) -> list[CollectedSpan]:
        """Wait until the collector has at least this many spans that fit. Return them, the first one first."""

        async def are_enough() -> bool:
            return sum(map(fits, self.spans)) >= count

        await until(are_enough)
        return sorted(filter(fits, self.spans), key=lambda span: span.start_ns)


def spans_in(body: bytes) -> list[CollectedSpan]:
    return [
        CollectedSpan(
            _attributes(each.resource)["service.name"],
            span.name,
            KINDS[span.kind],
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano,
            span.end_time_unix_nano,
            _attributes(span),
            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
            span.status.message if span.status.code == ERROR else None,
            _attributes(each.resource),
        )
        for each in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in each.scope_spans
        for span in scope.spans
    ]


def _attributes(of: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in of.attributes}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run a collector."""
    made = Collector("")
    async with stub(made.receive) as receiver:
        made.url = f"{receiver.url}/v1/traces"
        yield made
