"""Every status and id of wire.md §4, as a client of the payer's dfsp-api sees it.

Each error is raised by the service that raises it in production; the payee's log shows which errors are its own.
"""

import asyncio
import uuid

import orjson
import pytest

from network.polling import PollTimer
from support.client import ClientResponse, send
from support.messages import (
    LOOK_UP_QUERY,
    OTHER,
    QUOTE,
    RESERVE,
    RESERVE_DESTINATION,
    TRACE,
    UNKNOWN_UUID,
    basic,
    headers,
    keys_of,
)
from support.serving import send_bytes

pytestmark = pytest.mark.batches

PAY = f"/v1/payments/{UNKNOWN_UUID}"
LOOK_UP = f"/v1/quote/{UNKNOWN_UUID}"


def new_trace() -> str:
    return f"error-{uuid.uuid4()}"


def status_in_log(chain, service: str, trace: str) -> int | None:
    """Return the status that a service logged for a trace id. Waits for the line, which comes a little later."""
    timer = PollTimer(60, 0.05)
    while timer.wait():
        for line in chain.log_lines(service):
            if line.get("traceId") == trace:
                return line["status"]
    return None


REJECTED_BY_THE_FIRST_SERVICE = [
    ("POST", RESERVE, b"{", {}, 400, "InvalidBodyError"),
    ("POST", RESERVE, {**QUOTE, "amount": "-1"}, {}, 400, "InvalidBodyError"),
    ("POST", RESERVE_DESTINATION, {**QUOTE, "amount": 12.5}, {}, 400, "InvalidBodyError"),
    ("PUT", PAY, {**QUOTE, "more": "x"}, {}, 400, "InvalidBodyError"),
    ("GET", LOOK_UP, None, {}, 400, "InvalidQueryParameterError"),
    ("GET", f"{LOOK_UP}?{LOOK_UP_QUERY}&x=1", None, {}, 400, "InvalidQueryParameterError"),
    ("POST", RESERVE, QUOTE, {"X_Request_Timeout_Ms": "0"}, 400, "InvalidHeaderError"),
    ("POST", RESERVE, QUOTE, {"Idempotency_Key": "k" * 129}, 400, "InvalidHeaderError"),
    ("PUT", "/v1/payments/1", QUOTE, {}, 400, "InvalidUriParameterError"),
    ("GET", f"/v1/quote/x?{LOOK_UP_QUERY}", None, {}, 400, "InvalidUriParameterError"),
    ("POST", RESERVE, QUOTE, {"Authorization": None}, 401, "UnauthorizedError"),
    ("POST", RESERVE, QUOTE, {"Authorization": "Basic !"}, 401, "UnauthorizedError"),
    ("POST", RESERVE, QUOTE, {"Authorization": basic("test", "124")}, 401, "UnauthorizedError"),
    ("POST", "/v1/nothing", QUOTE, {}, 404, "NotFoundError"),
    ("GET", RESERVE, None, {}, 405, "MethodNotAllowedError"),
    ("POST", PAY, QUOTE, {}, 405, "MethodNotAllowedError"),
    ("POST", RESERVE, b" " * 65_537, {}, 413, "PayloadTooLargeError"),
    ("POST", RESERVE, QUOTE, {"Content_Type": "text/plain"}, 415, "UnsupportedMediaTypeError"),
    ("POST", RESERVE, QUOTE, {"Content_Encoding": "gzip"}, 415, "UnsupportedMediaTypeError"),
    ("POST", RESERVE, QUOTE, {"Expect": "100-more"}, 417, "ExpectationFailedError"),
]


async def test_the_first_service_rejects_requests_that_are_invalid_in_themselves(chain, client):
    statuses = {}
    for method, target, body, more, status, id_ in REJECTED_BY_THE_FIRST_SERVICE:
        trace = new_trace()
        response = await send(client, method, chain.url + target, body, trace=trace, **more)
        statuses[trace] = status

        assert (status, id_, "dfsp-api", trace) == response.raised
        assert trace == response.headers[TRACE]
        assert "application/json" == response.headers["Content-Type"]
    logged = {trace: status_in_log(chain, "dfsp-api-payer", trace) for trace in statuses}

    assert statuses == logged


async def test_a_401_has_a_challenge(chain, client):
    response = await send(client, "POST", chain.url + RESERVE, QUOTE, Authorization=None)

    assert 'Basic realm="dfsp-api", charset="UTF-8"' == response.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("head", "id_"),
    [
        (b"POST /v1/quoteSourceAmount HTTP/1.1\r\nHost: x\r\nBad Header: x\r\n\r\n", "InvalidHeaderError"),
        (b"GET /v1 HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 8_200 + b"\r\n\r\n", "InvalidHeaderError"),
        (b"GET /" + b"x" * 8_200 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "InvalidUriParameterError"),
    ],
)
async def test_malformed_http_gets_the_error_object(chain, head, id_):
    response = await send_bytes(chain.url, head)
    top, _, body = response.partition(b"\r\n\r\n")
    error = orjson.loads(body)

    assert 400 == int(top.split()[1])
    assert (id_, "dfsp-api") == (error["id"], error["service"])
    assert f"L1p-Trace-Id: {error['traceId']}".encode() in top


