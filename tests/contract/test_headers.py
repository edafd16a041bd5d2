"""The headers of wire.md §3, the same at every hop."""

import re
from dataclasses import replace

import pytest

from quoting.call import Call, Operation
from support.client import is_error_object
from support.forwarders import DESTINATION, EXECUTE, LOOK_UP, OPERATIONS, SOURCE, ClientRequest
from support.messages import KEY, TRACE
from support.scripted_server import unused_url
from support.serving import reply

TIMEOUT = "X-Request-Timeout-Ms"
LIFETIME = "X-Quote-Lifetime-Ms"
A_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

UNKNOWN = ClientRequest("GET", "/v2/nothing")
NO_OPERATIONS = {
    "404": UNKNOWN,
    "405": ClientRequest("DELETE", "/v1/quoteSourceAmount"),
    "400": replace(EXECUTE, path="/v1/payments/1"),
    "live": ClientRequest("GET", "/health/live"),
    "ready": ClientRequest("GET", "/health/ready"),
    "metrics": ClientRequest("GET", "/metrics"),
    "openapi": ClientRequest("GET", "/openapi.json"),
}


async def test_a_request_without_a_trace_id_gets_one(hop):
    for operation in OPERATIONS.values():
        response = await hop.send(operation)

        assert A_UUID.match(response.headers[TRACE])
        assert response.headers[TRACE] == hop.next_hop.seen[-1].headers[TRACE]


async def test_a_clients_trace_id_is_kept(hop):
    for given in ["a", "A-z_0.9", "x" * 64]:
        response = await hop.send(L1p_Trace_Id=given)

        assert given == response.headers[TRACE] == hop.next_hop.seen[-1].headers[TRACE]


async def test_an_invalid_trace_id_is_replaced(hop):
    for given in ["", "x" * 65, "a b", "a/b", "ä", "a,b", "${jndi:x}"]:
        response = await hop.send(L1p_Trace_Id=given)

        assert A_UUID.match(response.headers[TRACE]), given
        assert response.headers[TRACE] == hop.next_hop.seen[-1].headers[TRACE]
    twice = b"L1p-Trace-Id: a\r\nL1p-Trace-Id: b\r\nConnection:"
    [response] = await hop.send_bytes(hop.request_bytes(LOOK_UP).replace(b"Connection:", twice))

    assert A_UUID.match(response.headers[TRACE])


async def test_every_response_has_the_trace_id(hop):
    for name, sent in NO_OPERATIONS.items():
        response = await hop.send(sent, adapt=False, L1p_Trace_Id="mine")

        assert "mine" == response.headers[TRACE], name
        assert A_UUID.match((await hop.send(sent, adapt=False)).headers[TRACE]), name


async def test_an_error_has_the_trace_id_in_header_and_body(hop):
    response = await hop.send(Authorization=None, L1p_Trace_Id="mine")

    assert "mine" == response.headers[TRACE] == response.json["traceId"]
    assert hop.service == response.json["service"]


async def test_the_response_to_malformed_http_has_a_trace_id_too(hop):
    [response] = await hop.send_bytes(b"nonsense\r\n\r\n")

    assert 400 == response.status
    assert A_UUID.match(response.headers[TRACE])
    assert is_error_object(response)


async def test_a_request_with_an_expectation_at_an_unknown_path_keeps_its_trace_id(hop):
    response = await hop.send(UNKNOWN, adapt=False, Expect="nonsense", L1p_Trace_Id="mine")

    assert (404, "NotFoundError") == (response.status, response.id)
    assert "mine" == response.headers[TRACE] == response.json["traceId"]


async def test_a_reservation_without_an_idempotency_key_gets_one(hop):
    for operation in [SOURCE, DESTINATION]:
        response = await hop.send(operation)

        key = response.headers[KEY]
        assert re.fullmatch(r"[!-~]{16,128}", key)
        assert key == hop.next_hop.seen[-1].headers[KEY]
        assert key != (await hop.send(operation)).headers[KEY]


