"""Makes the spans of one service. Their content follows OpenTelemetry's semantic conventions.

A span is made after its request has been answered, so a request without a span costs little more than its place in the
trace. Three kinds of requests get a span: those whose caller set the flag for sampled traces or that fall into the
configured ratio, those whose answer is an error, and slow ones. Batches and statements serve many requests at once. If
one of these requests is known to be sampled, they get a span, with links to all that are.

This module knows nothing of OpenTelemetry's packages, which are optional; `chassis.otlp` sends the spans.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final, Literal, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.batching import Item
from chassis.http.request import Request
from chassis.http.response import Response
from chassis.settings import Settings
from chassis.tracing import NO_FLAGS, TRACEPARENT_HEADER, Line, Sampler, SpanContext, batch_context

BURST: Final = 1_000
"""A burst may have this many spans more than the average rate allows."""
ADAPT_SECONDS: Final = 1.0
RATIO_SHARE: Final = 0.2
"""Share of the limit for spans that the ratio may use. With all of it, `warm` at 128 connections lost 4 to 10 %."""
MAX_LINKS: Final = 128
"""OpenTelemetry's own default."""
MAX_CHARACTERS: Final = 256
"""Maximum length of text that a peer controls."""

_ERROR_STATUS: Final = 400
_SERVER_ERROR_STATUS: Final = 500
_KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_NANOSECONDS: Final = 1_000_000_000

Attributes = Mapping[str, str | int]
Kind = Literal["SERVER", "CLIENT"]
"""Whether a span stands for a request that was received, or for one that was sent."""
Dropped = Literal["limit", "queue", "collector"]
"""Why a span was not exported."""


class Span(msgspec.Struct, frozen=True, gc=False):
    """A span to export."""

    context: SpanContext
    name: str
    kind: Kind
    start_ns: int
    """Unix time in nanoseconds."""
    end_ns: int
    attributes: Attributes
    links: tuple[SpanContext, ...] = ()
    failure: str | None = None
    """Why the work failed, if it did by OpenTelemetry's rules: a server is not at fault for a 4xx."""


class Exporter(Protocol):
    """Sends spans to a tracing system, later and in batches."""

    def start(self) -> None:
        """Begin to send, on the running event loop."""

    def add(self, span: Span) -> bool:
        """Take a span and return True; return False if too many wait already."""

    async def close(self) -> None:
        """Send the spans that wait, within a short time."""


class Traced(Protocol):
    """The fields of an answered request that its span shows."""

    request: Request
    trace_id: str
    caller: str | None
    pattern: str | None
    uuid: str | None
    span: SpanContext | None
    is_unsampled: bool
    line: Line | None


