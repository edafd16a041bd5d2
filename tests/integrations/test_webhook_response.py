"""How a webhook's response is classified (guide, Responding to Events; design, Reading the answer)."""

import asyncio
import gzip
from datetime import UTC, datetime

import pytest
from aiohttp import web
from multidict import CIMultiDict

from integrations.webhook.webhook_response import (
    ERROR_TYPES,
    AttemptOutcome,
    HttpResponse,
    WebhookResponse,
    classify,
    retry_after,
)
from support.provider import Script, typed, until
from support.scripted_server import HANG, Reset, http, scripted_server, unused_url
from support.serving import reply, stub

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
TYPED_HEADERS = {"Content-Type": "application/json", "x-proquant-error": "1"}
BODY = b'{"type":"MarketClosed"}'
MARKET_CLOSED = (AttemptOutcome.REFUSED, "MarketClosed")
FAILED = (AttemptOutcome.FAILED, "Generic")
RETRY = (AttemptOutcome.RETRY, "Generic")


def classified(status: int, headers: dict[str, str], body: bytes | None) -> tuple[str, str | None]:
    response = classify(HttpResponse(status, CIMultiDict(headers), body), NOW)
    return response.outcome, response.error_type


def test_a_response_that_meets_all_four_requirements_is_a_typed_error_and_final():
    """Guide: Here are the requirements for an error response to be correctly parsed by us..."""
    expected = {type_: (AttemptOutcome.REFUSED, type_) for type_ in ERROR_TYPES}

    assert expected == {
        type_: classified(422, TYPED_HEADERS, f'{{"type":"{type_}","message":"m"}}'.encode())
        for type_ in ERROR_TYPES
    }


def test_the_error_types_are_the_guides_nine():
    assert {
        "InsufficientFunds",
        "QuantityTooLow",
        "QuantityTooHigh",
        "InvalidQuantityPrecision",
        "UnsupportedInstrument",
        "PositionAlreadyExists",
        "MarketClosed",
        "PositionNotFound",
        "InvalidCredentials",
    } == ERROR_TYPES


def test_a_typed_error_may_have_any_status_from_400():
    """Guide: Status code must be >= 400."""
    statuses = [400, 401, 404, 408, 409, 410, 422, 429, 499, 500, 503, 599]

    assert dict.fromkeys(statuses, MARKET_CLOSED) == {
        status: classified(status, TYPED_HEADERS, BODY) for status in statuses
    }


def test_below_400_no_response_is_a_typed_error():
    expected = {
        **dict.fromkeys((200, 204, 299), AttemptOutcome.DELIVERED),
        **dict.fromkeys((300, 302, 399), AttemptOutcome.FAILED),
    }

    assert expected == {status: classified(status, TYPED_HEADERS, BODY)[0] for status in expected}


def test_the_media_type_is_json_in_any_case_and_with_any_parameters():
    """Guide: Content type must be application/json."""
    types = [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;charset=UTF-8",
    ]

    assert dict.fromkeys(types, MARKET_CLOSED) == {
        each: classified(422, {**TYPED_HEADERS, "Content-Type": each}, BODY) for each in types
    }


def test_an_error_with_a_wrong_header_is_generic():
    """Guide: The response headers must include the header x-proquant-error: 1."""
    wrong = [
        {"x-proquant-error": "1"},
        *(
            {**TYPED_HEADERS, "Content-Type": each}
            for each in (
                "",
                "text/plain",
                "application/problem+json",
                "application/jsonx",
                "text/html; a=application/json",
            )
        ),
        {"Content-Type": "application/json"},
        *({**TYPED_HEADERS, "x-proquant-error": each} for each in ("", "0", "01", "true", "1, 1")),
    ]

    assert [FAILED] * len(wrong) == [classified(422, headers, BODY) for headers in wrong]


def test_an_error_with_a_repeated_header_is_generic():
    for name, value in TYPED_HEADERS.items():
        headers = CIMultiDict(TYPED_HEADERS)
        headers.add(name, value)

        assert "Generic" == classify(HttpResponse(422, headers, BODY), NOW).error_type


def test_header_names_may_have_any_case():
    headers = {"CONTENT-TYPE": "application/json", "X-ProQuant-Error": "1"}

    assert MARKET_CLOSED == classified(422, headers, BODY)