async def test_a_clients_key_is_kept(hop):
    for given in ["k", "!~", "x" * 128]:
        response = await hop.send(Idempotency_Key=given)

        assert given == response.headers[KEY] == hop.next_hop.seen[-1].headers[KEY]


async def test_an_invalid_key_is_400(hop):
    twice = f"{KEY}: a\r\n{KEY}: a\r\nConnection:"
    lines = [f"{KEY}: {given}\r\nConnection:" for given in ["", "x" * 129, "a b", "ä", "a\tb", "\x7f"]]
    for line in [*lines, twice]:
        data = hop.request_bytes(SOURCE).replace(b"Connection:", line.encode())
        [response] = await hop.send_bytes(data)

        assert (400, "InvalidHeaderError") == (response.status, response.id), line
        assert [] == hop.next_hop.seen


async def test_a_key_is_ignored_where_nothing_is_reserved(hop):
    for operation in [EXECUTE, LOOK_UP]:
        for given in ["mine", "two words"]:
            response = await hop.send(operation, Idempotency_Key=given)

            assert 200 == response.status
            assert KEY not in response.headers
            assert KEY not in hop.next_hop.seen[-1].headers


async def test_every_rejection_of_a_reservation_has_the_key(hop):
    for given in [None, "mine"]:
        for status, wrong in [
            (401, {"Authorization": None}),
            (415, {"Content_Type": "text/plain"}),
            (417, {"Expect": "nonsense"}),
            (400, {"X_Request_Timeout_Ms": "x"}),
        ]:
            response = await hop.send(Idempotency_Key=given, **wrong)

            assert status == response.status
            assert response.headers[KEY]
            assert given in {None, response.headers[KEY]}
    too_large = replace(SOURCE, body=b" " * (64 * 1024 + 1))
    response = await hop.send(too_large, adapt=False, Idempotency_Key="mine")

    assert (413, "mine") == (response.status, response.headers[KEY])


async def test_the_rejection_of_a_body_has_the_key(reader):
    response = await reader.send(replace(SOURCE, body=b"[]"), adapt=False, Idempotency_Key="mine")

    assert (400, "mine") == (response.status, response.headers[KEY])


async def test_an_unreachable_next_hop_does_not_lose_the_key(start_hop, forwarder):
    hop = await start_hop(forwarder, next_url=unused_url())

    response = await hop.send()

    assert 502 == response.status
    assert response.headers[KEY]


async def test_the_next_hops_own_key_and_trace_id_do_not_come_back(hop):
    """Each service returns its own: the two are equal unless a hop is broken."""
    hop.next_hop.answer = reply(200, {}, L1p_Trace_Id="theirs", Idempotency_Key="theirs")

    response = await hop.send(L1p_Trace_Id="mine", Idempotency_Key="own")

    assert ["mine"] == response.headers.getall(TRACE)
    assert ["own"] == response.headers.getall(KEY)


async def test_the_next_hops_key_does_not_come_back_with_a_response_that_passes(hop):
    """A response with another trace id never passes: it belongs to another request."""
    hop.next_hop.answer = reply(200, {}, Idempotency_Key="theirs", Retry_After="1")

    response = await hop.send(Idempotency_Key="own")

    assert 200 == response.status
    assert ["own"] == response.headers.getall(KEY)


async def test_the_time_left_is_reduced_and_at_most_a_minute(hop):
    for given, low, high in [
        (None, 9_000, 10_000),
        ("5000", 4_000, 4_999),
        ("1500", 500, 1_499),
        ("60000", 59_000, 59_999),
        ("60001", 59_000, 59_999),
        ("999999999999999999", 59_000, 59_999),
        ("0007000", 6_000, 6_999),
    ]:
        response = await hop.send(X_Request_Timeout_Ms=given)

        assert 200 == response.status, given
        assert low <= int(hop.next_hop.seen[-1].headers[TIMEOUT]) <= high, given


