"""The headers of wire.md §3, the same at every hop."""

import re
from dataclasses import replace

import pytest

from support.forwarders import (
    ASKS,
    DESTINATION,
    EXECUTE,
    LOOK_UP,
    SOURCE,
    Ask,
    hop_of,
    is_error_object,
)
from support.messages import KEY, TRACE
from support.serving import reply
from support.sockets import unused_url

TIMEOUT = "X-Request-Timeout-Ms"
A_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")

UNKNOWN = Ask("GET", "/v2/nothing")
WRONG_METHOD = Ask("DELETE", "/v1/quoteSourceAmount")
LIVE, READY = Ask("GET", "/health/live"), Ask("GET", "/health/ready")
METRICS, DOCUMENT = Ask("GET", "/metrics"), Ask("GET", "/openapi.json")


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
async def test_a_trace_id_is_made_where_there_is_none(hop, ask):
    answer = await hop.send(ask)

    assert A_UUID.match(answer.headers[TRACE])
    assert answer.headers[TRACE] == hop.next_hop.seen[0].headers[TRACE]


@pytest.mark.parametrize("given", ["a", "A-z_0.9", "x" * 64])
async def test_a_callers_own_trace_id_is_kept(hop, given):
    answer = await hop.send(L1p_Trace_Id=given)

    assert given == answer.headers[TRACE] == hop.next_hop.seen[0].headers[TRACE]


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "a/b", "ä", "a,b", "${jndi:x}"])
async def test_a_trace_id_that_is_none_is_replaced(hop, given):
    answer = await hop.send(L1p_Trace_Id=given)

    assert A_UUID.match(answer.headers[TRACE])
    assert answer.headers[TRACE] == hop.next_hop.seen[0].headers[TRACE]


async def test_two_trace_ids_are_none(hop):
    data = hop.written(LOOK_UP).replace(b"Connection:", b"L1p-Trace-Id: a\r\nL1p-Trace-Id: b\r\nConnection:")

    [answer] = await hop.raw(data)

    assert A_UUID.match(answer.headers[TRACE])


@pytest.mark.parametrize(
    "ask",
    [UNKNOWN, WRONG_METHOD, replace(EXECUTE, path="/v1/payments/1"), LIVE, READY, METRICS, DOCUMENT],
    ids=["404", "405", "400", "live", "ready", "metrics", "openapi"],
)
async def test_every_reply_has_the_trace_id(hop, ask):
    answer = await hop.send(ask, adapt=False, L1p_Trace_Id="mine")

    assert "mine" == answer.headers[TRACE]
    assert A_UUID.match((await hop.send(ask, adapt=False)).headers[TRACE])


async def test_a_refusal_has_the_trace_id_in_header_and_body(hop):
    answer = await hop.send(Authorization=None, L1p_Trace_Id="mine")

    assert "mine" == answer.headers[TRACE] == answer.json["traceId"]
    assert hop.service == answer.json["service"]


async def test_malformed_http_has_a_trace_id_too(hop):
    [answer] = await hop.raw(b"nonsense\r\n\r\n")

    assert 400 == answer.status
    assert A_UUID.match(answer.headers[TRACE])
    assert is_error_object(answer)


async def test_an_expectation_refused_at_an_unknown_path_keeps_the_trace_id(hop):
    """Aiohttp looks at Expect before any middleware there."""
    answer = await hop.send(UNKNOWN, adapt=False, Expect="nonsense", L1p_Trace_Id="mine")

    assert (417, "ExpectationFailedError") == (answer.status, answer.id)
    assert "mine" == answer.headers[TRACE] == answer.json["traceId"]


@pytest.mark.parametrize("ask", [SOURCE, DESTINATION], ids=["source", "destination"])
async def test_an_idempotency_key_is_made_passed_on_and_told(hop, ask):
    answer = await hop.send(ask)

    key = answer.headers[KEY]
    assert re.fullmatch(r"[!-~]{16,128}", key)
    assert key == hop.next_hop.seen[0].headers[KEY]
    assert key != (await hop.send(ask)).headers[KEY]


@pytest.mark.parametrize("given", ["k", "!~", "x" * 128])
async def test_a_callers_own_key_is_kept(hop, given):
    answer = await hop.send(Idempotency_Key=given)

    assert given == answer.headers[KEY] == hop.next_hop.seen[0].headers[KEY]


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "ä", "a\tb", "\x7f"])
async def test_a_key_that_is_none_is_refused(hop, given):
    [answer] = await hop.raw(
        hop.written(SOURCE).replace(b"Connection:", f"{KEY}: {given}\r\nConnection:".encode())
    )

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