def test_an_error_without_exactly_one_of_the_nine_types_in_its_body_is_generic():
    """Guide: The response body must include a key type with one of the following values..."""
    bodies = [
        b"",
        b"null",
        b"7",
        b"[]",
        b'["MarketClosed"]',
        b'"MarketClosed"',
        b"{}",
        b'{"Type":"MarketClosed"}',
        b'{"type":"marketclosed"}',
        b'{"type":"MARKETCLOSED"}',
        b'{"type":"MarketClosed "}',
        b'{"type":"Unknown"}',
        b'{"type":"Generic"}',
        b'{"type":null}',
        b'{"type":["MarketClosed"]}',
        b'{"type":{"MarketClosed":1}}',
        b'{"error":{"type":"MarketClosed"}}',
        b'{"type":"MarketClosed"',
        b'{"type":"MarketClosed"}x',
        b"\xef\xbb\xbf" + BODY,
        BODY.decode().encode("utf-16"),
        gzip.compress(BODY),
        None,
    ]

    assert [FAILED] * len(bodies) == [classified(422, TYPED_HEADERS, body) for body in bodies]


def test_an_untyped_error_is_retried_only_if_it_may_be_temporary():
    expected = {
        **dict.fromkeys((408, 429, 500, 502, 503, 504, 599), RETRY),
        **dict.fromkeys((400, 401, 403, 404, 409, 410, 422, 499), FAILED),
    }

    assert expected == {status: classified(status, {}, b"") for status in expected}


def test_retry_after_is_limited_to_an_hour_and_ignored_if_it_is_malformed():
    expected = {
        "0": 0,
        "7": 7,
        " 7 ": 7,
        "999999999999999999999999999999": 3_600,
        "9" * 1_000: 3_600,
        "-1": None,
        "+5": None,
        "1.5": None,
        "1e3": None,
        "٣": None,
        "": None,
        "soon": None,
        "Sat, 21 Nov 2026 12:00:30 GMT": 30,
        "Sat, 21 Nov 2026 11:59:30 GMT": None,
        "Sat, 21 Nov 2099 12:00:00 GMT": 3_600,
        "Saturday, 21-Nov-26 12:00:30 GMT": 30,
        "Sat, 32 Nov 2026 12:00:30 GMT": None,
        "Sat, 21 Nov 99999 12:00:30 GMT": None,
    }

    assert expected == {value: retry_after(CIMultiDict({"Retry-After": value}), NOW) for value in expected}
    assert None is retry_after(CIMultiDict([("Retry-After", "1"), ("Retry-After", "2")]), NOW)


def test_a_typed_error_is_healthy_and_an_untyped_one_is_not():
    assert WebhookResponse(AttemptOutcome.REFUSED, 422).is_healthy
    assert not WebhookResponse(AttemptOutcome.FAILED, 404).is_healthy


async def attempt_of(provider, url: str) -> dict:
    """Return the first attempt at a webhook, with the event's state."""
    id_ = await provider.approved(url)

    async def attempted():
        log = await provider.deliveries(id_)
        return log and log[0]["attempts"] and {**log[0]["attempts"][0], "state": log[0]["state"]}

    return await until(attempted)


async def test_a_redirect_is_a_failure_and_is_never_followed(provider, hook):
    for status in (301, 302, 303, 307, 308):
        async with stub(reply(status, b"", Location=hook.url)) as redirecting:
            attempt = await attempt_of(provider, redirecting.url)

        assert ("FAILED", status) == (attempt["state"], attempt["status"])
    assert [] == hook.seen


async def test_a_gzip_bomb_is_never_unpacked(provider):
    bomb = gzip.compress(b'{"type":"MarketClosed","x":"' + b"0" * 5_000_000 + b'"}')
    async with stub(reply(422, bomb, Content_Encoding="gzip", x_proquant_error="1")) as hook:
        attempt = await attempt_of(provider, hook.url)

    assert len(bomb) < 16 * 1024
    assert ("FAILED", "Generic") == (attempt["state"], attempt["errorType"])


