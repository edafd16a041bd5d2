"""How a webhook's answer is read (guide, Responding to Events; design, Reading the answer)."""

import asyncio
import gzip
from datetime import UTC, datetime

import pytest
from aiohttp import web
from multidict import CIMultiDict

from integrations.webhook.webhook_response import TYPES, AttemptOutcome, WebhookResponse, read, retry_after
from support.provider import Script, typed, until
from support.serving import reply, stub
from support.sockets import HANG, Reset, http, sockets

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
GOOD = {"Content-Type": "application/json", "x-proquant-error": "1"}
BODY = b'{"type":"MarketClosed"}'


def meaning(status: int, headers: dict[str, str], body: bytes | None) -> tuple[str, str | None]:
    answer = read(status, CIMultiDict(headers), body, NOW)
    return answer.meaning, answer.error_type


@pytest.mark.parametrize("type_", sorted(TYPES))
def test_all_four_requirements_make_a_typed_error_which_is_final(type_):
    """Guide: Here are the requirements for an error response to be correctly parsed by us..."""
    body = f'{{"type":"{type_}","message":"m"}}'.encode()

    assert (AttemptOutcome.REFUSED, type_) == meaning(422, GOOD, body)


def test_there_are_the_guides_nine_types():
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
    } == TYPES


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 410, 422, 429, 499, 500, 503, 599])
def test_a_typed_error_is_one_whatever_the_status_from_400_on(status):
    """Guide: Status code must be >= 400."""
    assert (AttemptOutcome.REFUSED, "MarketClosed") == meaning(status, GOOD, BODY)


@pytest.mark.parametrize(
    ("status", "expected"), [(200, AttemptOutcome.DELIVERED), (204, AttemptOutcome.DELIVERED), (299, AttemptOutcome.DELIVERED),
                             (300, AttemptOutcome.FAILED), (302, AttemptOutcome.FAILED), (399, AttemptOutcome.FAILED)],
)  # fmt: skip
def test_below_400_nothing_is_a_typed_error(status, expected):
    assert expected == meaning(status, GOOD, BODY)[0]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/json;charset=UTF-8",
    ],
)
def test_the_media_type_is_json_with_any_parameters(content_type):
    """Guide: Content type must be application/json."""
    assert (AttemptOutcome.REFUSED, "MarketClosed") == meaning(
        422, {**GOOD, "Content-Type": content_type}, BODY
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"x-proquant-error": "1"},
        {**GOOD, "Content-Type": ""},
        {**GOOD, "Content-Type": "text/plain"},
        {**GOOD, "Content-Type": "application/problem+json"},
        {**GOOD, "Content-Type": "application/jsonx"},
        {**GOOD, "Content-Type": "text/html; a=application/json"},
        {"Content-Type": "application/json"},
        {**GOOD, "x-proquant-error": ""},
        {**GOOD, "x-proquant-error": "0"},
        {**GOOD, "x-proquant-error": "01"},
        {**GOOD, "x-proquant-error": "true"},
        {**GOOD, "x-proquant-error": "1, 1"},
    ],
)
def test_a_wrong_header_makes_it_generic(headers):
    """Guide: The response headers must include the header x-proquant-error: 1."""
    assert (AttemptOutcome.FAILED, "Generic") == meaning(422, headers, BODY)


@pytest.mark.parametrize("name", ["Content-Type", "x-proquant-error"])
def test_a_header_that_is_there_twice_makes_it_generic(name):
    headers = CIMultiDict(GOOD)
    headers.add(name, GOOD[name])

    assert "Generic" == read(422, headers, BODY, NOW).error_type


def test_names_of_headers_have_no_case():
    headers = {"CONTENT-TYPE": "application/json", "X-ProQuant-Error": "1"}

    assert (AttemptOutcome.REFUSED, "MarketClosed") == meaning(422, headers, BODY)


@pytest.mark.parametrize(
    "body",
    [
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
    ],
)
def test_a_body_without_one_of_the_nine_exactly_makes_it_generic(body):
    """Guide: The response body must include a key type with one of the following values..."""
    assert (AttemptOutcome.FAILED, "Generic") == meaning(422, GOOD, body)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_what_may_get_better_without_a_type_is_tried_again(status):
    assert (AttemptOutcome.RETRY, "Generic") == meaning(status, {}, b"")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 499])
def test_another_error_without_a_type_is_final(status):
    assert (AttemptOutcome.FAILED, "Generic") == meaning(status, {}, b"")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("999999999999999999999999999999", 3_600),
        ("9" * 1_000, 3_600),
        ("-1", None),
        ("+5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("Sat, 21 Nov 2026 12:00:30 GMT", 30),
        ("Sat, 21 Nov 2026 11:59:30 GMT", None),
        ("Sat, 21 Nov 2099 12:00:00 GMT", 3_600),
        ("Saturday, 21-Nov-26 12:00:30 GMT", 30),
        ("Sat, 32 Nov 2026 12:00:30 GMT", None),
        ("Sat, 21 Nov 99999 12:00:30 GMT", None),
    ],
)
def test_a_retry_after_is_honoured_within_limits_and_an_odd_one_is_none(value, seconds):
    assert seconds == retry_after(CIMultiDict({"Retry-After": value}), NOW)


def test_two_retry_afters_are_none():
    assert None is retry_after(CIMultiDict([("Retry-After", "1"), ("Retry-After", "2")]), NOW)


