"""Checks of a request before a service works on it, and their order (wire.md §4)."""

import asyncio
from dataclasses import replace

import pytest

from chassis.http import body, protocol
from support.client import is_error_object
from support.forwarders import EXECUTE, FORWARDERS, LOOK_UP, OPERATIONS, SOURCE, ClientRequest, Hop
from support.internals import fail_readiness, reject_new_requests
from support.messages import TRACE
from support.serving import Seen, reply

MAX_BODY_BYTES = 64 * 1024
READY = ClientRequest("GET", "/health/ready")


class Held:
    """A next hop that responds when the test says."""

    def __init__(self) -> None:
        self.received, self.go_on = asyncio.Event(), asyncio.Event()

    async def __call__(self, seen: Seen):
        self.received.set()
        await self.go_on.wait()
        return await reply(200, {})(seen)


def padded(hop: Hop, size: int) -> ClientRequest:
    """A reservation whose body has this size."""
    sent = hop.adapted(SOURCE)
    return replace(sent, body=sent.body + b" " * (size - len(sent.body)))


async def test_an_unknown_path_is_404(hop):
    for path in [
        "/",
        "/v1",
        "/v1/",
        "/v1/quotesourceamount",
        "/v1/quoteSourceAmount/",
        "//v1/quoteSourceAmount",
        "/v1//quoteSourceAmount",
        "/v1/./quoteSourceAmount",
        "/v1/x/../quoteSourceAmount",
        "/v1/%2e%2e/v1/quoteSourceAmount",
        "/v1%2FquoteSourceAmount",
        "/v1/quoteSourceAmount%00",
        "/v1/quoteSourceAmount;x",
        "/v2/quoteSourceAmount",
        "/v1/batch/x",
        "/health",
        "/metrics/",
        "/%ff%fe",
        "/%zz",
        "/..%5c..%5cetc",
    ]:
        [response] = await hop.send_bytes(hop.request_bytes(replace(SOURCE, path=path), adapt=False))

        assert (404, "NotFoundError") == (response.status, response.id), path
        assert is_error_object(response)
        assert [] == hop.next_hop.seen


async def test_a_path_with_too_many_or_too_few_segments_is_404(hop):
    for path in [
        "/v1/payments/",
        "/v1/payments/a/b",
        "/v1/quote/",
        "/v1/payments/x%2Fy/z",
        "/v1/payments/../quote/x/",
    ]:
        [response] = await hop.send_bytes(hop.request_bytes(replace(EXECUTE, path=path), adapt=False))

        assert 404 == response.status, path


async def test_another_method_is_405_with_the_allowed_ones(hop):
    for method, path, allowed in [
        ("GET", SOURCE.path, "POST"),
        ("PUT", SOURCE.path, "POST"),
        ("HEAD", SOURCE.path, "POST"),
        ("OPTIONS", SOURCE.path, "POST"),
        ("TRACE", SOURCE.path, "POST"),
        ("PATCH", SOURCE.path, "POST"),
        ("PROPFIND", SOURCE.path, "POST"),
        ("POST", EXECUTE.path, "PUT"),
        ("DELETE", EXECUTE.path, "PUT"),
        ("POST", LOOK_UP.path, "GET"),
        ("HEAD", LOOK_UP.path, "GET"),
        ("POST", "/health/live", "GET"),
    ]:
        sent = replace(SOURCE, method=method, path=path)
        [response] = await hop.send_bytes(hop.request_bytes(sent, adapt=False))

        assert 405 == response.status, (method, path)
        assert allowed in response.headers["Allow"]
        assert [] == hop.next_hop.seen