async def test_spsp_client_rejects_a_submission_url_that_is_not_on_its_list(chain, client, register):
    trace = new_trace()
    request = await register(chain, "http://127.0.0.1:9")
    response = await send(client, "POST", chain.url + RESERVE, request, trace=trace)

    assert (403, "SubmissionUrlNotAllowedError", "spsp-client", trace) == response.raised


@pytest.mark.parametrize("changed", [{"identifier": "1"}, {"identifierType": "passport"}])
async def test_an_unknown_receiver_is_a_404_of_the_proxy(chain, client, changed):
    trace = new_trace()
    response = await send(client, "POST", chain.url + RESERVE, {**QUOTE, **changed}, trace=trace)

    assert (404, "ReceiverNotFoundError", "spsp-client-proxy", trace) == response.raised


async def rejected_by_the_payee(
    chain, client, method, target, body, *, key: str | None = None, **more: str
) -> ClientResponse:
    """Return the rejection, after checking that it is the payee's own, byte for byte, and in the payee's log."""
    trace = new_trace()
    if key:
        more["Idempotency_Key"] = key
    response = await send(client, method, chain.url + target, body, trace=trace, **more)
    direct = await send(client, method, chain.origin("dfsp-api") + target, body, trace=trace, **more)

    assert (direct.status, direct.body) == (response.status, response.body)
    assert response.status == status_in_log(chain, "dfsp-api", trace)
    assert ("dfsp-api", trace) == (response.json["service"], response.json["traceId"])
    return response


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("PUT", PAY, QUOTE),
        ("GET", f"{LOOK_UP}?{LOOK_UP_QUERY}", None),
        ("DELETE", f"{LOOK_UP}?{LOOK_UP_QUERY}", None),
    ],
)
async def test_an_unknown_uuid_is_a_404_of_the_payee(chain, client, method, target, body):
    response = await rejected_by_the_payee(chain, client, method, target, body)

    assert (404, "QuoteNotFoundError") == response.raised[:2]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("currencyCode", "EUR"),
        ("currencySymbol", "€"),
        ("amount", "12.51"),
        ("account", "http://example.org/bob"),
        ("identifier", "30754017"),
        ("transferType", "b2b"),
        ("sourceAmount", "13.76"),
        ("destinationAmount", "12.49"),
    ],
)
async def test_a_payment_with_another_parameter_is_rejected_by_name(chain, client, reserve, field, value):
    path = f"/v1/payments/{await reserve()}"
    response = await rejected_by_the_payee(chain, client, "PUT", path, {**QUOTE, field: value})

    assert (409, "QuoteMismatchError") == response.raised[:2]
    assert [field] == keys_of(response.json)


async def test_an_identifier_type_of_the_same_payee_is_a_mismatch_too(chain, client, reserve):
    path = f"/v1/payments/{await reserve()}"
    other = {**QUOTE, "identifierType": "tel", "identifier": "+35988123456"}
    response = await rejected_by_the_payee(chain, client, "PUT", path, other)

    assert (409, "QuoteMismatchError") == response.raised[:2]
    assert {"identifierType", "identifier"} == set(keys_of(response.json))


async def test_an_expired_quote_is_not_executed(chain, client, reserve, expire):
    uuid_ = await reserve()
    await expire(uuid_)
    response = await rejected_by_the_payee(chain, client, "PUT", f"/v1/payments/{uuid_}", QUOTE)
    seen = await send(client, "GET", f"{chain.url}/v1/quote/{uuid_}?{LOOK_UP_QUERY}")

    assert (410, "QuoteExpiredError") == response.raised[:2]
    assert ("EXPIRED", None) == (seen.json["state"], seen.json["executed"])


async def test_of_execution_and_release_the_first_one_decides(chain, client, reserve, expire):
    executed, released, expired = [await reserve() for _ in range(3)]
    quote = {uuid_: f"/v1/quote/{uuid_}?{LOOK_UP_QUERY}" for uuid_ in (executed, released, expired)}
    await send(client, "PUT", f"{chain.url}/v1/payments/{executed}", QUOTE)
    first, again = [await send(client, "DELETE", chain.url + quote[released]) for _ in range(2)]
    await expire(expired)

    assert (200, {"uuid": released, "state": "RELEASED"}) == (
        first.status,
        {name: first.json[name] for name in ("uuid", "state")},
    )
    assert first.body == again.body
    for method, target, body, status, id_ in [
        ("DELETE", quote[executed], None, 409, "QuoteExecutedError"),
        ("DELETE", quote[expired], None, 410, "QuoteExpiredError"),
        ("PUT", f"/v1/payments/{released}", QUOTE, 410, "QuoteReleasedError"),
    ]:
        response = await rejected_by_the_payee(chain, client, method, target, body)
        assert (status, id_) == response.raised[:2]
    seen = await send(client, "GET", chain.url + quote[released])
    assert ("RELEASED", first.json["released"]) == (seen.json["state"], seen.json["released"])


