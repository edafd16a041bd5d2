"""The requests and responses of each hop, seen by a tap before every service."""

import asyncio
import itertools
import uuid

import orjson
import pytest
from aiohttp import web

from support.client import send
from support.documented import why_undocumented
from support.messages import (
    KEY,
    LOOK_UP_QUERY,
    QUOTE,
    RESERVE,
    RESERVE_DESTINATION,
    TEST,
    TRACE,
    UNKNOWN_UUID,
)
from support.serving import Responder, Seen, reply

pytestmark = pytest.mark.batches

TIMEOUT = "X-Request-Timeout-Ms"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CHAIN = ("spsp-client-proxy", "spsp-client", "spsp-server", "spsp-server-backend", "dfsp-api")


@pytest.fixture
async def person(tapped, taps, register) -> dict[str, str]:
    """A request to pay a person whose DFSP is behind the taps."""
    return await register(tapped.chain, tapped.tap_url("spsp-server"))


def query(person: dict[str, str]) -> str:
    return f"identifierType=eur&identifier={person['identifier']}"


async def test_the_callers_headers_arrive_at_every_hop(tapped, taps, client, person):
    await send(
        client,
        "POST",
        tapped.url + RESERVE,
        person,
        trace="all-hops",
        Idempotency_Key="key-of-all-hops",
        traceparent=TRACEPARENT,
    )

    for name, tap in taps.items():
        (seen,) = tap.seen
        assert (name, TEST, "all-hops", TRACEPARENT) == (
            name,
            seen.headers["Authorization"],
            seen.headers[TRACE],
            seen.headers["traceparent"],
        )
        if name != "central-directory":
            assert "key-of-all-hops" == seen.headers[KEY]
            assert "application/json" == seen.headers["Content-Type"]


async def test_the_first_hop_makes_the_trace_id_and_the_key_for_the_whole_chain(tapped, taps, client, person):
    response = await send(client, "POST", tapped.url + RESERVE, person)

    assert 200 == response.status
    assert {response.headers[TRACE]} == {taps[name].seen[0].headers[TRACE] for name in taps}
    assert {response.headers[KEY]} == {taps[name].seen[0].headers[KEY] for name in CHAIN}


@pytest.mark.parametrize(("given", "limit"), [({TIMEOUT: "9000"}, 9_000), ({}, 10_000)])
async def test_each_hop_reduces_the_time_left(tapped, taps, client, person, given, limit):
    await send(client, "POST", tapped.url + RESERVE, person, **given)
    left = [limit, *(int(taps[name].seen[0].headers[TIMEOUT]) for name in CHAIN)]

    # the time left is rounded down to milliseconds: even the fastest hop takes one
    assert all(before > after for before, after in itertools.pairwise(left)), left
    # the directory's tap holds the proxy up for 30 ms
    assert left[1] - left[2] >= 30


async def test_the_submission_url_goes_from_the_proxy_to_spsp_client_only(tapped, taps, client, person):
    expected = tapped.tap_url("spsp-server")
    reserved = await send(client, "POST", tapped.url + RESERVE, person)
    path = f"/v1/payments/{reserved.json['uuid']}"
    await send(client, "PUT", tapped.url + path, person)
    look_up = f"/v1/quote/{reserved.json['uuid']}"
    await send(client, "GET", f"{tapped.url}{look_up}?{query(person)}")

    with_url = taps["spsp-client"].seen
    assert [expected + RESERVE, expected + path] == [seen.json["submissionUrl"] for seen in with_url[:2]]
    assert f"submissionUrl={expected.replace(':', '%3A')}" in with_url[2].target.replace("%2F", "/")
    for name in set(CHAIN) - {"spsp-client"}:
        for seen in taps[name].seen:
            assert b"submissionUrl" not in seen.body
            assert "submissionUrl" not in seen.target


