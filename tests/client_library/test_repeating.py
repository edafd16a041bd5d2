"""Repetitions: after which responses, with which key, when and for how long."""

import logging
import random
import ssl

import pytest
import trustme
from aiohttp import web

from dfsp_quotes import (
    InvalidResponseError,
    NoResponseError,
    QuoteClient,
    QuoteError,
    QuoteExpiredError,
    State,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UpstreamError,
    UpstreamTimeoutError,
)
from dfsp_quotes.errors import ERRORS_BY_ID
from dfsp_quotes.fake import Fault
from dfsp_quotes.retries import delay_seconds, retry_after_seconds
from support.quote_client import PATIENCE_SECONDS, RECEIVER, reserve
from support.scripted_server import HANG, Reset, http, scripted_server, unused_url

IDS = ["502", "503", "504", "lost request", "lost response"]
UNKNOWN = [
    UpstreamError(),
    UnavailableError(retry_after=0),
    UpstreamTimeoutError(),
    Fault.LOST_REQUEST,
    Fault.LOST_RESPONSE,
]
FINAL = sorted(name for name, kind in ERRORS_BY_ID.items() if kind.status not in {502, 503, 504})
QUOTE_REPLY = (
    b'{"amount":"13.75","expires":"2100-01-01T00:00:00.000Z","uuid":"729bce92-cf6b-81d3-9085-437ed128fe45"}'
)


def sent(fake, header: str) -> list[str | None]:
    return [request.headers.get(header.lower()) for request in fake.received]


def timeouts_ms(fake) -> list[int]:
    return [int(each) for each in sent(fake, "X-Request-Timeout-Ms")]


@pytest.mark.parametrize("fault", UNKNOWN, ids=IDS)
async def test_a_reservation_is_repeated_with_the_same_key_while_its_outcome_is_unknown(
    fake, fake_client, fault
):
    fake.fail(*[fault] * 3)
    quote = await reserve(fake_client)

    assert 4 == len(fake.received)
    assert [quote.idempotency_key] * 4 == sent(fake, "Idempotency-Key")
    assert [quote.trace_id] * 4 == sent(fake, "L1p-Trace-Id")
    assert [quote.uuid] == [each.uuid for each in fake.quotes]


@pytest.mark.parametrize("fault", UNKNOWN, ids=IDS)
async def test_a_payment_is_repeated_and_executed_once(fake, fake_client, fault):
    quote = await reserve(fake_client)
    fake.fail(*[fault] * 3)
    payment = await fake_client.pay(quote, timeout=PATIENCE_SECONDS)

    assert 1 + 4 == len(fake.received)
    assert payment == await fake_client.pay(quote, timeout=PATIENCE_SECONDS)
    assert [State.EXECUTED] == [each.state for each in fake.quotes]


@pytest.mark.parametrize("fault", UNKNOWN, ids=IDS)
async def test_a_look_up_is_repeated(fake, fake_client, fault):
    quote = await reserve(fake_client)
    fake.fail(*[fault] * 3)

    assert quote.uuid == (await fake_client.look_up(quote.uuid, **RECEIVER, timeout=PATIENCE_SECONDS)).uuid


@pytest.mark.parametrize("name", FINAL)
async def test_a_final_error_is_raised_as_its_own_class_and_not_repeated(fake, fake_client, name):
    fake.fail(ERRORS_BY_ID[name]("Because.", fields={"amount": "is wrong"}, service="spsp-client"))
    with pytest.raises(ERRORS_BY_ID[name]) as caught:
        await reserve(fake_client, idempotency_key="mine")
    error = caught.value

    assert ERRORS_BY_ID[name] is type(error)
    assert (name, "Because.", "spsp-client") == (error.id, error.message, error.service)
    assert {"amount": "is wrong"} == error.fields
    assert "mine" == error.idempotency_key
    assert [error.trace_id] == sent(fake, "L1p-Trace-Id")
    assert not error.is_outcome_unknown