@pytest.mark.parametrize(
    ("left_seconds", "passed_ms"),
    [
        (10.0005, 9_990),
        (1.0005, 990),
        (0.8005, 792),
        (0.1005, 99),
        (0.0995, 99),
        (0.0015, 1),
        (-1.0, 1),
        (99.0, 60_000),
    ],
)
def test_a_hop_keeps_a_hundredth_of_the_time_to_pass_on_who_did_not_answer(left_seconds, passed_ms):
    call = Call(Operation.LOOK_UP, "test", "Basic eDp5", "t", deadline=1_000 + left_seconds)

    assert str(passed_ms) == call.headers(1_000)[TIMEOUT]


async def test_an_invalid_time_is_400(hop):
    for given in ["", "0", "000", "-1", "+5", "1.5", "1e3", "5 s", "0x10", "٣", "1_000"]:
        for operation in [SOURCE, LOOK_UP]:
            response = await hop.send(operation, X_Request_Timeout_Ms=given)

            assert (400, "InvalidHeaderError") == (response.status, response.id), given
    twice = f"{TIMEOUT}: 9\r\n{TIMEOUT}: 9\r\nConnection:".encode()
    [response] = await hop.send_bytes(hop.request_bytes(LOOK_UP).replace(b"Connection:", twice))

    assert (400, "InvalidHeaderError") == (response.status, response.id)
    assert [] == hop.next_hop.seen


async def test_a_valid_traceparent_goes_on(hop):
    await hop.send(traceparent=TRACEPARENT)

    assert TRACEPARENT == hop.next_hop.seen[0].headers["traceparent"]


async def test_an_invalid_traceparent_goes_no_further(hop):
    for given in ["", "x", "00-0af7-b7ad-01", "ä"]:
        assert 200 == (await hop.send(traceparent=given)).status
        assert "traceparent" not in hop.next_hop.seen[-1].headers, given


async def test_the_directory_receives_the_traceparent_too(proxy):
    await proxy.send(traceparent=TRACEPARENT)

    assert TRACEPARENT == proxy.directory.seen[0].headers["traceparent"]


async def test_a_response_names_its_service_and_no_software(hop):
    for response in (await hop.send(), await hop.send(UNKNOWN, adapt=False)):
        assert hop.service == response.headers["Server"]


async def test_the_lifetime_of_a_reservation_is_passed_on_and_no_other_operation_has_one(hop):
    for given, passed_on in [("1", "1"), ("86400000", "86400000"), ("007", "7")]:
        for operation in (SOURCE, DESTINATION):
            assert 200 == (await hop.send(operation, X_Quote_Lifetime_Ms=given)).status
            assert passed_on == hop.next_hop.seen[-1].headers[LIFETIME]
    for operation in OPERATIONS.values():
        assert LIFETIME not in (await sent_on(hop, operation)).headers
    for operation in (EXECUTE, LOOK_UP):
        assert LIFETIME not in (await sent_on(hop, operation, X_Quote_Lifetime_Ms="5")).headers


async def sent_on(hop, operation, **headers):
    await hop.send(operation, **headers)
    return hop.next_hop.seen[-1]


async def test_a_malformed_lifetime_is_refused_before_the_body_is_looked_at(hop):
    for given in ["", "0", "-1", "1.5", "1,2", "x", "٣", "1" * 17]:
        response = await hop.send(replace(SOURCE, body=b"{"), X_Quote_Lifetime_Ms=given)

        assert (400, "InvalidHeaderError") == (response.status, response.json["id"]), given
        assert LIFETIME in response.json["message"]


async def test_a_malformed_lifetime_is_refused_before_the_query_is_looked_at(hop):
    for lifetime, error in [("x", "InvalidHeaderError"), ("1", "InvalidQueryParameterError")]:
        response = await hop.send(replace(SOURCE, query="x=1"), X_Quote_Lifetime_Ms=lifetime)

        assert (400, error) == (response.status, response.json["id"])