async def test_the_callers_values_cross_every_hop_as_written(tapped, taps, client, person):
    body = orjson.dumps({**person, "amount": "7.50", "currencySymbol": "é"})
    await send(client, "POST", tapped.url + RESERVE_DESTINATION, body)

    for name in CHAIN:
        assert "7.50" == taps[name].seen[0].json["amount"]
        assert "é" == taps[name].seen[0].json["currencySymbol"]
        assert RESERVE_DESTINATION == taps[name].seen[0].target


async def test_the_proxy_caches_the_directorys_response_until_sighup(tapped, taps, client, person):
    for _ in range(2):
        assert 200 == (await send(client, "POST", tapped.url + RESERVE, person)).status
    remembered = len(taps["central-directory"].seen)
    tapped.chain.forget_directory()
    assert 200 == (await send(client, "POST", tapped.url + RESERVE, person)).status

    assert (1, 2) == (remembered, len(taps["central-directory"].seen))
    assert f"/resources?{query(person)}" == taps["central-directory"].seen[0].target


@pytest.mark.parametrize("status", [400, 404, 409, 410, 418, 422, 429, 451])
async def test_a_4xx_of_the_last_hop_arrives_unchanged_at_the_first(tapped, taps, client, person, status):
    body = b'{ "id":"TheirsError" ,"more":[1.50, "\\u00e9"]}\n'
    taps["dfsp-api"].answer = reply(
        status, body, Content_Type="application/json; charset=utf-8", Retry_After="7"
    )
    response = await send(client, "POST", tapped.url + RESERVE, person)

    assert (status, body) == (response.status, response.body)
    assert "application/json; charset=utf-8" == response.headers["Content-Type"]
    assert "7" == response.headers["Retry-After"]
    assert 1 == len(taps["dfsp-api"].seen)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_5xx_with_our_error_object_arrives_unchanged_at_the_first(
    tapped, taps, client, person, status
):
    body = b'{"id":"TheirsError","message":"m","service":"theirs","traceId":"t"}'
    taps["dfsp-api"].answer = reply(status, body, Retry_After="3")
    response = await send(client, "POST", tapped.url + RESERVE, person)

    assert (status, body, "3") == (response.status, response.body, response.headers["Retry-After"])
    assert 1 == len(taps["dfsp-api"].seen)


HTML = reply(200, b"<html>", Content_Type="text/html")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        *((name, HTML) for name in CHAIN),
        ("spsp-server", reply(200, b"[1]")),
        ("spsp-server", reply(200, b'{"x": "' + b"x" * 65_536 + b'"}')),
        ("spsp-server", reply(302, b"{}", Location="http://127.0.0.1:9/")),
        ("spsp-server", reply(500, b"Internal Server Error", Content_Type="text/plain")),
        ("spsp-server", reply(503, b"{}")),
        ("spsp-server", reply(204, b"")),
    ],
    ids=[*CHAIN, "list", "too long", "redirect", "plain 500", "503 without id", "204"],
)
async def test_an_invalid_response_is_a_502_of_the_hop_before(tapped, taps, client, person, name, theirs):
    taps[name].answer = theirs
    response = await send(client, "POST", tapped.url + RESERVE, person, trace="no-answer")
    before = dict(zip(CHAIN, ("dfsp-api", *CHAIN), strict=False))[name]

    assert (502, "UpstreamError", before, "no-answer") == response.raised
    assert name in response.json["message"]
    assert "127.0.0.1" not in response.json["message"]
    assert 1 == len(taps[name].seen)


async def test_a_4xx_with_another_body_keeps_its_status_and_gets_our_object(tapped, taps, client, person):
    taps["dfsp-api"].answer = reply(415, b"no", Content_Type="text/plain")
    response = await send(client, "POST", tapped.url + RESERVE, person, trace="plain")

    assert (415, "UnsupportedMediaTypeError", "spsp-server-backend", "plain") == response.raised


def closes(times: int, then: Responder) -> Responder:
    """Close the connection before the first byte, this many times."""
    left = itertools.count(times, -1)

    async def answer(seen: Seen) -> web.StreamResponse:
        if next(left) > 0:
            seen.transport.abort()
            return web.Response()
        return await then(seen)

    return answer


