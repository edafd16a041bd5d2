"""Each line of a batch meets what it would have met alone (wire.md §8)."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from support.batches import BATCH, NDJSON, QUOTE_BATCH, written
from support.forwarders import EXECUTE, FORWARDERS, LOOK_UP, SOURCE, Answer, Ask, Hop, is_error_object
from support.messages import KEY, OTHER, RESERVE, TRACE, UNKNOWN_UUID, basic, headers
from support.serving import Seen, reply
from support.takers import of_hop


@pytest.fixture
async def hop(hop_to) -> Hop:
    """One forwarder, for what is written once for all."""
    return await hop_to(FORWARDERS["spsp-server"], batch_lines="64")


async def test_each_line_is_answered_as_if_alone(taker):
    """Status, body and headers, but for what says when it was."""
    asks = {
        "good": (taker.ask, {}),
        "unknown path": (Ask("GET", "/nowhere"), {}),
        "wrong method": (Ask("DELETE", taker.ask.path), {}),
        "wrong password": (taker.ask, {"Authorization": basic("test", "no")}),
        "wrong body": (Ask("POST", RESERVE, body=b"{"), {}),
        "wrong uuid": (Ask("GET", "/v1/quote/1"), {}),
        "wrong time": (Ask("POST", RESERVE, body=b"{}"), {"X-Request-Timeout-Ms": "x"}),
        "wrong key": (Ask("POST", RESERVE, body=b"{}"), {"Idempotency-Key": "ü"}),
        "wrong query": (Ask("GET", f"/v1/quote/{UNKNOWN_UUID}", query="x=1"), {}),
        "wrong type": (Ask("POST", RESERVE, body=b"{}"), {"Content-Type": "text/plain"}),
        "too long a body": (Ask("POST", RESERVE, body=b" " * (2**16 + 1)), {}),
        "too long a header": (taker.ask, {"traceparent": "x" * 8_200}),
        "too long a URL": (Ask("GET", "/" + "x" * 8_200), {}),
    }
    alone = {}
    for name, (ask, more) in asks.items():
        given = {"L1p-Trace-Id": "t", "Idempotency-Key": "k", **more}
        answer = await taker.alone(ask, **given)
        alone[name] = (answer.status, *_told(answer.headers, answer.body.decode()))
    lines = [
        taker.line(name, ask, **{"L1p-Trace-Id": "t", "Idempotency-Key": "k", **more})
        for name, (ask, more) in asks.items()
    ]
    whole = await taker.batch(*lines)

    batched = {each["id"]: (each["status"], *_told(each["headers"], each["body"])) for each in whole.lines}
    # of what is too long to be HTTP, alone nobody reads the trace id
    del alone["too long a header"], alone["too long a URL"]
    long = [batched.pop("too long a header"), batched.pop("too long a URL")]
    assert alone == batched
    assert [(400, "InvalidHeaderError"), (400, "InvalidUriParameterError")] == [
        (status, json.loads(body)["id"]) for status, _headers, body in long
    ]


def _told(given: Any, body: str) -> tuple[dict[str, str], str]:
    left_out = {"date", "server", "content-length", "connection", QUOTE_BATCH.lower()}
    return {name.lower(): value for name, value in given.items() if name.lower() not in left_out}, body


async def test_a_batch_within_a_batch_is_404(taker):
    inner = taker.line("inner", Ask("POST", BATCH, body=written([taker.line()])), Content_Type=NDJSON)
    whole = await taker.batch(inner, taker.line("beside"))

    assert (404, "NotFoundError") == whole.outcomes["inner"]
    assert 200 == whole.by_id["beside"]["status"]


async def test_each_line_is_logged_as_if_alone(taker):
    await taker.batch(
        taker.line("one", L1p_Trace_Id="trace-1"),
        taker.line("two", L1p_Trace_Id="trace-2", Authorization=None),
        taker.line("three", Ask("GET", "/nowhere"), L1p_Trace_Id="trace-3"),
    )
    events = {event["traceId"]: event for event in taker.log.events}

    assert {
        "trace-1": (200, "test", taker.ask.method, taker.ask.path),
        "trace-2": (401, None, taker.ask.method, taker.ask.path),
        "trace-3": (404, None, "GET", "/nowhere"),
    } == {
        trace: (event["status"], event["caller"], event["method"], event["path"])
        for trace, event in events.items()
    }
    assert 3 == len(taker.log.events)
    assert headers()["Authorization"] not in taker.log.text


async def test_a_line_without_a_trace_id_gets_one_of_its_own(taker):
    whole = await taker.batch(taker.line(1), taker.line(2), L1p_Trace_Id="of-the-envelope")
    traces = {each["headers"][TRACE] for each in whole.lines}

    assert 2 == len(traces)
    assert "of-the-envelope" not in traces


BROKEN = {
    "no JSON": b"{",
    "nothing": b"",
    "a blank": b" ",
    "no object": b"[1]",
    "null": b"null",
    "two objects": b"{}{}",
    "no id": b'{"method": "GET", "path": "/", "headers": {}}',
    "an id that is null": b'{"id": null, "method": "GET", "path": "/", "headers": {}}',
    "an id that is a list": b'{"id": [], "method": "GET", "path": "/", "headers": {}}',
    "an id that is true": b'{"id": true, "method": "GET", "path": "/", "headers": {}}',
    "an id of 5,000 digits": b'{"id": ' + b"1" * 5_000 + b', "method": "GET", "path": "/", "headers": {}}',
    "no method": b'{"id": 7, "path": "/", "headers": {}}',
    "no path": b'{"id": 7, "method": "GET", "headers": {}}',
    "no headers": b'{"id": 7, "method": "GET", "path": "/"}',
    "headers of numbers": b'{"id": 7, "method": "GET", "path": "/", "headers": {"a": 1}}',
    "a body of its own": b'{"id": 7, "method": "GET", "path": "/", "headers": {}, "body": {}}',
    "no UTF-8": b'{"id": 7, "method": "GET", "path": "/\xff", "headers": {}}',
    "half a surrogate": b'{"id": 7, "method": "GET", "path": "/\\ud800", "headers": {}}',
    "nested without end": b'{"id": 7, "x": ' + b"[" * 100_000,
    "a newline in a string": b'{"id": 7, "method": "GET", "path": "/',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_a_line_that_cannot_be_read_is_400_and_the_others_go_on(taker, broken):
    whole = await taker.batch(taker.line("a"), broken, taker.line("b"))

    assert {"a", None, "b"} == set(whole.by_id)
    assert (200, 200) == (whole.by_id["a"]["status"], whole.by_id["b"]["status"])
    refused = whole.by_id[None]
    assert (2, 400, "InvalidBodyError") == (
        refused["line"],
        refused["status"],
        json.loads(refused["body"])["id"],
    )
    assert taker.service == json.loads(refused["body"])["service"]


async def test_an_id_that_repeats_is_400_and_the_first_goes_on(taker):
    whole = await taker.batch(
        taker.line("a"), taker.line("a"), taker.line("b"), taker.line(1), taker.line("1")
    )
    refused = [each for each in whole.lines if each["id"] is None]

    assert [(2, 400)] == [(each["line"], each["status"]) for each in refused]
    assert {"a": 200, "b": 200, 1: 200, "1": 200} == {
        each["id"]: each["status"] for each in whole.lines if each["id"] is not None
    }


async def test_a_long_id_that_repeats_is_cut_in_the_answer(hop):
    long = "x" * 2**20
    whole = await of_hop(hop).batch(of_hop(hop).line(long), of_hop(hop).line(long))
    [refused] = [each for each in whole.lines if each["id"] is None]

    assert len(refused["body"]) < 1_000


@pytest.mark.parametrize("id_", [0, -1, 2**80, "", "ü", "x" * 1_000, '"\\\n'])
async def test_an_id_comes_back_as_it_went(hop, id_):
    [answered] = (await of_hop(hop).batch(of_hop(hop).line(id_))).lines

    assert (id_, 200) == (answered["id"], answered["status"])


@pytest.mark.parametrize("value", ["a\r\nX: b", "a\nb", "a\0b", "a\x7fb"], ids=repr)
async def test_a_header_that_no_request_alone_could_have_is_400(hop, value):
    taker = of_hop(hop)
    whole = await taker.batch(
        taker.line("credentials", Authorization=headers()["Authorization"] + value[1:-1]),
        taker.line("traceparent", traceparent=value),
    )

    assert {"credentials", "traceparent"} == set(whole.outcomes)
    assert {(400, "InvalidHeaderError")} == set(whole.outcomes.values())
    assert [] == hop.next_hop.seen


async def test_the_same_header_in_two_spellings_is_there_twice(hop):
    taker = of_hop(hop)
    twice = taker.line("keys")
    twice["headers"] |= {"Idempotency-Key": "a", "idempotency-key": "b"}
    whole = await taker.batch(twice)

    assert {"keys": (400, "InvalidHeaderError")} == whole.outcomes


async def test_one_place_in_hand_is_enough_for_a_batch_of_one(taker_with):
    """The envelope takes no place of its own."""
    taker = await taker_with(max_in_flight="1")

    assert {1: (200, None)} == {
        id_: (status, None) for id_, (status, _) in (await taker.batch(taker.line())).outcomes.items()
    }


async def test_lines_beyond_what_a_service_holds_are_503_and_the_others_go_on(hop_to):
    hop = await hop_to(FORWARDERS["spsp-server"], batch_lines="64", max_in_flight="4")
    taker = of_hop(hop)
    hop.next_hop.answer = _after(0.05)
    await taker.alone()
    whole = await taker.batch(*(taker.line(number) for number in range(9)))

    assert {200: 4, 503: 5} == {
        status: [each["status"] for each in whole.lines].count(status) for status in (200, 503)
    }
    assert all("Retry-After" in each["headers"] for each in whole.lines if each["status"] == 503)


def _after(seconds: float) -> Callable:
    async def answer(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await reply(200, {"amount": "1"})(seen)

    return answer


@pytest.mark.parametrize("ask", [SOURCE, EXECUTE, LOOK_UP], ids=["source", "execute", "look_up"])
async def test_a_line_goes_on_as_it_came(hop, ask):
    taker = of_hop(hop)
    given = {
        "L1p-Trace-Id": "t",
        "X-Request-Timeout-Ms": "5000",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "Authorization": OTHER,
    }
    if ask is SOURCE:
        given[KEY] = "k"
    await taker.batch(taker.line(1, ask, **given))
    [seen] = hop.next_hop.seen

    assert (ask.method, ask.target, ask.body or b"") == (seen.method, seen.target, seen.body)
    passed = {name: value for name, value in seen.headers.items() if name in given}
    assert 0 < int(passed.pop("X-Request-Timeout-Ms")) <= int(given.pop("X-Request-Timeout-Ms"))
    assert given == passed


async def test_errors_of_lines_are_the_error_object(taker):
    whole = await taker.batch(taker.line(1, Authorization=None), taker.line(2, Ask("GET", "/nowhere")), b"x")

    for each in whole.lines:
        headers_ = {"Content-Type": "application/json", **each["headers"]}
        answer = Answer(
            each["status"], {TRACE: json.loads(each["body"])["traceId"], **headers_}, each["body"].encode()
        )
        assert is_error_object(answer)


async def test_the_time_of_a_line_counts_from_when_it_is_read(hop):
    taker = of_hop(hop)
    hop.next_hop.answer = _after(30)
    whole = await taker.batch(
        taker.line("short", X_Request_Timeout_Ms="50"), taker.line("shorter", X_Request_Timeout_Ms="1")
    )

    assert {
        "short": (504, "UpstreamTimeoutError"),
        "shorter": (504, "UpstreamTimeoutError"),
    } == whole.outcomes


async def test_one_lines_time_is_no_others(hop):
    taker = of_hop(hop)
    hop.next_hop.answer = _after(0.5)
    whole = await taker.batch(taker.line("short", X_Request_Timeout_Ms="50"), taker.line("long"))

    assert ["short", "long"] == [each["id"] for each in whole.lines]
    assert [504, 200] == [each["status"] for each in whole.lines]