async def test_a_key_given_twice_is_refused(hop):
    [answer] = await hop.raw(
        hop.written(SOURCE).replace(b"Connection:", f"{KEY}: a\r\n{KEY}: a\r\nConnection:".encode())
    )

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize("ask", [EXECUTE, LOOK_UP], ids=["execute", "look_up"])
@pytest.mark.parametrize("given", ["mine", "not one"])
async def test_a_key_is_ignored_where_nothing_is_reserved(hop, ask, given):
    answer = await hop.send(ask, Idempotency_Key=given)

    assert 200 == answer.status
    assert KEY not in answer.headers
    assert KEY not in hop.next_hop.seen[0].headers


@pytest.mark.parametrize("given", [None, "mine"])
@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (401, {"Authorization": None}),
        (415, {"Content_Type": "text/plain"}),
        (417, {"Expect": "nonsense"}),
        (400, {"X_Request_Timeout_Ms": "x"}),
    ],
)
async def test_every_refusal_of_a_reservation_tells_the_key(hop, given, status, wrong):
    answer = await hop.send(Idempotency_Key=given, **wrong)

    assert status == answer.status
    assert answer.headers[KEY]
    assert given in {None, answer.headers[KEY]}


async def test_a_refused_body_tells_the_key(reader):
    answer = await reader.send(replace(SOURCE, body=b"[]"), adapt=False, Idempotency_Key="mine")

    assert (400, "mine") == (answer.status, answer.headers[KEY])


async def test_a_body_too_large_tells_the_key(hop):
    answer = await hop.send(replace(SOURCE, body=b" " * (64 * 1024 + 1)), adapt=False, Idempotency_Key="mine")

    assert (413, "mine") == (answer.status, answer.headers[KEY])


async def test_an_unreachable_next_hop_does_not_lose_the_key(forwarder, users_file, client):
    async with hop_of(forwarder, users_file, client, next_url=unused_url()) as hop:
        answer = await hop.send()

        assert 502 == answer.status
        assert answer.headers[KEY]


async def test_the_next_hops_own_key_and_trace_id_are_not_passed_back(hop):
    """Each service tells the caller what it knows itself: the two are equal unless a hop is broken."""
    hop.next_hop.answer = reply(200, {}, L1p_Trace_Id="theirs", Idempotency_Key="theirs")

    answer = await hop.send(L1p_Trace_Id="mine", Idempotency_Key="own")

    assert ["mine"] == answer.headers.getall(TRACE)
    assert ["own"] == answer.headers.getall(KEY)


async def test_the_time_left_is_ten_seconds_where_nobody_said(hop):
    await hop.send()

    assert 9_000 < int(hop.next_hop.seen[0].headers[TIMEOUT]) <= 10_000


@pytest.mark.parametrize(
    ("given", "least", "most"),
    [
        ("5000", 4_000, 4_999),
        ("1500", 500, 1_499),
        ("60000", 59_000, 59_999),
        ("60001", 59_000, 59_999),
        ("999999999999999999", 59_000, 59_999),
        ("0007000", 6_000, 6_999),
    ],
)
async def test_the_time_left_is_reduced_and_at_max_a_minute(hop, given, least, most):
    await hop.send(X_Request_Timeout_Ms=given)

    assert least <= int(hop.next_hop.seen[0].headers[TIMEOUT]) <= most


async def test_a_time_that_is_none_is_refused(hop):
    for given in ["", "0", "000", "-1", "+5", "1.5", "1e3", "5 s", "0x10", "٣", "1_000"]:
        for ask in [SOURCE, LOOK_UP]:
            answer = await hop.send(ask, X_Request_Timeout_Ms=given)

            assert (400, "InvalidHeaderError") == (answer.status, answer.id)
            assert [] == hop.next_hop.seen


async def test_a_time_given_twice_is_refused(hop):
    [answer] = await hop.raw(
        hop.written(LOOK_UP).replace(b"Connection:", f"{TIMEOUT}: 9\r\n{TIMEOUT}: 9\r\nConnection:".encode())
    )

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)


async def test_the_trace_context_goes_on(hop):
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await hop.send(traceparent=given)

    assert given == hop.next_hop.seen[0].headers["traceparent"]


@pytest.mark.parametrize("given", ["", "x", "00-0af7-b7ad-01", "ä"])
async def test_a_trace_context_that_is_none_goes_no_further(hop, given):
    assert 200 == (await hop.send(traceparent=given)).status
    assert "traceparent" not in hop.next_hop.seen[0].headers


async def test_the_directory_gets_the_trace_context_too(proxy):
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    await proxy.send(traceparent=given)

    assert given == proxy.directory.seen[0].headers["traceparent"]


async def test_a_reply_names_its_service_and_no_software(hop):
    for answer in (await hop.send(), await hop.send(UNKNOWN, adapt=False)):
        assert hop.service == answer.headers["Server"]