async def test_the_first_fault_in_the_order_of_checks_is_reported(start_hop, forwarder):
    """404, 405, 503, 401, 415, 413, headers, uuid, then query or body."""
    hop = await start_hop(forwarder, max_in_flight="1")
    wrong: dict[str, str | None] = {
        "Authorization": None,
        "Content_Type": "text/plain",
        "Idempotency_Key": "two words",
        "X_Request_Timeout_Ms": "0",
    }
    sent = ClientRequest("PATCH", "/v1/nothing", body=b"x" * (MAX_BODY_BYTES + 1))
    found = []

    async def status() -> None:
        response = await hop.send(sent, adapt=False, **wrong)
        found.append((response.status, response.id))

    hop.next_hop.answer = held = Held()
    in_flight = asyncio.create_task(hop.send())
    await held.received.wait()
    await status()
    sent = replace(sent, path="/v1/payments/1?x=1")
    await status()
    sent = replace(sent, method="PUT")
    await status()
    held.go_on.set()
    await in_flight
    await status()
    wrong["Authorization"] = "Basic dGVzdDoxMjM="
    await status()
    wrong["Content_Type"] = "application/json"
    await status()
    sent = replace(sent, body=b"[")
    await status()
    wrong["X_Request_Timeout_Ms"] = "1000"
    await status()
    sent = replace(sent, path=EXECUTE.path + "?x=1")
    await status()

    assert [
        (404, "NotFoundError"),
        (405, "MethodNotAllowedError"),
        (503, "UnavailableError"),
        (401, "UnauthorizedError"),
        (415, "UnsupportedMediaTypeError"),
        (413, "PayloadTooLargeError"),
        (400, "InvalidHeaderError"),
        (400, "InvalidUriParameterError"),
        (400, "InvalidQueryParameterError"),
    ] == found


async def test_a_method_is_checked_before_the_capacity(start_hop, forwarder):
    """For a small request, too: the protocol class answers it, and aiohttp the large one above."""
    hop = await start_hop(forwarder, max_in_flight="1")
    hop.next_hop.answer = held = Held()
    in_flight = asyncio.create_task(hop.send())
    await held.received.wait()
    response = await hop.send(ClientRequest("PATCH", EXECUTE.path), adapt=False)
    held.go_on.set()
    await in_flight

    assert (405, "MethodNotAllowedError") == (response.status, response.id)


async def test_an_idempotency_key_is_checked_before_the_body(reader):
    response = await reader.send(replace(SOURCE, body=b"["), adapt=False, Idempotency_Key="two words")

    assert "InvalidHeaderError" == response.id


async def test_json_a_form_and_no_content_type_are_read_as_json(hop):
    for given in [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json ; x=y",
        "application/x-www-form-urlencoded",
        None,
    ]:
        assert 200 == (await hop.send(Content_Type=given)).status, given


async def test_any_other_content_type_is_415(hop):
    for given in [
        "text/plain",
        "application/jsonp",
        "application/json, text/html",
        "application/problem+json",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "*/*",
        "json",
    ]:
        response = await hop.send(Content_Type=given)

        assert (415, "UnsupportedMediaTypeError") == (response.status, response.id), given
        assert [] == hop.next_hop.seen


async def test_a_browser_has_to_name_json(hop):
    """A form or a simple request from a foreign page needs no preflight, and must not move money."""
    for given in ["application/x-www-form-urlencoded", None, ""]:
        for origin in ["https://evil.example", "null", ""]:
            data = hop.request_bytes(SOURCE, Content_Type=given, Origin=None)
            data = data.replace(b"Connection:", f"Origin: {origin}\r\nConnection:".encode())
            [response] = await hop.send_bytes(data)

            assert 415 == response.status, (given, origin)
            assert [] == hop.next_hop.seen
    assert 200 == (await hop.send(Origin="https://friend.example")).status


async def test_two_content_types_are_400(hop):
    data = hop.request_bytes(SOURCE)
    data = data.replace(b"Connection:", b"Content-Type: application/json\r\nConnection:")
    [response] = await hop.send_bytes(data)

    assert (400, "InvalidHeaderError") == (response.status, response.id)
    assert [] == hop.next_hop.seen


async def test_any_content_encoding_is_415(hop):
    for given in ["gzip", "deflate", "br", "zstd", "identity", "x"]:
        [response] = await hop.send_bytes(hop.request_bytes(SOURCE, Content_Encoding=given))

        assert (415, "UnsupportedMediaTypeError") == (response.status, response.id), given
        assert [] == hop.next_hop.seen


