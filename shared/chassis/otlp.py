"""Sends spans to a collector by OTLP over HTTP, with OpenTelemetry's own packages (the extra `tracing`).

A thread of OpenTelemetry sends them in batches. A collector that is slow or away delays no request: the queue is
limited, spans for which it has no room are dropped and counted, and each attempt ends after a few seconds. The log gets
one line when the collector goes away and one when it is back.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Final
from uuid import uuid4

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from chassis import tracing
from chassis.logs import Logs
from chassis.settings import Settings
from chassis.spans import MAX_CHARACTERS, Span, SpanMetrics

MAX_QUEUE: Final = 2_048
"""Maximum number of spans that wait, including those that are being sent."""
MAX_BATCH: Final = 512
DELAY_SECONDS: Final = 1.0
EXPORT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 0.5

_SCOPE: Final = InstrumentationScope("chassis")
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_UNKNOWN: Final = "unknown"
_UNSET: Final = Status(StatusCode.UNSET)


class OtlpExporter:
    """Exports the spans of one service."""

    def __init__(self, service: str, settings: Settings, metrics: SpanMetrics, logs: Logs) -> None:
        self._settings = settings
        self._metrics = metrics
        self._logs = logs
        self._resource = Resource.create(
            {
                "service.name": service,
                "service.version": metadata.version("dfsp-quoting"),
                "service.instance.id": str(uuid4()),
            }
        )
        self._added = 0
        self._processor: BatchSpanProcessor | None = None
        self._sender: _Sender | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()

        def on_change(cause: str | None) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(self._log_change, cause)

        self._sender = _Sender(_exporter(self._settings), self._metrics, on_change)
        self._processor = BatchSpanProcessor(
            self._sender,
            max_queue_size=MAX_QUEUE,
            schedule_delay_millis=DELAY_SECONDS * 1_000,
            max_export_batch_size=MAX_BATCH,
            export_timeout_millis=EXPORT_SECONDS * 1_000,
        )

    def _log_change(self, cause: str | None) -> None:
        if cause is None:
            self._logs.info("spans are exported again")
        else:
            self._logs.warning("spans cannot be exported and are dropped", cause=cause)

    def add(self, span: Span) -> bool:
        if self._processor is None or self._sender is None:
            return False
        if self._added - self._sender.finished >= MAX_QUEUE:
            return False
        self._added += 1
        self._processor.on_end(self._readable(span))
        return True

    def _readable(self, span: Span) -> ReadableSpan:
        context, parent_id = span.context, span.context.parent_id
        trace_id = int(context.trace_id, 16)
        return ReadableSpan(
            span.name,
            _context(context),
            parent=None
            if parent_id is None
            else SpanContext(trace_id, int(parent_id, 16), is_remote=True, trace_flags=_SAMPLED),
            resource=self._resource,
            attributes=span.attributes,
            links=tuple(Link(_context(each)) for each in span.links),
            kind=SpanKind[span.kind],
            status=_UNSET if span.failure is None else Status(StatusCode.ERROR, span.failure),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=_SCOPE,
        )

    async def close(self) -> None:
        processor, self._processor = self._processor, None
        if processor is None:
            return
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            # waits for OpenTelemetry's thread, for up to half a minute
            processor.shutdown()  # type: ignore[no-untyped-call]
            with contextlib.suppress(RuntimeError):  # the event loop has ended meanwhile
                loop.call_soon_threadsafe(closed.set)

        # a thread that does not keep the process alive: the spans are worth less than a quick end
        threading.Thread(target=close, daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await closed.wait()


def _context(context: tracing.SpanContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16), int(context.span_id, 16), is_remote=False, trace_flags=_SAMPLED
    )


def _exporter(settings: Settings) -> OTLPSpanExporter:
    """Return OpenTelemetry's exporter. It shows the collector the same certificate as other services."""
    session = requests.Session()
    session.trust_env = False
    certificate, key, ca = settings.tls_certificate, settings.tls_key, settings.tls_ca
    is_known = certificate is not None and key is not None
    return OTLPSpanExporter(
        settings.traces_url,
        certificate_file=None if ca is None else str(ca),
        client_certificate_file=str(certificate) if is_known else None,
        client_key_file=str(key) if is_known else None,
        timeout=EXPORT_SECONDS,
        session=session,
    )


class _Sender(SpanExporter):
    """Counts the spans that were sent, and reports when the collector goes away or is back. Runs in another thread."""

    def __init__(
        self, exporter: OTLPSpanExporter, metrics: SpanMetrics, on_change: Callable[[str | None], None]
    ) -> None:
        """`on_change` is called with the cause when exports begin to fail, and with None when they succeed again."""
        self.finished = 0
        """Number of spans that are no longer in the queue."""
        self._exporter = exporter
        self._metrics = metrics
        self._on_change = on_change
        self._messages = _Messages()
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._messages.forget()
        try:
            result = self._exporter.export(spans)
        finally:
            self.finished += len(spans)
        is_away = result is not SpanExportResult.SUCCESS
        if is_away:
            self._metrics.dropped["collector"] += len(spans)
        else:
            self._metrics.exported += len(spans)
        if is_away != self._is_away:
            self._is_away = is_away
            self._on_change(self._messages.first if is_away else None)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Messages(logging.Handler):
    """Keeps the messages of OpenTelemetry's exporter out of the service's log, where each attempt would have one."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = _UNKNOWN
        logger = logging.getLogger("opentelemetry")
        logger.handlers = [self]
        logger.propagate = False

    def forget(self) -> None:
        self.first = _UNKNOWN

    def emit(self, record: logging.LogRecord) -> None:
        if self.first == _UNKNOWN:
            self.first = record.getMessage()[:MAX_CHARACTERS]