class SpanMetrics(Collector):
    """Counts exported spans, and those that no collector has received. Under overload there are thousands of these."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.exported = 0
        self.dropped: dict[Dropped, int] = {"limit": 0, "queue": 0, "collector": 0}
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "spans_exported", "Spans that the collector has accepted", value=self.exported
        )
        meaning = (
            "Spans that were not exported: over the limit, no room in the queue, or refused by the collector"
        )
        dropped = CounterMetricFamily("spans_dropped", meaning, labels=["reason"])
        for reason, number in self.dropped.items():
            dropped.add_metric([reason], number)
        yield dropped


class Tracer:
    """Makes the spans of one service."""

    def __init__(self, settings: Settings, exporter: Exporter, metrics: SpanMetrics) -> None:
        self._sampler = Sampler(settings.traces_ratio, RATIO_SHARE * settings.traces_per_second)
        self.begin = self._sampler.begin
        """Returns the context of a request, from its `traceparent` header and its L1p trace id."""
        self.may_sample = self._sampler.may_sample
        self.exporter = exporter
        self._metrics = metrics
        self._slow_seconds = settings.traces_slow_seconds
        self._adapt_at = 0.0
        # a limit for each kind: a flood of errors must not displace the requests that somebody wants to follow
        self._sampled = _Limit(2 * settings.traces_per_second)  # by the ratio, and by callers' flags
        self._others = _Limit(settings.traces_per_second)
        self._batches = _Limit(settings.traces_per_second)

    def end(self, traced: Traced, response: Response, path: str, ended: float) -> None:
        """Export the span of an answered request, if it gets one.

        `path` is the path as the log shows it, `ended` the time of the answer on the monotonic clock.
        """
        if ended >= self._adapt_at:
            self._adapt_at = ended + ADAPT_SECONDS
            self._sampler.adapt(ended)
        began, is_error = traced.request.received, response.status >= _ERROR_STATUS
        if traced.is_unsampled and not is_error and ended - began < self._slow_seconds:
            return
        if (
            is_error
            and ended < self._others.empty_until
            and traced.span is None
            and TRACEPARENT_HEADER not in traced.request.headers
        ):
            self._metrics.dropped["limit"] += 1
            return
        span = traced.span or self.place(traced)
        if self._gets_span(span, began, ended, is_error=is_error):
            self._export(span, traced, response, path, ended)

    def place(self, traced: Traced) -> SpanContext:
        """Make and return the place of a request in its trace, if none was made when it arrived."""
        request = traced.request
        span = self.begin(request.headers.get(TRACEPARENT_HEADER), traced.trace_id)
        if span.parent_id is None and request.line is not None:
            span.parent_id = request.line.span_id
        if traced.line is not None:
            span.span_id = traced.line.span_id
        if traced.is_unsampled:
            span.is_sampled, span.flags = False, NO_FLAGS
        return span

    def _gets_span(self, span: SpanContext, began: float, ended: float, *, is_error: bool) -> bool:
        if span.is_sampled:
            limit = self._sampled
        elif is_error or ended - began >= self._slow_seconds:
            limit = self._others
        else:
            return False
        if limit.admits(ended):
            return True
        self._metrics.dropped["limit"] += 1
        return False

    def end_call(
        self, trace_id: str, name: str, began: float, attributes: dict[str, str | int], failure: str | None
    ) -> None:
        """Export the span of a request that this service has sent and that has ended now, if it gets one.

        `trace_id` is an L1p trace id, `began` is on the monotonic clock. A call with the attribute `error.type` failed.
        """
        ended = time.monotonic()
        span = self.begin(None, trace_id)
        is_error = "error.type" in attributes
        if self._gets_span(span, began, ended, is_error=is_error):
            attributes["l1p.trace_id"] = trace_id
            reason = _text(failure or "") if is_error else None
            self._add(span, name, "CLIENT", began, ended, attributes, failure=reason)

    def _export(self, span: SpanContext, traced: Traced, response: Response, path: str, ended: float) -> None:
        request, status = traced.request, response.status
        method = request.method if request.method in _KNOWN_METHODS else "_OTHER"
        attributes: dict[str, str | int] = {
            "l1p.trace_id": traced.trace_id,
            "http.request.method": method,
            "http.response.status_code": status,
            "url.path": _text(path),
            "url.scheme": request.scheme,
        }
        if traced.pattern is not None:
            attributes["http.route"] = traced.pattern
        if traced.uuid is not None:
            attributes["quote.uuid"] = traced.uuid
        if traced.caller is not None:
            attributes["enduser.id"] = _text(traced.caller)
        failure = None
        if status >= _ERROR_STATUS:
            attributes["error.type"] = _text(response.error_id or str(status))
            cause = _text(response.cause or "")
            if cause:
                attributes["error.message"] = cause
            if status >= _SERVER_ERROR_STATUS:
                failure = cause
        name = "HTTP" if method == "_OTHER" else method
        name = name if traced.pattern is None else f"{name} {traced.pattern}"
        self._add(span, name, "SERVER", request.received, ended, attributes, span.links, failure)

    def sampled(self, items: Sequence[Item[Any, Any]]) -> Sequence[SpanContext]:
        """Return the places of the sampled items if a batch or statement for them gets a span, else nothing."""
        sampled = [item.span for item in items if item.span is not None and item.span.is_sampled]
        return sampled[:MAX_LINKS] if sampled and self._batches.admits(time.monotonic()) else ()

    @contextmanager
    def batch(
        self, name: str, attributes: Attributes, sampled: Sequence[SpanContext]
    ) -> Iterator[dict[str, str | int]]:
        """Export a span for the time of this context. It and its sampled requests have links to each other."""
        context, began, found = batch_context(), time.monotonic(), dict(attributes)
        for each in sampled:
            if len(each.links) < MAX_LINKS:
                each.links += (context,)
        failure = None
        try:
            yield found
        except BaseException as error:
            found["error.type"] = type(error).__qualname__
            failure = _text(str(error))
            raise
        finally:
            self._add(context, name, "CLIENT", began, time.monotonic(), found, tuple(sampled), failure)

    def _add(
        self,
        context: SpanContext,
        name: str,
        kind: Kind,
        began: float,
        ended: float,
        attributes: Attributes,
        links: tuple[SpanContext, ...] = (),
        failure: str | None = None,
    ) -> None:
        """Export a span. `began` and `ended` are on the monotonic clock."""
        end_ns = time.time_ns() - int((time.monotonic() - ended) * _NANOSECONDS)
        start_ns = end_ns - int((ended - began) * _NANOSECONDS)
        if not self.exporter.add(Span(context, name, kind, start_ns, end_ns, attributes, links, failure)):
            self._metrics.dropped["queue"] += 1


def batch_span(
    tracer: Tracer | None, items: Sequence[Item[Any, Any]], name: str, attributes: Attributes
) -> AbstractContextManager[dict[str, str | int]]:
    """Return a context for the round trip of a batch or statement.

    It makes a span if an item is known to be sampled. Further attributes can be added to the value of the context.
    """
    sampled = () if tracer is None else tracer.sampled(items)
    return nullcontext({}) if tracer is None or not sampled else tracer.batch(name, attributes, sampled)


def _text(text: str) -> str:
    """Return text that a peer may control, cut, and with its invisible characters and lone surrogates escaped."""
    text = text[:MAX_CHARACTERS]
    return text if text.isprintable() else ascii(text)[1:-1]


class _Limit:
    """A token bucket: limits how many spans are made per second, on average."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._tokens = float(BURST)
        self._at = time.monotonic()
        self.empty_until = 0.0
        """Time before which nothing is admitted, on the monotonic clock."""

    def admits(self, now: float) -> bool:
        if now > self._at:
            self._tokens = min(BURST, self._tokens + (now - self._at) * self._per_second)
            self._at = now
        if self._tokens < 1:
            self.empty_until = now + (1 - self._tokens) / self._per_second
            return False
        self._tokens -= 1
        return True