OPERATIONS = [
    ("POST", RESERVE),
    ("PUT", f"/v1/payments/{UNKNOWN_UUID}"),
    ("GET", f"/v1/quote/{UNKNOWN_UUID}"),
]


@pytest.mark.parametrize(("method", "target"), OPERATIONS)
@pytest.mark.parametrize("name", ["spsp-client-proxy", "dfsp-api"])
async def test_a_connection_closed_before_the_response_is_tried_once_more(
    tapped, taps, client, person, name, method, target
):
    taps[name].answer = closes(1, taps[name].answer)
    query_ = f"?{query(person)}" if method == "GET" else ""
    body = None if method == "GET" else person
    response = await send(client, method, tapped.url + target + query_, body)

    assert (200 if method == "POST" else 404) == response.status
    assert 2 == len(taps[name].seen)
    assert taps[name].seen[0].body == taps[name].seen[1].body
    assert taps[name].seen[0].headers.get(KEY) == taps[name].seen[1].headers.get(KEY)


@pytest.mark.parametrize(("method", "target"), OPERATIONS)
@pytest.mark.parametrize("name", ["spsp-client-proxy", "spsp-server", "dfsp-api"])
async def test_no_request_is_tried_a_third_time_however_many_hops_there_are(
    tapped, taps, client, person, name, method, target
):
    taps[name].answer = closes(9, taps[name].answer)
    query_ = f"?{query(person)}" if method == "GET" else ""
    body = None if method == "GET" else person
    response = await send(client, method, tapped.url + target + query_, body)

    assert (502, "UpstreamError") == response.raised[:2]
    assert 2 == len(taps[name].seen)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, (401, "UnauthorizedError")),
        (404, (404, "ReceiverNotFoundError")),
        (403, (502, "UpstreamError")),
        (500, (502, "UpstreamError")),
    ],
)
async def test_an_error_of_the_directory_is_an_error_of_the_proxy(
    tapped, taps, client, person, status, expected
):
    taps["central-directory"].answer = reply(status, {"id": "x"})
    response = await send(client, "POST", tapped.url + RESERVE, person, trace="dir")

    assert (*expected, "spsp-client-proxy", "dir") == response.raised
    assert not taps["spsp-client"].seen


@pytest.mark.parametrize("name", ["central-directory", *CHAIN])
async def test_a_service_that_does_not_respond_is_504_at_the_callers_deadline(
    tapped, taps, client, person, name
):
    async def never(_seen):
        await asyncio.sleep(60)

    taps[name].answer = never
    for timeout_ms in (800, 8_000):  # a busy machine may need longer until the request is there
        began = asyncio.get_running_loop().time()
        response = await send(
            client, "POST", tapped.url + RESERVE, person, trace="never", X_Request_Timeout_Ms=str(timeout_ms)
        )
        seconds = asyncio.get_running_loop().time() - began
        if taps[name].seen:
            break

    assert (504, "UpstreamTimeoutError") == response.raised[:2]
    assert why_undocumented(504, response.headers, response.body, "never") is None
    assert 0.75 < seconds < 30
    assert 1 == len(taps[name].seen)


async def test_a_repetition_with_the_same_key_returns_the_same_quote(tapped, taps, client, person):
    key = str(uuid.uuid4())
    first = await send(client, "POST", tapped.url + RESERVE, person, Idempotency_Key=key)
    again = await send(client, "POST", tapped.url + RESERVE, person, Idempotency_Key=key)

    assert (200, first.body) == (again.status, again.body)


async def test_no_other_service_is_called_before_the_request_is_checked(tapped, taps, client):
    await send(client, "POST", tapped.url + RESERVE, {**QUOTE, "amount": "x"})
    await send(client, "POST", tapped.url + RESERVE, QUOTE, Authorization="Basic eDp5")
    await send(client, "GET", f"{tapped.url}/v1/quote/x?{LOOK_UP_QUERY}")

    assert {name: [] for name in taps} == {name: tap.seen for name, tap in taps.items()}
