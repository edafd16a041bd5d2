"""What a service refuses before it works, and in which order (wire.md §4)."""

import asyncio
from dataclasses import replace

import pytest

from chassis import content
from chassis.app import SERVICE
from support.forwarders import ASKS, EXECUTE, LOOK_UP, SOURCE, Ask, is_error_object
from support.messages import TRACE
from support.serving import reply

MOST = 64 * 1024
BAD_UUID = replace(EXECUTE, path="/v1/payments/110ec58a")


def padded(hop, size: int) -> Ask:
    """A reservation of just this size."""
    ask = hop.adapted(SOURCE)
    return replace(ask, body=ask.body + b" " * (size - len(ask.body)))


async def test_a_path_that_is_none_of_ours_is_404(hop):
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
        [answer] = await hop.raw(hop.written(replace(SOURCE, path=path), adapt=False))

        assert (404, "NotFoundError") == (answer.status, answer.id)
        assert is_error_object(answer)
        assert [] == hop.next_hop.seen


@pytest.mark.parametrize(
    "path",
    ["/v1/payments/", "/v1/payments/a/b", "/v1/quote/", "/v1/payments/x%2Fy/z", "/v1/payments/../quote/x/"],
)
async def test_a_path_with_too_much_or_too_little_behind_it_is_404(hop, path):
    [answer] = await hop.raw(hop.written(replace(EXECUTE, path=path), adapt=False))

    assert 404 == answer.status


async def test_another_method_is_405_and_told_which_is_right(hop):
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
        [answer] = await hop.raw(hop.written(replace(SOURCE, method=method, path=path), adapt=False))

        assert 405 == answer.status
        assert allowed in answer.headers["Allow"]
        assert [] == hop.next_hop.seen


async def test_each_fault_hides_all_that_come_after_it(hop_to, forwarder):
    """404, 405, 503, 401, 429, 415, 413, headers, uuid, then query or body."""
    hop = await hop_to(forwarder, max_in_flight="1")
    too_large = b"x" * (MOST + 1)
    wrong: dict[str, str | None] = {
        "Authorization": None,
        "Content_Type": "text/plain",
        "Idempotency_Key": "two words",
        "X_Request_Timeout_Ms": "0",
    }
    ask = Ask("PATCH", "/v1/nothing", body=too_large)
    found = []

    async def status(**right: str) -> None:
        answer = await hop.send(ask, adapt=False, **(wrong | right))
        found.append((answer.status, answer.id))

    service = hop.app[SERVICE]
    service.in_hand = 1
    await status()
    ask = replace(ask, path="/v1/payments/1?x=1")
    await status()
    ask = replace(ask, method="PUT")
    await status()
    service.in_hand = 0
    await status()
    wrong["Authorization"] = "Basic dGVzdDoxMjM="
    await status()
    wrong["Content_Type"] = "application/json"
    await status()
    ask = replace(ask, body=b"[")
    await status()
    wrong["X_Request_Timeout_Ms"] = "1000"
    await status()
    ask = replace(ask, path=EXECUTE.path + "?x=1")
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


async def test_a_reservations_key_is_looked_at_before_its_body(reader):
    answer = await reader.send(replace(SOURCE, body=b"["), adapt=False, Idempotency_Key="two words")

    assert "InvalidHeaderError" == answer.id


@pytest.mark.parametrize(
    "given",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/json ; x=y",
        "application/x-www-form-urlencoded",
        None,
    ],
)
async def test_these_content_types_are_read_as_json(hop, given):
    assert 200 == (await hop.send(Content_Type=given)).status


@pytest.mark.parametrize(
    "given",
    [
        "text/plain",
        "application/jsonp",
        "application/json, text/html",
        "application/problem+json",
        "multipart/form-data; boundary=x",
        "application/json; charset=latin-1",
        "application/json; charset=utf-16",
        "*/*",
        "json",
    ],
)
async def test_any_other_content_type_is_415(hop, given):
    answer = await hop.send(Content_Type=given)

    assert (415, "UnsupportedMediaTypeError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize("given", ["application/x-www-form-urlencoded", None, ""])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", ""])
async def test_a_browser_must_say_json(hop, given, origin):
    """A form or a simple request from a foreign page needs no preflight: it must not move money."""
    data = hop.written(SOURCE, Content_Type=given, Origin=None)
    [answer] = await hop.raw(data.replace(b"Connection:", f"Origin: {origin}\r\nConnection:".encode()))

    assert 415 == answer.status
    assert [] == hop.next_hop.seen