async def test_an_unknown_error_id_is_a_quote_error_with_that_id(fake, fake_client):
    fake.fail(QuoteError("New.", status=422, id="NewError"))
    with pytest.raises(QuoteError) as caught:
        await reserve(fake_client)

    assert QuoteError is type(caught.value)
    assert ("NewError", 422) == (caught.value.id, caught.value.status)
    assert 1 == len(fake.received)


async def test_each_attempt_sends_the_time_that_is_left(fake, fake_client):
    fake.fail(UnavailableError(retry_after=1), Fault.LOST_REQUEST)
    await reserve(fake_client, timeout=30)
    first, second, third = timeouts_ms(fake)

    assert 30_000 >= first > third
    # Retry-After: 1
    assert first - second >= 1_000
    assert second > third


async def test_no_attempt_sends_more_time_than_the_services_accept(fake, fake_client):
    await reserve(fake_client, timeout=3_600)

    assert [60_000] == timeouts_ms(fake)


async def test_the_shortest_time_that_is_sent_is_a_millisecond(fake, fake_client):
    with pytest.raises(QuoteError):
        await reserve(fake_client, timeout=1e-9)

    assert set(timeouts_ms(fake)) <= {1}


async def test_a_delay_that_ends_after_the_deadline_is_not_begun(fake, fake_client):
    fake.fail(UnavailableError(retry_after=60))
    with pytest.raises(UnavailableError) as caught:
        await reserve(fake_client, timeout=59, idempotency_key="mine")

    assert 1 == len(fake.received)
    assert (60, True, "mine") == (
        caught.value.retry_after,
        caught.value.is_outcome_unknown,
        caught.value.idempotency_key,
    )


async def test_too_many_requests_is_final_and_says_when_to_come_back(fake, fake_client):
    fake.fail(TooManyRequestsError(retry_after=5))
    with pytest.raises(TooManyRequestsError) as caught:
        await reserve(fake_client)

    assert 5 == caught.value.retry_after
    assert 1 == len(fake.received)


async def test_an_outcome_stays_unknown_if_a_later_attempt_is_not_carried_out(fake, fake_client):
    quote = await reserve(fake_client)
    fake.fail(Fault.LOST_RESPONSE, UnauthorizedError())
    with pytest.raises(UnauthorizedError) as caught:
        await fake_client.pay(quote, timeout=PATIENCE_SECONDS)

    assert caught.value.is_outcome_unknown


async def test_an_outcome_is_known_if_the_payee_decides_at_a_later_attempt(fake, fake_client):
    quote = await reserve(fake_client)
    fake.expire(quote.uuid)
    fake.fail(Fault.LOST_REQUEST)
    with pytest.raises(QuoteExpiredError) as caught:
        await fake_client.pay(quote, timeout=PATIENCE_SECONDS)

    assert not caught.value.is_outcome_unknown


async def test_without_a_server_the_error_says_so_within_the_deadline():
    url = unused_url()
    async with QuoteClient(url, "test", "123") as client:
        with pytest.raises(NoResponseError, match=f"No connection to {url} was possible") as caught:
            await reserve(client, timeout=0.3, idempotency_key="mine")

    assert (None, True, "mine") == (
        caught.value.status,
        caught.value.is_outcome_unknown,
        caught.value.idempotency_key,
    )


async def test_a_server_that_hangs_is_given_up_at_the_deadline():
    async with scripted_server(HANG) as server, QuoteClient(server.url, "test", "123") as client:
        with pytest.raises(NoResponseError, match=r"No response arrived within 0\.3"):
            await reserve(client, timeout=0.3)

    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        Reset(),
        b"HTTP/1.1 200 OK\r\nContent-Le",
        http(200, QUOTE_REPLY[:40], "Content-Type: application/json", length=len(QUOTE_REPLY)),
        Reset(http(200, QUOTE_REPLY[:40], "Content-Type: application/json", length=len(QUOTE_REPLY))),
        b"this is not HTTP\r\n\r\n",
        http(503, b"<html>busy</html>"),
        http(502, b"", length=10),
    ],
)
async def test_a_broken_connection_is_repeated_with_the_same_key(broken):
    good = http(200, QUOTE_REPLY, "Content-Type: application/json")
    async with scripted_server(broken, broken, good) as server, QuoteClient(server.url, "t", "1") as client:
        quote = await reserve(client, idempotency_key="mine")

    assert "13.75" == str(quote.amount)
    assert len(server.requests) >= 3
    assert all(b"Idempotency-Key: mine\r\n" in each for each in server.requests)