@pytest.mark.parametrize(("status", "state"), [(200, "DELIVERED"), (422, "FAILED")])
async def test_at_most_16_kib_of_an_endless_body_are_read(provider, status, state):
    written = 0

    async def endless(request):
        nonlocal written
        response = web.StreamResponse(status=status, headers=TYPED_HEADERS)
        await response.prepare(request)
        try:
            while True:
                await response.write(b" " * 65_536)
                written += 65_536
        except ConnectionError:
            return response

    async with streaming_stub(endless) as url:
        attempt = await attempt_of(provider, url)

    assert (state, status) == (attempt["state"], attempt["status"])
    assert "the response body is longer than 16,384 bytes" == attempt["cause"]
    assert written < 50_000_000


@pytest.mark.parametrize(("status", "state"), [(200, "DELIVERED"), (422, "FAILED"), (503, "WAITING")])
async def test_a_slow_body_takes_no_longer_than_the_timeout_of_an_attempt(provider, status, state):
    provider.webhook_client.timeout_seconds = 0.3

    async def dripping(request):
        response = web.StreamResponse(status=status, headers=TYPED_HEADERS)
        await response.prepare(request)
        try:
            for byte in BODY * 100:
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return response

    async with streaming_stub(dripping) as url:
        attempt = await attempt_of(provider, url)

    assert (state, f"{UNREADABLE}it was not complete within 0.3 seconds") == (
        attempt["state"],
        attempt["cause"],
    )
    assert attempt["durationMs"] < len(BODY) * 100 * 50 / 2


UNREADABLE = "the response could not be read after its status line: "
NO_STATUS_LINE = {
    "no bytes": (HANG, "no response within 0.5 seconds"),
    "a reset": (Reset(), "the connection was closed before a response began"),
    "a close": (b"", "the connection was closed before a response began"),
    "other bytes": (b"nonsense\r\n\r\n", "the response does not begin with an HTTP/1.1 status line"),
    "half a line": (b"HTTP/1.1 20", "the response does not begin with an HTTP/1.1 status line"),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", "the response does not begin with an HTTP/1.1 status line"),
}


@pytest.mark.parametrize(("step", "cause"), NO_STATUS_LINE.values(), ids=NO_STATUS_LINE)
async def test_without_a_status_line_the_event_is_retried_and_the_user_notified(provider, step, cause):
    if step is HANG:
        provider.webhook_client.timeout_seconds = 0.5
    async with scripted_server(step) as broken:
        attempt = await attempt_of(provider, broken.url)
        types = await provider.notification_types()

    assert ("WAITING", None, cause) == (attempt["state"], attempt["status"], attempt["cause"])
    assert ["NoAnswer"] == types


LONG = b"X: " + b"x" * 70_000 + b"\r\n"
AFTER_THE_STATUS_LINE = {
    "a header that is too long": (LONG + b"\r\n", "Got more than 65536 bytes when reading"),
    "too many headers": (b"X: 1\r\n" * 1_100 + b"\r\n", "Too many headers received"),
    "no end of the headers": (b"X: 1\r\n", "the connection was closed before its end"),
    "nothing": (b"", "the connection was closed before its end"),
    "a body that is too short": (b"Content-Length: 9\r\n\r\n{}", "the connection was closed before its end"),
    "a body that is too long": (b"Content-Length: 2\r\n\r\n{} and more", "there are bytes after its end"),
    "a header without a colon": (b"no colon\r\nContent-Length: 0\r\n\r\n", "Invalid header token"),
    "a NUL in a header": (b"X: a\0b\r\nContent-Length: 0\r\n\r\n", "Invalid HTTP header"),
    "two lengths": (b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "Duplicate Content-Length"),
    "a length that is no number": (
        b"Content-Length: x\r\n\r\nab",
        "Invalid character in Content-Length",
    ),
    "a malformed chunk": (
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        "Invalid character in chunk size",
    ),
    "a length and chunks": (
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding can't be present with Content-Length",
    ),
}


@pytest.mark.parametrize("rest", AFTER_THE_STATUS_LINE)
async def test_the_status_line_decides_whatever_comes_after_it(provider, rest):
    """Below 300 the event is delivered; above, the error is untyped; the attempt log names the cause."""
    expected = {200: "DELIVERED", 307: "FAILED", 410: "FAILED", 422: "FAILED", 500: "WAITING"}
    data, cause = AFTER_THE_STATUS_LINE[rest]
    found = {}
    for status in expected:
        head = f"HTTP/1.1 {status} X\r\nx-proquant-error: 1\r\n".encode()
        async with scripted_server(head + data) as broken:
            attempt = await attempt_of(provider, broken.url)
        found[status] = (attempt["state"], attempt["status"], attempt["cause"])

    assert {status: (state, status, UNREADABLE + cause) for status, state in expected.items()} == found