async def test_a_browser_that_says_json_is_heard(hop):
    assert 200 == (await hop.send(Origin="https://friend.example")).status


async def test_two_content_types_are_malformed(hop):
    data = hop.written(SOURCE)
    [answer] = await hop.raw(data.replace(b"Connection:", b"Content-Type: application/json\r\nConnection:"))

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize("given", ["gzip", "deflate", "br", "zstd", "identity", "x"])
async def test_any_content_encoding_is_415(hop, given):
    [answer] = await hop.raw(hop.written(SOURCE, Content_Encoding=given))

    assert (415, "UnsupportedMediaTypeError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


async def test_a_body_of_64_kib_is_taken(hop):
    assert 200 == (await hop.send(padded(hop, MOST), adapt=False)).status


async def test_one_byte_more_is_413(hop):
    answer = await hop.send(padded(hop, MOST + 1), adapt=False)

    assert (413, "PayloadTooLargeError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


def in_chunks(hop, body: bytes, size: int = 1_000, end: bytes = b"0\r\n\r\n", **more: str) -> bytes:
    head = hop.written(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked", **more
    )
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return head + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


async def test_a_body_in_chunks_is_taken_and_limited_alike(hop):
    [taken] = await hop.raw(in_chunks(hop, padded(hop, MOST).body))
    [refused] = await hop.raw(in_chunks(hop, padded(hop, MOST + 1).body))

    assert 200 == taken.status
    assert (413, "PayloadTooLargeError") == (refused.status, refused.id)
    assert 1 == len(hop.next_hop.seen)


async def test_a_length_that_is_too_long_is_refused_before_the_body_comes(hop):
    data = hop.written(replace(SOURCE, body=b""), adapt=False, Content_Length=str(10**9))

    answer = await hop.first(data)

    assert 413 == answer.status


async def test_a_caller_that_waits_to_be_asked_is_asked(hop):
    interim, answer = await hop.raw(hop.written(SOURCE, Expect="100-continue"))

    assert (100, 200) == (interim.status, answer.status)


@pytest.mark.parametrize(
    ("status", "wrong"),
    [
        (401, {"Authorization": None}),
        (415, {"Content_Type": "text/plain"}),
        (413, {"Content_Length": str(MOST + 1)}),
    ],
)
async def test_nobody_is_asked_for_a_body_that_is_refused(hop, status, wrong):
    """The one answer comes without the body having been sent."""
    data = hop.written(
        replace(SOURCE, body=b""), adapt=False, Expect="100-continue", **{"Content_Length": "400"} | wrong
    )

    answer = await hop.first(data)

    assert status == answer.status


@pytest.mark.parametrize("given", ["nonsense", "200-ok", "100-continue, x", "100-continue2"])
async def test_any_other_expectation_is_417(hop, given):
    for operation in ["source", "destination", "execute"]:
        answer = await hop.send(ASKS[operation], Expect=given)

        assert (417, "ExpectationFailedError") == (answer.status, answer.id)
        assert [] == hop.next_hop.seen


async def test_credentials_come_before_expectations(hop):
    assert 401 == (await hop.send(Expect="nonsense", Authorization=None)).status


async def test_an_expectation_at_an_unknown_path_gets_an_error_object_too(hop):
    answer = await hop.send(Ask("GET", "/nothing"), adapt=False, Expect="nonsense")

    assert (417, "ExpectationFailedError") == (answer.status, answer.id)
    assert is_error_object(answer)


async def test_a_wrong_method_comes_before_expectations(hop):
    answer = await hop.send(Ask("DELETE", SOURCE.path), adapt=False, Expect="nonsense")

    assert (405, "MethodNotAllowedError") == (answer.status, answer.id)


async def test_a_body_that_does_not_come_is_408(hop, monkeypatch):
    monkeypatch.setattr(content, "BODY_SECONDS", 0.05)

    answer = await hop.first(hop.written(SOURCE)[:-10])

    assert (408, "RequestTimeoutError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen


async def test_a_body_that_comes_by_the_byte_is_408_too(hop, monkeypatch):
    """The time is for the whole body, not for the next byte."""
    monkeypatch.setattr(content, "BODY_SECONDS", 0.2)
    data = hop.written(SOURCE)
    begin = data.index(b"\r\n\r\n") + 4

    answer = await hop.first(data[:begin], *(data[at : at + 1] for at in range(begin, begin + 8)), pause=0.05)

    assert (408, "RequestTimeoutError") == (answer.status, answer.id)


async def test_what_is_too_much_at_once_is_503_and_comes_through_later(hop_to, forwarder):
    hop = await hop_to(forwarder, max_in_flight="1")
    taken, go_on = asyncio.Event(), asyncio.Event()

    async def slow(seen):
        taken.set()
        await go_on.wait()
        return await reply(200, {})(seen)

    hop.next_hop.answer = slow
    first = asyncio.create_task(hop.send())
    await taken.wait()
    refused = await hop.send()
    health = await hop.send(Ask("GET", "/health/ready"), adapt=False)
    go_on.set()

    assert (503, "UnavailableError") == (refused.status, refused.id)
    assert int(refused.headers["Retry-After"]) > 0
    assert 200 == health.status
    assert 200 == (await first).status
    assert 200 == (await hop.send()).status


async def test_a_service_that_stops_takes_nothing_new(hop):
    hop.app[SERVICE].is_leaving = True
    serving_on = await hop.send()
    hop.app[SERVICE].is_closed = True
    refused = await hop.send()
    ready = await hop.send(Ask("GET", "/health/ready"), adapt=False)

    assert (200, "close") == (serving_on.status, serving_on.headers["Connection"])
    assert (503, "UnavailableError") == (refused.status, refused.id)
    assert int(refused.headers["Retry-After"]) > 0
    assert 503 == ready.status
    assert ready.json["missing"]


@pytest.mark.parametrize("uuid", ["1", "x" * 36, "110ec58aa0f24ac48393c866d813b8d1",
    "110ec58a-a0f2-4ac4-8393-c866d813b8d1%0a", "110ec58a-a0f2-4ac4-8393-c866d813b8d1%00", "110ec58a-a0f2-4ac4-8393-c866d813b8dg",
    "%D9%A1%D9%A1%D9%A00ec58a-a0f2-4ac4-8393-c866d813b8d1", "..%2f..%2fadmin"])  # fmt: skip
async def test_a_uuid_is_8_4_4_4_12_hex_digits(hop, uuid):
    for ask in [EXECUTE, LOOK_UP]:
        path = ask.path.rpartition("/")[0] + "/" + uuid
        answer = await hop.send(replace(hop.adapted(ask), path=path), adapt=False)

        assert (400, "InvalidUriParameterError") == (answer.status, answer.id)
        assert [] == hop.next_hop.seen


@pytest.mark.parametrize(
    ("added", "key"),
    [
        ("x=1", "x"),
        ("identifier=1&identifier=1", "identifier"),
        ("callback", "callback"),
        ("=", ""),
        ("%00=1", "\x00"),
    ],
)
async def test_a_query_that_is_none_of_ours_names_its_parameter(hop, added, key):
    for ask in ASKS.values():
        query = f"{ask.query}&{added}" if ask.query else added
        answer = await hop.send(replace(hop.adapted(ask), query=query), adapt=False)

        assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)
        assert key in [fault["params"]["key"] for fault in answer.json["validationErrors"]]
        assert [] == hop.next_hop.seen


@pytest.mark.parametrize("value", ["%00", "%0a", "%7f", "%c2%85", "%ff", "%ed%a0%80", "a%0d%0aX-A:b"])
async def test_a_query_holds_text_alone(hop, value):
    answer = await hop.send(
        replace(hop.adapted(LOOK_UP), query=f"identifierType=eur&identifier={value}"), adapt=False
    )

    assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)
    assert ["identifier"] == [fault["params"]["key"] for fault in answer.json["validationErrors"]]
    assert [] == hop.next_hop.seen


async def test_too_many_parameters_are_refused(hop):
    answer = await hop.send(replace(LOOK_UP, query="&".join("a=1" for _ in range(2_000))), adapt=False)

    assert (400, "InvalidQueryParameterError") == (answer.status, answer.id)


@pytest.mark.parametrize("path", ["/health/live", "/health/ready", "/metrics", "/openapi.json"])
async def test_health_metrics_and_document_need_no_credentials(hop, path):
    answer = await hop.send(Ask("GET", path), adapt=False, Authorization=None)

    assert 200 == answer.status
    assert answer.headers[TRACE]
    assert [] == hop.next_hop.seen + hop.directory.seen


async def test_metrics_count_requests_by_route_and_status(hop):
    await hop.send(LOOK_UP)
    await hop.send(Ask("GET", "/some/odd/path"), adapt=False)

    text = (await hop.send(Ask("GET", "/metrics"), adapt=False)).body.decode()
    assert 'requests_total{method="GET",route="/v1/quote/{uuid}",status="200"} 1.0' in text
    assert 'requests_total{method="GET",route="none",status="404"} 1.0' in text
    assert "/some/odd/path" not in text