@pytest.mark.parametrize("status", [300, 302, 400, 404, 409, 410, 422, 429, 500, 505])
@pytest.mark.parametrize("damage", ["html", "cut", "empty", "list"])
async def test_a_damaged_final_response_is_final(status, damage):
    response = {
        "html": http(status, b"<html>no</html>", "Location: http://127.0.0.1:1/"),
        "cut": http(status, b'{"id": "Invalid', length=500),
        "empty": http(status, b""),
        "list": http(status, b"[]"),
    }[damage]
    async with scripted_server(response) as server, QuoteClient(server.url, "test", "123") as client:
        with pytest.raises(InvalidResponseError, match=f"status {status} is not one of") as caught:
            await reserve(client)

    assert 1 == len(server.requests)
    assert status == caught.value.status
    assert (status not in range(400, 500)) == caught.value.is_outcome_unknown


async def test_a_damaged_503_is_an_invalid_response_at_the_end():
    async with (
        scripted_server(http(503, b"<html>", "Retry-After: 9")) as server,
        QuoteClient(server.url, "test", "123") as client,
    ):
        with pytest.raises(InvalidResponseError) as caught:
            await reserve(client, timeout=5)

    assert (503, 9, True) == (
        caught.value.status,
        caught.value.retry_after,
        caught.value.is_outcome_unknown,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>", "the body is not JSON"),
        (b"\xff", "the body is not JSON"),
        (b"[" * 60_000, "the body is not JSON"),
        (b"[]", "the body is not a JSON object"),
        (b"{}", "uuid is not a string"),
        (QUOTE_REPLY.replace(b"729bce92", b"x"), "uuid is not a UUID"),
        (QUOTE_REPLY.replace(b'"13.75"', b"13.75"), "amount is not a string"),
        (QUOTE_REPLY.replace(b"13.75", b"1e3"), "amount is not an amount"),
        (QUOTE_REPLY.replace(b"13.75", b"9" * 21), "amount is not an amount"),
        (QUOTE_REPLY.replace(b"13.75", b"-1"), "amount is not an amount"),
        (QUOTE_REPLY.replace(b"2100", b"x"), "expires is not a time with a time zone"),
        (QUOTE_REPLY.replace(b"Z", b""), "expires is not a time with a time zone"),
        (
            QUOTE_REPLY.replace(b"2100-01-01T00:00:00.000Z", b"0001-01-01T00:00:00+23:59"),
            "expires is not a time with a time zone",
        ),
        (QUOTE_REPLY + b" " * 65_536, "the body is longer than 65,536 bytes"),
    ],
)
async def test_a_success_that_is_none_is_an_invalid_response_that_says_why(body, reason):
    async with scripted_server(http(200, body)) as server, QuoteClient(server.url, "t", "1") as client:
        with pytest.raises(InvalidResponseError) as caught:
            await reserve(client)

    assert f"The response with status 200 is not one of the Quote API: {reason}." == caught.value.message
    assert caught.value.is_outcome_unknown
    assert 1 == len(server.requests)


async def test_a_payment_of_another_quote_is_an_invalid_response(fake, fake_client):
    quote = await reserve(fake_client)
    reply = (
        b'{"uuid":"110ec58a-a0f2-4ac4-8393-c866d813b8d1","state":"EXECUTED","sourceAmount":"13.75",'
        b'"destinationAmount":"12.50","fee":"1.25","executed":"2026-11-21T02:18:51.322Z"}'
    )
    async with scripted_server(http(200, reply)) as server, QuoteClient(server.url, "t", "1") as client:
        with pytest.raises(InvalidResponseError, match="uuid is that of another quote"):
            await client.pay(quote)