def in_chunks(hop: Hop, body: bytes) -> bytes:
    head = hop.request_bytes(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
    )
    parts = [body[at : at + 1_000] for at in range(0, len(body), 1_000)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


async def test_a_body_has_at_most_64_kib(hop):
    longest, too_long = padded(hop, MAX_BODY_BYTES), padded(hop, MAX_BODY_BYTES + 1)
    accepted = await hop.send(longest, adapt=False)
    [accepted_in_chunks] = await hop.send_bytes(in_chunks(hop, longest.body))
    assert 2 == len(hop.next_hop.seen)
    rejected = await hop.send(too_long, adapt=False)
    [rejected_in_chunks] = await hop.send_bytes(in_chunks(hop, too_long.body))

    assert [200, 200] == [accepted.status, accepted_in_chunks.status]
    for response in (rejected, rejected_in_chunks):
        assert (413, "PayloadTooLargeError") == (response.status, response.id)
    assert 2 == len(hop.next_hop.seen)


async def test_a_content_length_over_the_limit_is_rejected_before_the_body_comes(hop):
    data = hop.request_bytes(replace(SOURCE, body=b""), adapt=False, Content_Length=str(10**9))

    assert 413 == (await hop.send_parts(data)).status


async def test_a_client_that_waits_for_100_continue_gets_it(hop):
    interim, response = await hop.send_bytes(hop.request_bytes(SOURCE, Expect="100-continue"))

    assert (100, 200) == (interim.status, response.status)


async def test_a_rejected_request_gets_no_100_continue(hop):
    """The only response comes without the body having been sent."""
    for status, wrong in [
        (401, {"Authorization": None}),
        (415, {"Content_Type": "text/plain"}),
        (413, {"Content_Length": str(MAX_BODY_BYTES + 1)}),
    ]:
        data = hop.request_bytes(
            replace(SOURCE, body=b""), adapt=False, Expect="100-continue", **{"Content_Length": "400"} | wrong
        )

        assert status == (await hop.send_parts(data)).status


async def test_any_other_expectation_is_417(hop):
    for given in ["nonsense", "200-ok", "100-continue, x", "100-continue2"]:
        for operation in ["source", "destination", "execute"]:
            response = await hop.send(OPERATIONS[operation], Expect=given)

            assert (417, "ExpectationFailedError") == (response.status, response.id), given
            assert [] == hop.next_hop.seen


async def test_credentials_are_checked_before_expectations(hop):
    assert 401 == (await hop.send(Expect="nonsense", Authorization=None)).status


async def test_an_unknown_path_comes_before_expectations(hop):
    response = await hop.send(ClientRequest("GET", "/nothing"), adapt=False, Expect="nonsense")

    assert (404, "NotFoundError") == (response.status, response.id)
    assert is_error_object(response)


async def test_a_method_is_checked_before_expectations(hop):
    response = await hop.send(ClientRequest("DELETE", SOURCE.path), adapt=False, Expect="nonsense")

    assert (405, "MethodNotAllowedError") == (response.status, response.id)


async def test_a_body_that_does_not_come_is_408(hop, monkeypatch):
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)

    response = await hop.send_parts(hop.request_bytes(SOURCE)[:-10])

    assert (408, "RequestTimeoutError") == (response.status, response.id)
    assert is_error_object(response)
    assert [] == hop.next_hop.seen


async def test_a_body_that_does_not_come_is_408_after_the_deadline_too(hop, monkeypatch):
    """Nothing was asked of the next hop, so that the outcome is not unknown."""
    monkeypatch.setattr(protocol, "WHOLE_SECONDS", 0.01)
    monkeypatch.setattr(body, "BODY_SECONDS", 1.5)

    response = await hop.send_parts(hop.request_bytes(SOURCE, X_Request_Timeout_Ms="1000")[:-10])

    assert (408, "RequestTimeoutError") == (response.status, response.id)
    assert [] == hop.next_hop.seen


async def test_a_body_that_comes_after_the_deadline_is_504(hop, monkeypatch):
    monkeypatch.setattr(protocol, "WHOLE_SECONDS", 0.01)
    data = hop.request_bytes(SOURCE, X_Request_Timeout_Ms="1000")

    response = await hop.send_parts(data[:-10], data[-10:], pause=1.2)

    assert (504, "UpstreamTimeoutError") == (response.status, response.id)
    assert [] == hop.next_hop.seen


async def test_the_time_for_a_body_is_for_all_of_it(hop, monkeypatch):
    """Not for each byte."""
    monkeypatch.setattr(body, "BODY_SECONDS", 0.2)
    data = hop.request_bytes(SOURCE)
    begin = data.index(b"\r\n\r\n") + 4
    bytes_of_body = (data[at : at + 1] for at in range(begin, begin + 8))

    response = await hop.send_parts(data[:begin], *bytes_of_body, pause=0.05)

    assert (408, "RequestTimeoutError") == (response.status, response.id)