async def test_a_204_with_a_body_or_chunks_is_a_success_that_notifies_nobody(provider):
    for rest in (b"Content-Length: 2\r\n\r\nOK", b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"):
        async with scripted_server(b"HTTP/1.1 204 No Content\r\n" + rest) as hook:
            attempt = await attempt_of(provider, hook.url)

        assert ("DELIVERED", 204) == (attempt["state"], attempt["status"])
    assert [] == await provider.notification_types()


async def test_a_typed_error_with_many_and_long_headers_is_read(provider):
    headers = [f"X-{number}: {'x' * 20}" for number in range(300)]
    data = http(
        422, BODY, "Content-Type: application/json", "x-proquant-error: 1", "Y: " + "y" * 9_000, *headers
    )
    async with scripted_server(data) as hook:
        attempt = await attempt_of(provider, hook.url)

    assert ("REFUSED", "MarketClosed") == (attempt["state"], attempt["errorType"])


async def test_the_final_status_line_follows_interim_responses(provider):
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with scripted_server(interim + b"HTTP/1.1 200 OK\r\n" + LONG + b"\r\n") as hook:
        attempt = await attempt_of(provider, hook.url)

    assert ("DELIVERED", 200) == (attempt["state"], attempt["status"])


async def test_a_success_that_cannot_be_read_does_not_hold_up_its_lane(provider):
    async with scripted_server(b"HTTP/1.1 200 OK\r\n" + LONG + b"\r\n") as hook:
        id_ = await provider.enabled(hook.url)
        await provider.signal()
        log = await provider.done(id_)

    assert [("DELIVERED", 1)] * 3 == [(each["state"], len(each["attempts"])) for each in log]


async def test_without_a_connection_the_event_is_retried(provider):
    attempt = await attempt_of(provider, unused_url())

    assert ("WAITING", "no connection could be made", None) == (
        attempt["state"],
        attempt["cause"],
        attempt["status"],
    )


async def test_a_kept_connection_that_closes_before_the_response_is_no_failure(provider):
    """A server may close an idle connection at any moment. The request is repeated with the same webhook-id."""
    async with scripted_server(http(200, b""), b"", http(200, b"")) as hook:
        id_ = await provider.enabled(hook.url)
        log = await provider.done(id_)
        types = await provider.notification_types()

    assert {"DELIVERED"} == {each["state"] for each in log}
    assert [] == types


async def test_a_429_delays_the_retry_as_its_retry_after_says(provider):
    async with stub(Script([reply(200), reply(200), reply(429, Retry_After="30"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("CLOSE")
        await until(provider.notifications)
        wait = await provider.sql.fetchval(
            "SELECT extract(epoch FROM max(due) - clock_timestamp())::float8 FROM lane"
        )
        requests = len(hook.seen)
        await provider.pass_time(30)
        log = await provider.done(id_)

    assert 20 < wait <= 30
    assert 3 == requests
    assert ["RETRY", "DELIVERED"] == [each["outcome"] for each in log[-1]["attempts"]]


async def test_a_retry_after_beyond_the_events_life_ends_the_event(provider):
    async with stub(Script([reply(200), reply(200), reply(429, Retry_After="99999999999")])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("OPEN")
        log = await provider.done(id_)

    assert "EXPIRED" == log[-1]["state"]


@pytest.mark.parametrize(("status", "type_"), [(500, "MarketClosed"), (429, "InsufficientFunds")])
async def test_a_typed_error_is_not_retried_whatever_its_status(provider, status, type_):
    async with stub(typed(type_, status, Retry_After="1")) as hook:
        id_ = await provider.approved(hook.url)
        log = await provider.done(id_)

    assert [("REFUSED", 1)] == [(each["state"], len(each["attempts"])) for each in log]


class streaming_stub:  # noqa: N801 - used as a function
    """A webhook whose handler writes the response itself."""

    def __init__(self, handler) -> None:
        self._handler = handler

    async def __aenter__(self) -> str:
        app = web.Application()

        async def handle(request):
            await request.read()
            return await self._handler(request)

        app.router.add_route("*", "/{any:.*}", handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()
