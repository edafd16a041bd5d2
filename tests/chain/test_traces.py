"""Spans of the whole chain at a collector (docs/tracing.md)."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from chassis import otlp
from support.chain_in_process import ChainInProcess, chain_in_process
from support.client import ClientResponse, send
from support.collector import CollectedSpan, Collector, collector
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE, UNKNOWN_UUID

HOPS = [
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
]
WITH_DIRECTORY = [*HOPS[:2], "central-directory", *HOPS[2:]]


@dataclass
class Traced:
    """A chain that sends its spans to a collector."""

    chain: ChainInProcess
    collector: Collector

    async def reserve(self, body: dict[str, str] = QUOTE, **headers: str) -> ClientResponse:
        return await send(self.chain.client, "POST", self.chain.url + RESERVE, body, **headers)

    async def look_up(self, **headers: str) -> ClientResponse:
        url = f"{self.chain.url}/v1/quote/{UNKNOWN_UUID}?{LOOK_UP_QUERY}"
        return await send(self.chain.client, "GET", url, **headers)


@pytest.fixture
def traced(users_file, client, database_url, tmp_path, monkeypatch):
    """Starts a chain with a collector. Keywords are settings of every service."""
    monkeypatch.setattr(otlp, "DELAY_SECONDS", 0.01)

    @asynccontextmanager
    async def start(*, batch_lines: int = 0, **settings: str) -> AsyncIterator[Traced]:
        given = {"traces_ratio": "0", "traces_slow_seconds": "3600", **settings}
        async with (
            collector() as receiver,
            chain_in_process(
                users_file,
                client,
                database_url,
                tmp_path,
                batch_lines=batch_lines,
                **{"traces_url": receiver.url, **given},
            ) as chain,
        ):
            yield Traced(chain, receiver)

    return start


def traceparent(trace_id: str, *, sampled: bool) -> str:
    return f"00-{trace_id}-b7ad6b7169203331-0{int(sampled)}"


def new_trace_id() -> str:
    return uuid.uuid4().hex


def services(spans: list[CollectedSpan]) -> list[str]:
    """The services of these spans from the first hop to the last, if each span is the parent of the next one.

    The span of the directory has the same parent as that of the service after the proxy.
    """
    parents = {span.id: span for span in spans}
    for span in spans[1:]:
        parent = parents[span.parent_id]
        assert parent.start_ns <= span.start_ns <= span.end_ns <= parent.end_ns
        expected = WITH_DIRECTORY[WITH_DIRECTORY.index(span.service) - 1]
        assert parent.service == ("spsp-client-proxy" if expected == "central-directory" else expected)
    return [span.service for span in spans]


@pytest.mark.parametrize("batch_lines", [0, 64])
async def test_a_request_with_the_flag_has_one_span_at_each_hop_in_one_tree(traced, batch_lines):
    async with traced(batch_lines=batch_lines) as each:
        trace_id = new_trace_id()
        response = await each.reserve(trace="the-trace", traceparent=traceparent(trace_id, sampled=True))
        spans = await each.collector.of(trace_id, 7)

    assert WITH_DIRECTORY == services(spans)
    assert {"server"} == {span.kind for span in spans}
    assert "b7ad6b7169203331" == spans[0].parent_id
    assert 7 == len({span.id for span in spans})
    for span in spans:
        if span.service != "central-directory":
            assert f"POST {RESERVE}" == span.name
            assert {
                "l1p.trace_id": "the-trace",
                "enduser.id": "test",
                "http.request.method": "POST",
                "http.route": RESERVE,
                "http.response.status_code": 200,
                "url.path": RESERVE,
                "url.scheme": "http",
            }.items() <= span.attributes.items()
    assert "error.type" not in {name for span in spans for name in span.attributes}
    assert response.status == 200