async def test_a_service_at_capacity_responds_503_and_serves_on(start_hop, forwarder):
    hop = await start_hop(forwarder, max_in_flight="1")
    hop.next_hop.answer = held = Held()
    first = asyncio.create_task(hop.send())
    await held.received.wait()
    rejected = await hop.send()
    ready = await hop.send(READY, adapt=False)
    held.go_on.set()

    assert (503, "UnavailableError") == (rejected.status, rejected.id)
    assert int(rejected.headers["Retry-After"]) > 0
    assert 200 == ready.status
    assert 200 == (await first).status
    assert 200 == (await hop.send()).status


async def test_a_service_that_shuts_down_accepts_no_new_request(start_hop, forwarder):
    hop = await start_hop(forwarder)
    fail_readiness(hop.app)
    still_serving = await hop.send()
    reject_new_requests(hop.app)
    rejected = await hop.send()
    ready = await hop.send(READY, adapt=False)

    assert (200, "close") == (still_serving.status, still_serving.headers["Connection"])
    assert (503, "UnavailableError") == (rejected.status, rejected.id)
    assert int(rejected.headers["Retry-After"]) > 0
    assert [None] == [event["caller"] for event in hop.log.events if event["status"] == 503]
    assert 503 == ready.status
    assert ready.json["missing"]


NO_UUIDS = ["1", "x" * 36, "110ec58aa0f24ac48393c866d813b8d1", "110ec58a-a0f2-4ac4-8393-c866d813b8d1%0a",
    "110ec58a-a0f2-4ac4-8393-c866d813b8d1%00", "110ec58a-a0f2-4ac4-8393-c866d813b8dg",
    "%D9%A1%D9%A1%D9%A00ec58a-a0f2-4ac4-8393-c866d813b8d1", "..%2f..%2fadmin"]  # fmt: skip


async def test_a_uuid_is_8_4_4_4_12_hex_digits(hop):
    for uuid in NO_UUIDS:
        for operation in [EXECUTE, LOOK_UP]:
            path = operation.path.rpartition("/")[0] + "/" + uuid
            response = await hop.send(replace(hop.adapted(operation), path=path), adapt=False)

            assert (400, "InvalidUriParameterError") == (response.status, response.id), uuid
            assert [] == hop.next_hop.seen


def keys_at_fault(response) -> list[str]:
    return [fault["params"]["key"] for fault in response.json["validationErrors"]]


async def test_an_unknown_query_parameter_is_named(hop):
    for added, key in [
        ("x=1", "x"),
        ("identifier=1&identifier=1", "identifier"),
        ("callback", "callback"),
        ("=", ""),
        ("%00=1", "\x00"),
    ]:
        for operation in OPERATIONS.values():
            query = f"{operation.query}&{added}" if operation.query else added
            response = await hop.send(replace(hop.adapted(operation), query=query), adapt=False)

            assert (400, "InvalidQueryParameterError") == (response.status, response.id), added
            assert key in keys_at_fault(response)
            assert [] == hop.next_hop.seen


async def test_a_query_parameter_is_printable_text(hop):
    for value in ["%00", "%0a", "%7f", "%c2%85", "%ff", "%ed%a0%80", "a%0d%0aX-A:b"]:
        query = f"identifierType=eur&identifier={value}"
        response = await hop.send(replace(hop.adapted(LOOK_UP), query=query), adapt=False)

        assert (400, "InvalidQueryParameterError") == (response.status, response.id), value
        assert ["identifier"] == keys_at_fault(response)
        assert [] == hop.next_hop.seen


async def test_too_many_query_parameters_are_400(hop):
    query = "&".join("a=1" for _ in range(2_000))
    response = await hop.send(replace(LOOK_UP, query=query), adapt=False)

    assert (400, "InvalidQueryParameterError") == (response.status, response.id)


async def test_health_metrics_and_openapi_need_no_credentials(hop):
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"]:
        response = await hop.send(ClientRequest("GET", path), adapt=False, Authorization=None)

        assert 200 == response.status, path
        assert response.headers[TRACE]
        assert [] == hop.next_hop.seen + hop.directory.seen


@pytest.mark.parametrize("name", FORWARDERS)
async def test_metrics_count_requests_by_route_and_status(start_hop, name):
    hop = await start_hop(name)
    await hop.send(LOOK_UP)
    await hop.send(ClientRequest("GET", "/some/odd/path"), adapt=False)

    text = (await hop.send(ClientRequest("GET", "/metrics"), adapt=False)).body.decode()
    assert 'requests_total{method="GET",route="/v1/quote/{uuid}",status="200"} 1.0' in text
    assert 'requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "/some/odd/path" not in text