@pytest.mark.parametrize(("path", "changed"), [(RESERVE, {"amount": "12.51"}), (RESERVE_DESTINATION, {})])
async def test_a_key_of_another_request_is_rejected(chain, client, reserve, path, changed):
    key = f"reused-{uuid.uuid4()}"
    await reserve(Idempotency_Key=key)
    response = await rejected_by_the_payee(chain, client, "POST", path, {**QUOTE, **changed}, key=key)

    assert (422, "IdempotencyKeyReusedError") == response.raised[:2]


@pytest.mark.parametrize("changed", [{"transferType": "b2b"}, {"currencyCode": "CHF"}])
async def test_a_transfer_without_a_fee_schedule_is_rejected(chain, client, changed):
    response = await rejected_by_the_payee(
        chain, client, "POST", RESERVE, {**QUOTE, **changed}, key=new_trace()
    )

    assert (422, "NoFeeScheduleError") == response.raised[:2]


@pytest.mark.parametrize(("path", "amount"), [(RESERVE, "1000000.01"), (RESERVE_DESTINATION, "1200000.00")])
async def test_an_amount_outside_the_schedule_is_rejected(chain, client, path, amount):
    request = {**QUOTE, "amount": amount}
    response = await rejected_by_the_payee(chain, client, "POST", path, request, key=new_trace())

    assert (422, "AmountOutOfRangeError") == response.raised[:2]


async def test_a_quote_beyond_the_exposure_limit_is_rejected(chain, client):
    """The caller `other` has a limit in this currency (tests/support/exposure_limits.toml)."""
    request = {**QUOTE, "currencyCode": "KWD", "amount": "40.000"}
    response = await rejected_by_the_payee(
        chain, client, "POST", RESERVE, request, key=new_trace(), Authorization=OTHER
    )

    assert (422, "ExposureLimitError") == response.raised[:2]


async def test_too_many_wrong_passwords_for_one_name_are_429(chain, client):
    async def attempt(number: int) -> ClientResponse:
        trace = f"{trace_of_all}-{number}"
        return await send(
            client, "POST", chain.url + RESERVE, QUOTE, trace=trace, Authorization=basic("guess", str(number))
        )

    trace_of_all = new_trace()
    responses: list[ClientResponse] = []
    while len(responses) < 180 and 429 not in {response.status for response in responses}:
        more = (attempt(number) for number in range(len(responses), len(responses) + 60))
        responses += await asyncio.gather(*more)
    rejected = [response for response in responses if response.status == 429]

    assert rejected
    assert {401, 429} == {response.status for response in responses}
    for number, response in enumerate(responses):
        assert f"{trace_of_all}-{number}" == response.json["traceId"]
    for response in rejected:
        assert ("TooManyRequestsError", "dfsp-api") == (response.json["id"], response.json["service"])
        assert int(response.headers["Retry-After"]) > 0


async def test_a_quote_is_a_404_for_another_caller(chain, client, reserve):
    uuid_ = await reserve()
    paid = await send(client, "PUT", f"{chain.url}/v1/payments/{uuid_}", QUOTE, Authorization=OTHER)
    seen = await send(client, "GET", f"{chain.url}/v1/quote/{uuid_}?{LOOK_UP_QUERY}", Authorization=OTHER)
    own = await send(client, "GET", f"{chain.url}/v1/quote/{uuid_}?{LOOK_UP_QUERY}")

    assert (404, "QuoteNotFoundError") == paid.raised[:2]
    assert (404, "QuoteNotFoundError") == seen.raised[:2]
    assert "RESERVED" == own.json["state"]


async def test_the_same_key_of_two_callers_makes_two_quotes(reserve):
    key = f"both-{uuid.uuid4()}"

    assert await reserve(Idempotency_Key=key) != await reserve(Idempotency_Key=key, Authorization=OTHER)


@pytest.mark.fault  # takes 10 seconds, the time limit for a body
async def test_a_body_that_does_not_come_is_408(chain):
    made = headers(Content_Length="500", **{TRACE: "slow-body"})
    head = "".join(f"{name}: {value}\r\n" for name, value in made.items())
    request = f"POST {RESERVE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n{{".encode()
    response = await send_bytes(chain.url, request)
    error = orjson.loads(response.partition(b"\r\n\r\n")[2])

    assert response.startswith(b"HTTP/1.1 408 ")
    assert ("RequestTimeoutError", "dfsp-api", "slow-body") == (
        error["id"],
        error["service"],
        error["traceId"],
    )