async def test_what_a_server_sends_is_cut_and_made_printable():
    entry = b'{"message":"%b","params":{"key":"%b"}}' % (b"m" * 600, b"k" * 70)
    body = b'{"id":"%b","message":"\\u001b[2J%b","service":"%b","traceId":"t","validationErrors":[%b]}' % (
        b"i" * 70,
        b"m" * 600,
        b"s" * 70,
        b",".join([entry.replace(b"kk", b"%02d" % number, 1) for number in range(40)]),
    )
    async with scripted_server(http(400, body)) as server, QuoteClient(server.url, "t", "1") as client:
        with pytest.raises(QuoteError) as caught:
            await reserve(client)
    error = caught.value

    assert (64, 500, 64, 32) == (
        len(error.id),
        len(error.message),
        len(error.service),
        len(error.fields),
    )
    assert {(64, 500)} == {(len(name), len(message)) for name, message in error.fields.items()}
    assert error.message.startswith("?[2Jm")


async def test_entries_of_validation_errors_in_another_form_are_left_out():
    body = (
        b'{"id":"InvalidBodyError","message":"m","service":"s","traceId":"t","validationErrors":'
        b'[1,{},{"params":1,"message":"m"},{"params":{"key":1},"message":"m"},'
        b'{"params":{"key":"amount"},"message":"one"},{"params":{"key":"amount"},"message":"two"}]}'
    )
    async with scripted_server(http(400, body)) as server, QuoteClient(server.url, "t", "1") as client:
        with pytest.raises(QuoteError) as caught:
            await reserve(client)

    assert {"amount": "one; two"} == caught.value.fields


@pytest.mark.parametrize("failures", [1, 2, 3, 4, 5, 100, 10_000])
def test_delays_grow_and_differ_up_to_a_second(failures):
    jitter = random.Random(1)
    delays = [delay_seconds(failures, None, jitter) for _ in range(1_000)]
    bound = min(1.0, 0.1 * 2 ** min(failures - 1, 10))

    assert 0.1 * bound <= min(delays) <= 0.2 * bound
    assert 0.9 * bound <= max(delays) <= bound


def test_retry_after_comes_on_top_of_a_delay():
    assert 7.0 < delay_seconds(1, 7.0, random.Random(1)) <= 7.1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        ("120", 120.0),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("9" * 7, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_of_seconds(header, seconds):
    assert seconds == retry_after_seconds(header)


@pytest.fixture
async def tls_server():
    """A server with TLS that knows every quote, and the authority that signed its certificate."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=QUOTE_REPLY)

    app = web.Application()
    app.router.add_post("/{any:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}", authority
    await runner.cleanup()


async def test_a_certificate_that_is_not_trusted_is_final(tls_server, caplog):
    caplog.set_level(logging.INFO, "dfsp_quotes")
    url, _ = tls_server
    async with QuoteClient(url, "test", "123") as client:
        with pytest.raises(
            NoResponseError, match=r"^The TLS certificate or the TLS settings .* refused\. \("
        ) as caught:
            await reserve(client)

    assert not caught.value.is_outcome_unknown
    assert "follows in" not in caplog.text


async def test_an_ssl_context_of_the_callers_own_is_used(tls_server):
    url, authority = tls_server
    context = ssl.create_default_context()
    authority.configure_trust(context)
    async with QuoteClient(url, "test", "123", ssl_context=context) as client:
        assert "13.75" == str((await reserve(client)).amount)


async def test_a_client_that_is_not_open_says_so(fake):
    client = QuoteClient(fake.url, "test", "123")
    with pytest.raises(RuntimeError, match="the client is not open"):
        await reserve(client)


async def test_a_client_is_opened_once_at_a_time_and_can_be_opened_again(fake):
    client = QuoteClient(fake.url, "test", "123")
    async with client:
        with pytest.raises(RuntimeError, match="the client is open already"):
            await client.__aenter__()
    async with client:
        assert await reserve(client)
