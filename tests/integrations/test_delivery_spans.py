"""An attempt to deliver a signal has a span in the trace of the signal (docs/tracing.md)."""

import hashlib

import pytest
from aiohttp import web

from chassis import otlp
from support.collector import CollectedSpan, Collector, collector
from support.provider import Provider
from support.serving import Seen, reply, stub

TRACE = "trace-1"
W3C_TRACE = hashlib.sha256(TRACE.encode()).hexdigest()[:32]


@pytest.fixture
async def receiver(monkeypatch):
    monkeypatch.setattr(otlp, "DELAY_SECONDS", 0.01)
    async with collector() as made:
        yield made


async def signal_span(provider: Provider, receiver: Collector, url: str) -> CollectedSpan:
    """Send a signal, and return the span of its first delivery."""
    id_ = await provider.enabled(url)
    await provider.send_signal_with_trace(TRACE)
    [span, *_] = await receiver.where(
        lambda span: span.attributes.get("integration.event.type") == "SIGNAL_OPEN"
    )

    assert (id_, W3C_TRACE) == (span.attributes["integration.id"], span.trace_id)
    assert ("POST webhook", "client") == (span.name, span.kind)
    return span


async def test_a_delivery_has_a_span_in_the_trace_of_its_signal(start, receiver, hook):
    provider = await start(traces_url=receiver.url, traces_ratio="1")
    span = await signal_span(provider, receiver, hook.url)
    await receiver.where(lambda each: each.kind == "server" and each.trace_id == W3C_TRACE)

    assert {
        "http.request.method": "POST",
        "http.request.resend_count": 0,
        "http.response.status_code": 200,
        "integration.outcome": "DELIVERED",
        "l1p.trace_id": TRACE,
    }.items() <= span.attributes.items()
    assert span.failure is None
    assert "error.type" not in span.attributes


async def refuse_signals(seen: Seen) -> web.StreamResponse:
    return await reply(503 if b"SIGNAL_OPEN" in seen.body else 200, b"")(seen)


async def test_a_failed_delivery_has_a_span_whatever_the_ratio_is(start, receiver):
    provider = await start(traces_url=receiver.url, traces_ratio="0")
    async with stub(refuse_signals) as hook:
        span = await signal_span(provider, receiver, hook.url)

    assert (503, "Generic", "RETRY") == (
        span.attributes["http.response.status_code"],
        span.attributes["error.type"],
        span.attributes["integration.outcome"],
    )
    assert span.failure is not None
