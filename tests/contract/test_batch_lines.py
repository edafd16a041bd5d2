"""Each line of a batch is checked and answered as the same request without a batch (wire.md §8)."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from support.batch_servers import BatchServer, batch_server_of
from support.batches import BATCH, NDJSON, QUOTE_BATCH, batch_bytes
from support.client import ClientResponse, is_error_object
from support.forwarders import EXECUTE, LOOK_UP, SOURCE, ClientRequest, Hop
from support.messages import KEY, OTHER, RESERVE, TRACE, UNKNOWN_UUID, basic, headers
from support.serving import Seen, reply


@pytest.fixture
async def hop(shared_hop) -> Hop:
    """One forwarder, for rules that all services share the code of."""
    return await shared_hop("spsp-server", batch_lines="64")


@pytest.fixture
def server(hop) -> BatchServer:
    return batch_server_of(hop)


async def test_each_line_is_answered_as_without_a_batch(batch_server):
    """Status, body and headers, except the headers that tell the time."""
    cases = {
        "good": (batch_server.good, {}),
        "unknown path": (ClientRequest("GET", "/nowhere"), {}),
        "wrong method": (ClientRequest("DELETE", batch_server.good.path), {}),
        "wrong password": (batch_server.good, {"Authorization": basic("test", "no")}),
        "wrong body": (ClientRequest("POST", RESERVE, body=b"{"), {}),
        "wrong uuid": (ClientRequest("GET", "/v1/quote/1"), {}),
        "wrong time": (ClientRequest("POST", RESERVE, body=b"{}"), {"X-Request-Timeout-Ms": "x"}),
        "wrong key": (ClientRequest("POST", RESERVE, body=b"{}"), {"Idempotency-Key": "ü"}),
        "wrong query": (ClientRequest("GET", f"/v1/quote/{UNKNOWN_UUID}", query="x=1"), {}),
        "wrong type": (ClientRequest("POST", RESERVE, body=b"{}"), {"Content-Type": "text/plain"}),
        "too long a body": (ClientRequest("POST", RESERVE, body=b" " * (2**16 + 1)), {}),
        "too long a header": (batch_server.good, {"traceparent": "x" * 8_200}),
        "too long a URL": (ClientRequest("GET", "/" + "x" * 8_200), {}),
    }
    alone = {}
    for name, (sent, more) in cases.items():
        given = {"L1p-Trace-Id": "t", "Idempotency-Key": "k", **more}
        response = await batch_server.alone(sent, **given)
        alone[name] = (response.status, *_compared(response.headers, response.body.decode()))
    lines = [
        batch_server.line(name, sent, **{"L1p-Trace-Id": "t", "Idempotency-Key": "k", **more})
        for name, (sent, more) in cases.items()
    ]
    whole = await batch_server.batch(*lines)

    batched = {
        each["id"]: (each["status"], *_compared(each["headers"], each["body"])) for each in whole.lines
    }
    # a header or a URL that is too long for HTTP is rejected before the trace id is read
    del alone["too long a header"], alone["too long a URL"]
    long = [batched.pop("too long a header"), batched.pop("too long a URL")]
    assert alone == batched
    assert [(400, "InvalidHeaderError"), (400, "InvalidUriParameterError")] == [
        (status, json.loads(body)["id"]) for status, _headers, body in long
    ]


def _compared(given: Any, body: str) -> tuple[dict[str, str], str]:
    left_out = {"date", "server", "content-length", "connection", QUOTE_BATCH.lower()}
    return {name.lower(): value for name, value in given.items() if name.lower() not in left_out}, body


async def test_a_batch_within_a_batch_is_404(batch_server):
    body = batch_bytes([batch_server.line()])
    inner = batch_server.line("inner", ClientRequest("POST", BATCH, body=body), Content_Type=NDJSON)
    whole = await batch_server.batch(inner, batch_server.line("beside"))

    assert (404, "NotFoundError") == whole.outcomes["inner"]
    assert 200 == whole.by_id["beside"]["status"]


async def test_each_line_is_logged_as_without_a_batch(batch_server):
    await batch_server.batch(
        batch_server.line("one", L1p_Trace_Id="trace-1"),
        batch_server.line("two", L1p_Trace_Id="trace-2", Authorization=None),
        batch_server.line("three", ClientRequest("GET", "/nowhere"), L1p_Trace_Id="trace-3"),
    )
    events = {event["traceId"]: event for event in batch_server.log.events}

    good = batch_server.good
    assert {
        "trace-1": (200, "test", good.method, good.path),
        "trace-2": (401, None, good.method, good.path),
        "trace-3": (404, None, "GET", "/nowhere"),
    } == {
        trace: (event["status"], event["caller"], event["method"], event["path"])
        for trace, event in events.items()
    }
    assert 3 == len(batch_server.log.events)
    assert headers()["Authorization"] not in batch_server.log.text


async def test_a_line_without_a_trace_id_gets_its_own(batch_server):
    whole = await batch_server.batch(
        batch_server.line(1), batch_server.line(2), L1p_Trace_Id="of-the-envelope"
    )
    traces = {each["headers"][TRACE] for each in whole.lines}

    assert 2 == len(traces)
    assert "of-the-envelope" not in traces


MALFORMED = {
    "no JSON": b"{",
    "nothing": b"",
    "a space": b" ",
    "no object": b"[1]",
    "null": b"null",
    "two objects": b"{}{}",
    "no id": b'{"method": "GET", "path": "/", "headers": {}}',
    "null as id": b'{"id": null, "method": "GET", "path": "/", "headers": {}}',
    "a list as id": b'{"id": [], "method": "GET", "path": "/", "headers": {}}',
    "true as id": b'{"id": true, "method": "GET", "path": "/", "headers": {}}',
    "an id of 5,000 digits": b'{"id": ' + b"1" * 5_000 + b', "method": "GET", "path": "/", "headers": {}}',
    "no method": b'{"id": 7, "path": "/", "headers": {}}',
    "no path": b'{"id": 7, "method": "GET", "headers": {}}',
    "no headers": b'{"id": 7, "method": "GET", "path": "/"}',
    "headers of numbers": b'{"id": 7, "method": "GET", "path": "/", "headers": {"a": 1}}',
    "an object as body": b'{"id": 7, "method": "GET", "path": "/", "headers": {}, "body": {}}',
    "no UTF-8": b'{"id": 7, "method": "GET", "path": "/\xff", "headers": {}}',
    "half a surrogate": b'{"id": 7, "method": "GET", "path": "/\\ud800", "headers": {}}',
    "nested without end": b'{"id": 7, "x": ' + b"[" * 100_000,
    "a newline in a string": b'{"id": 7, "method": "GET", "path": "/',
}


async def test_a_malformed_line_is_400_and_the_other_lines_go_on(batch_server):
    for name, malformed in MALFORMED.items():
        whole = await batch_server.batch(batch_server.line("a"), malformed, batch_server.line("b"))

        assert {"a", None, "b"} == set(whole.by_id), name
        assert (200, 200) == (whole.by_id["a"]["status"], whole.by_id["b"]["status"]), name
        rejected = whole.by_id[None]
        error = json.loads(rejected["body"])
        assert (2, 400, "InvalidBodyError") == (rejected["line"], rejected["status"], error["id"]), name
        assert batch_server.service == error["service"], name


async def test_a_repeated_id_is_400_and_the_first_line_with_it_goes_on(batch_server):
    whole = await batch_server.batch(*(batch_server.line(id_) for id_ in ["a", "a", "b", 1, "1"]))
    rejected = [each for each in whole.lines if each["id"] is None]

    assert [(2, 400)] == [(each["line"], each["status"]) for each in rejected]
    assert {"a": 200, "b": 200, 1: 200, "1": 200} == {
        each["id"]: each["status"] for each in whole.lines if each["id"] is not None
    }


async def test_the_error_about_a_repeated_id_is_short(server):
    long = "x" * 1_000
    whole = await server.batch(server.line(long), server.line(long))
    [rejected] = [each for each in whole.lines if each["id"] is None]

    assert len(rejected["body"]) < 1_000


async def test_a_long_id_is_400_and_does_not_come_back(server):
    [rejected] = (await server.batch(server.line("x" * 1_025))).lines

    assert (None, 400) == (rejected["id"], rejected["status"])
    assert len(rejected["body"]) < 1_000


async def test_an_id_comes_back_unchanged(server):
    for id_ in [0, -1, 2**80, "", "ü", "x" * 1_000, '"\\\n']:
        [response] = (await server.batch(server.line(id_))).lines

        assert (id_, 200) == (response["id"], response["status"])


async def test_a_header_that_http_does_not_allow_is_400(hop, server):
    for value in ["a\r\nX: b", "a\nb", "a\0b", "a\x7fb"]:
        whole = await server.batch(
            server.line("credentials", Authorization=headers()["Authorization"] + value[1:-1]),
            server.line("traceparent", traceparent=value),
        )

        assert {"credentials", "traceparent"} == set(whole.outcomes)
        assert {(400, "InvalidHeaderError")} == set(whole.outcomes.values()), value
        assert [] == hop.next_hop.seen


@pytest.mark.parametrize("name", ["Idempotency-Key", "traceparent"])
async def test_a_header_that_is_null_makes_the_line_malformed(server, name):
    line = server.line(1, EXECUTE if name == "Idempotency-Key" else SOURCE)
    line["headers"][name] = None
    [response] = (await server.batch(line)).lines

    assert (None, 400) == (response["id"], response["status"])


async def test_the_same_header_in_two_spellings_is_a_duplicate(server):
    twice = server.line("keys")
    twice["headers"] |= {"Idempotency-Key": "a", "idempotency-key": "b"}
    whole = await server.batch(twice)

    assert {"keys": (400, "InvalidHeaderError")} == whole.outcomes


async def test_an_envelope_does_not_count_as_in_flight(get_batch_server):
    server = await get_batch_server(max_in_flight="1")

    assert [200] == [each["status"] for each in (await server.batch(server.line())).lines]


async def test_lines_beyond_the_capacity_are_503_and_the_others_go_on(start_hop):
    hop = await start_hop("spsp-server", batch_lines="64", max_in_flight="4")
    server = batch_server_of(hop)
    hop.next_hop.answer = _after(0.05)
    await server.alone()
    whole = await server.batch(*(server.line(number) for number in range(9)))

    assert {200: 4, 503: 5} == {
        status: [each["status"] for each in whole.lines].count(status) for status in (200, 503)
    }
    assert all("Retry-After" in each["headers"] for each in whole.lines if each["status"] == 503)


def _after(seconds: float) -> Callable:
    async def answer(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(seconds)
        return await reply(200, {"amount": "1"})(seen)

    return answer


async def test_a_line_goes_on_unchanged(hop, server):
    for operation in [SOURCE, EXECUTE, LOOK_UP]:
        given = {
            "L1p-Trace-Id": "t",
            "X-Request-Timeout-Ms": "5000",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "Authorization": OTHER,
        }
        if operation is SOURCE:
            given[KEY] = "k"
        await server.batch(server.line(1, operation, **given))
        seen = hop.next_hop.seen.pop()

        assert (operation.method, operation.target, operation.body or b"") == (
            seen.method,
            seen.target,
            seen.body,
        )
        passed = {name: value for name, value in seen.headers.items() if name in given}
        assert 0 < int(passed.pop("X-Request-Timeout-Ms")) <= int(given.pop("X-Request-Timeout-Ms"))
        assert given == passed
        assert [] == hop.next_hop.seen


async def test_the_errors_of_lines_are_error_objects(batch_server):
    whole = await batch_server.batch(
        batch_server.line(1, Authorization=None), batch_server.line(2, ClientRequest("GET", "/nowhere")), b"x"
    )

    assert 3 == len(whole.lines)
    for each in whole.lines:
        trace = {TRACE: json.loads(each["body"])["traceId"]}
        given = {"Content-Type": "application/json", **trace, **each["headers"]}
        assert is_error_object(ClientResponse(each["status"], given, each["body"].encode()))


async def test_the_time_of_a_line_starts_when_the_line_is_read(hop, server):
    hop.next_hop.answer = _after(60)
    whole = await server.batch(
        server.line("short", X_Request_Timeout_Ms="50"), server.line("shorter", X_Request_Timeout_Ms="1")
    )

    assert {
        "short": (504, "UpstreamTimeoutError"),
        "shorter": (504, "UpstreamTimeoutError"),
    } == whole.outcomes


async def test_the_deadline_of_one_line_does_not_affect_another(start_hop):
    hop = await start_hop("spsp-server", batch_lines="64")
    server = batch_server_of(hop)
    gate = asyncio.Event()

    async def after_the_first(seen: Seen) -> web.StreamResponse:
        await gate.wait()
        return await reply(200, {"amount": "1"})(seen)

    async def open_when_logged() -> None:
        await server.logged(1)
        gate.set()

    hop.next_hop.answer = after_the_first
    opening = asyncio.create_task(open_when_logged())
    whole = await server.batch(server.line("short", X_Request_Timeout_Ms="50"), server.line("long"))
    await opening

    assert [("short", 504), ("long", 200)] == [(each["id"], each["status"]) for each in whole.lines]
