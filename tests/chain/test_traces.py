"""Spans of the whole chain at a collector (docs/tracing.md)."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from chassis import otlp
from support.chain_in_process import SLOW, SLOW_SECONDS, ChainInProcess, chain_in_process
from support.client import ClientResponse, send
from support.collector import CollectedSpan, Collector, collector
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE, TEST, UNKNOWN_UUID, basic

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
        given = {"traces_ratio": "0", "traces_slow_seconds": "3600", "traces_per_second": "1000", **settings}
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


async def test_a_request_without_the_flag_has_no_span(traced):
    async with traced() as each:
        silent, flagged = new_trace_id(), new_trace_id()
        await each.reserve(traceparent=traceparent(silent, sampled=False))
        await each.reserve(trace="no-header")
        await each.reserve(traceparent=traceparent(flagged, sampled=True))
        # the spans of a service are sent in the order of their requests
        await each.collector.of(flagged, 6)

    assert {flagged} == {span.trace_id for span in each.collector.spans if span.kind == "server"}


async def test_spans_hold_no_credentials_and_no_bodies(traced):
    async with traced() as each:
        trace_id = new_trace_id()
        await each.reserve(traceparent=traceparent(trace_id, sampled=True))
        await each.look_up(Authorization=basic("test", "a wrong password"))
        await each.collector.where(lambda span: span.attributes.get("error.type") == "UnauthorizedError")
        await each.collector.of(trace_id, 7)

    text = repr(each.collector.spans) + repr(each.collector.bodies)
    for secret in (
        "123:",
        TEST,
        TEST.removeprefix("Basic "),
        "a wrong password",
        QUOTE["identifier"],
        "12.50",
    ):
        assert secret not in text


@pytest.mark.parametrize("batch_lines", [0, 64])
async def test_an_error_has_a_span_at_each_hop_that_saw_it_without_any_flag(traced, batch_lines):
    async with traced(batch_lines=batch_lines) as each:
        trace_id = uuid.uuid4()
        response = await each.look_up(trace=str(trace_id))
        spans = await each.collector.of(trace_id.hex, 6)

    assert (404, "QuoteNotFoundError") == (response.status, response.id)
    assert HOPS == services(spans)
    assert "" == spans[0].parent_id
    for span in spans:
        assert (404, "QuoteNotFoundError", UNKNOWN_UUID, "/v1/quote/{uuid}") == (
            span.attributes["http.response.status_code"],
            span.attributes["error.type"],
            span.attributes["quote.uuid"],
            span.attributes["http.route"],
        )
        # the server is not at fault for a 4xx
        assert span.failure is None


async def test_a_slow_request_has_a_span_at_each_hop_that_waited(traced):
    async with traced(traces_slow_seconds=str(SLOW_SECONDS / 2)) as each:
        trace_id = uuid.uuid4()
        await each.reserve({**QUOTE, "identifier": SLOW}, trace=str(trace_id))
        spans = await each.collector.where(
            lambda span: span.trace_id == trace_id.hex and span.service in HOPS[:3], 3
        )

    assert HOPS[:3] == services(spans)
    assert all(span.end_ns - span.start_ns >= SLOW_SECONDS / 2 * 1e9 for span in spans)


async def test_all_hops_sample_the_same_requests_by_the_ratio(traced):
    async with traced(traces_ratio="0.5") as each:
        ids = [f"{number:024x}{end}" for number in range(1, 4) for end in ("7fffffff", "80000000")]
        for trace_id in ids:
            await each.reserve(traceparent=traceparent(trace_id, sampled=False))
        for trace_id in ids[::2]:
            assert set(HOPS) <= {span.service for span in await each.collector.of(trace_id, 6)}

    reserved = {
        span.trace_id for span in each.collector.spans if span.attributes.get("http.route") == RESERVE
    }
    assert set(ids[::2]) == reserved


async def test_without_a_traceparent_the_trace_id_is_that_of_the_log(traced):
    async with traced(traces_ratio="1") as each:
        trace_id = uuid.uuid4()
        await each.reserve(trace=str(trace_id).upper())
        await each.reserve(trace="another-form")
        spans = await each.collector.of(trace_id.hex, 7)
        others = await each.collector.of(hashlib.sha256(b"another-form").hexdigest()[:32], 6)

    assert WITH_DIRECTORY == services(spans)
    assert HOPS == services(others)
    assert ["", ""] == [spans[0].parent_id, others[0].parent_id]
    assert {str(trace_id).upper()} == {span.attributes["l1p.trace_id"] for span in spans}


@pytest.mark.batches
async def test_errors_in_batches_have_one_tree_each_although_no_line_has_a_traceparent(traced):
    async with traced(batch_lines=64) as each:
        await each.reserve()  # from now on the services take batches from each other
        ids = [uuid.uuid4() for _ in range(24)]
        answers = await asyncio.gather(*(each.look_up(trace=str(trace_id)) for trace_id in ids))
        trees = [await each.collector.of(trace_id.hex, 6) for trace_id in ids]
        batches = await each.chain.batches()

    assert {404} == {answer.status for answer in answers}
    assert batches >= 1
    for spans in trees:
        assert HOPS == services(spans)
        assert "" == spans[0].parent_id
    assert 24 * 6 == len({span.id for spans in trees for span in spans})
    # a batch has a span only if it has a sampled request
    assert {"server"} == {span.kind for span in each.collector.spans}


@pytest.mark.batches
async def test_batches_and_statements_have_links_to_and_from_their_sampled_requests(traced):
    async with traced(batch_lines=64) as each:
        await each.reserve()  # from now on the services take batches from each other
        ids = [new_trace_id() for _ in range(24)]
        await asyncio.gather(
            *(
                each.reserve(traceparent=traceparent(each_id, sampled=n % 2 == 0))
                for n, each_id in enumerate(ids)
            )
        )
        for trace_id in ids[::2]:
            await each.collector.of(trace_id, 6)
        statements = await each.collector.where(lambda span: span.name == "reserve quote")
        batches = await each.collector.where(lambda span: span.name == "POST /v1/batch")

    requests = {span.link: span for span in each.collector.spans if span.kind == "server"}
    assert set(ids[::2]) == {span.trace_id for span in requests.values()}
    linked = set()
    for span in statements + batches:
        assert "client" == span.kind
        assert "" == span.parent_id
        assert span.links
        for link in span.links:
            assert span.service == requests[link].service
            assert span.link in requests[link].links
        linked.update(span.links)
    # every request of the payee waited for a statement
    assert linked >= {link for link, span in requests.items() if span.service == "dfsp-api"}
    largest = max(statements, key=lambda span: len(span.links))
    assert ("postgresql", "reserve") == (
        largest.attributes["db.system.name"],
        largest.attributes["db.operation.name"],
    )
    for span in batches:
        assert 200 == span.attributes["http.response.status_code"]
        assert 2 <= span.attributes["quote.batch.size"] <= 24
        assert len(span.links) <= span.attributes["quote.batch.size"]