async def attempt_of(provider, url: str) -> dict:
    """The first attempt at a webhook."""
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
async def test_no_more_than_16_kib_of_an_endless_reply_is_read(provider, status, state):
    written = 0

    async def endless(seen):
        nonlocal written
        response = web.StreamResponse(status=status, headers=GOOD)
        await response.prepare(seen.request)
        try:
            while True:
                await response.write(b" " * 65_536)
                written += 65_536
        except ConnectionError:
            return response

    async with raw_stub(endless) as url:
        attempt = await attempt_of(provider, url)

    assert (state, status) == (attempt["state"], attempt["status"])
    assert written < 50_000_000


@pytest.mark.parametrize(("status", "state", "cause"), [(200, "DELIVERED", None),
                                                        (422, "WAITING", "the answer broke off")])  # fmt: skip
async def test_a_reply_that_drips_slowly_takes_no_longer_than_an_attempt_may(provider, status, state, cause):
    """Of a success the status says all; an error that did not arrive whole is no answer."""
    provider.sender.timeout_seconds = 0.3

    async def dripping(seen):
        response = web.StreamResponse(status=status, headers=GOOD)
        await response.prepare(seen.request)
        try:
            for byte in BODY * 100:
                await response.write(bytes([byte]))
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        return response

    async with raw_stub(dripping) as url:
        attempt = await attempt_of(provider, url)

    assert (state, cause) == (attempt["state"], attempt["cause"])
    assert attempt["durationMs"] < 2_000


@pytest.mark.parametrize(
    ("step", "cause"),
    [
        (HANG, "no answer in time"),
        (Reset(), "no answer that could be read"),
        (b"", "no answer that could be read"),
        (b"nonsense\r\n\r\n", "no answer that could be read"),
        (http(500, b"{", length=100), "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", "no answer that could be read"),
    ],
)  # fmt: skip
async def test_without_a_whole_answer_it_is_tried_again_and_the_user_is_told(provider, step, cause):
    provider.sender.timeout_seconds = 0.5
    async with sockets(step) as broken:
        attempt = await attempt_of(provider, broken.url)
        told = await provider.told()

    assert ("WAITING", True) == (attempt["state"], attempt["cause"].startswith(cause))
    assert 1 == len(told)


async def test_without_a_connection_it_is_tried_again(provider):
    async with stub(reply(200)) as gone:
        pass
    attempt = await attempt_of(provider, gone.url)

    assert ("WAITING", "no connection", None) == (attempt["state"], attempt["cause"], attempt["status"])


async def test_a_kept_connection_that_has_just_been_closed_is_no_failure(provider):
    """The other side may close what is idle at any moment; the event goes out again, with the same id."""
    async with sockets(http(200, b""), b"", http(200, b"")) as hook:
        id_ = await provider.enabled(hook.url)
        log = await provider.done(id_)
        told = await provider.told()

    assert {"DELIVERED"} == {each["state"] for each in log}
    assert [] == told


async def test_a_429_puts_the_next_attempt_off_as_it_asks(provider):
    async with stub(Script([reply(200), reply(200), reply(429, Retry_After="30"), reply(200)])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("CLOSE")
        await until(lambda: len(hook.seen) == 3)
        await until(provider.notifications)
        wait = await provider.sql.fetchval(
            "SELECT extract(epoch FROM max(due) - clock_timestamp())::float8 FROM lane"
        )
        await provider.pass_time(20)
        await asyncio.sleep(0.1)
        early = len(hook.seen)
        await provider.pass_time(10)
        log = await provider.done(id_)

    assert 29 < wait <= 30
    assert 3 == early
    assert ["RETRY", "DELIVERED"] == [each["outcome"] for each in log[-1]["attempts"]]


async def test_a_retry_after_beyond_the_events_life_ends_it(provider):
    async with stub(Script([reply(200), reply(200), reply(429, Retry_After="99999999999")])) as hook:
        id_ = await provider.enabled(hook.url)
        await provider.done(id_)
        await provider.signal("OPEN")
        log = await provider.done(id_)

    assert "EXPIRED" == log[-1]["state"]


@pytest.mark.parametrize(("status", "type_"), [(500, "MarketClosed"), (429, "InsufficientFunds")])
async def test_a_typed_error_is_not_tried_again_whatever_its_status(provider, status, type_):
    async with stub(typed(type_, status, Retry_After="1")) as hook:
        id_ = await provider.approved(hook.url)
        log = await provider.done(id_)

    assert [("REFUSED", 1)] == [(each["state"], len(each["attempts"])) for each in log]


def test_health_is_an_answer_that_was_understood():
    assert WebhookResponse(AttemptOutcome.REFUSED, 422).is_healthy
    assert not WebhookResponse(AttemptOutcome.FAILED, 404).is_healthy


class raw_stub:  # noqa: N801 - used as a function
    """A webhook that writes its answer itself."""

    def __init__(self, answer) -> None:
        self._answer = answer

    async def __aenter__(self) -> str:
        app = web.Application()

        async def handle(request):
            await request.read()
            seen = type("Asked", (), {"request": request})
            return await self._answer(seen)

        app.router.add_route("*", "/{any:.*}", handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def __aexit__(self, *_) -> None:
        await self._runner.cleanup()
