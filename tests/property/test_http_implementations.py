"""Every implementation of HTTP (`QUOTES_HTTP`) sends the same response, in however many parts a request comes."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import ClientResponse
from support.forwarders import BODY, FORWARDERS, hop_of
from support.messages import KEY, TEST, TRACE, UNKNOWN_UUID
from support.settings import HTTP

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "get", "G@T"]
TARGETS = [
    "/v1/quoteSourceAmount",
    f"/v1/payments/{UNKNOWN_UUID}",
    f"/v1/quote/{UNKNOWN_UUID}?identifierType=eur&identifier=30754016",
    f"/v1/quote/{UNKNOWN_UUID}?identifierType=eur&identifier=a%20b",
    f"/v1/quote/{UNKNOWN_UUID}?",
    "/v1/quote/x?y",
    "/v1/quote/x?a=b?c#d",
    "/v1//quoteSourceAmount",
    "//v1/quoteSourceAmount",
    "/v1/quoteSourceAmount/",
    "/v1/%71uoteSourceAmount",
    "/v1/../v1/quoteSourceAmount",
    "/v1/batch",
    "/health/live",
    "/",
    "*",
    "http://a/v1/quoteSourceAmount",
    "/é",
]
FIELDS = [
    "Authorization: " + TEST,
    "authorization: Basic eDp5",
    "Content-Type: application/json",
    "Content-Type: text/plain",
    "Content-Encoding: gzip",
    "Content-Length: 2",
    "Content-Length: 02",
    "Content-Length: +2",
    "Content-Length: 70000",
    "Transfer-Encoding: chunked",
    "Connection: keep-alive",
    "Connection: Close",
    "Connection: keep-alive, x",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "Expect: x",
    "Trailer: x",
    "TE: trailers",
    "Origin: http://a",
    "Host: b",
    "Host:",
    "L1P-Trace-ID: b",
    "Idempotency-Key: a",
    "Idempotency-Key: a b",
    "idempotency-key: a",
    "IDEMPOTENCY-KEY: a",
    "traceparent: a",
    "X-Request-Timeout-Ms: 900",
    "X-Request-Timeout-Ms: 0",
    "X-Empty:",
    "X-Spaces:   b  ",
    "X-Tab:\tb",
    "X-Name : b",
    "X_Name: b",
    "X-Latin: é",
    "X-Long: " + "x" * 4_000,
    "X-Folded: a\r\n b",
    "X-Bare: a\rb",
    "nonsense",
]
BODIES = [b"", b"{}", BODY, b"[", b"x" * 300, b"0\r\n\r\n"]
NEXT = b"DELETE /v1/quoteSourceAmount HTTP/1.1\r\nHost: a\r\nL1p-Trace-Id: next\r\nAuthorization: x\r\n\r\n"

A_UUID = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def comparable(responses: list[ClientResponse]) -> list[Any]:
    """The responses without what a service generates for each: the date, trace ids and keys; and without Connection, which depends on when the client closed its side."""
    return [
        (
            each.status,
            {
                name.lower(): value
                for name, value in each.headers.items()
                if name not in {"Date", "Connection", TRACE, KEY}
            },
            [name in each.headers for name in (TRACE, KEY)],
            A_UUID.sub(b"", each.body),
        )
        for each in responses
    ]


@st.composite
def requests(draw):
    """A request, well-formed or not, in up to three parts."""
    method = draw(st.sampled_from(METHODS[:4]) | st.sampled_from(METHODS))
    head = [f"{method} {draw(st.sampled_from(TARGETS))} HTTP/1.1"]
    head += ["Host: a", "L1p-Trace-Id: first"]
    head += draw(st.lists(st.sampled_from(FIELDS), max_size=5))
    # the response to HEAD has a length and no body: a response after it would be read as its body
    body = b"" if method == "HEAD" else draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        head.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=2)))
    if method != "HEAD":
        data += draw(st.sampled_from([b"", NEXT]))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.skipif(len(HTTP) == 1, reason="there is one implementation of HTTP")
@pytest.mark.parametrize("name", ["dfsp-api", "spsp-server"])
async def test_every_implementation_of_http_sends_the_same_response(name, users_file, client):
    loop = asyncio.get_running_loop()
    async with (
        hop_of(FORWARDERS[name], users_file, client, http=HTTP[0]) as one,
        hop_of(FORWARDERS[name], users_file, client, http=HTTP[1]) as other,
    ):

        async def both(parts: list[bytes]) -> list[object]:
            return [comparable(await hop.send_bytes(*parts, half_close=True)) for hop in (one, other)]

        @settings(
            max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(parts=requests())
        def check(parts):
            first, second = asyncio.run_coroutine_threadsafe(both(parts), loop).result()
            # aiohttp does not serve a second request after the client has closed its side
            both_sent = min(len(first), len(second))
            assert first[:both_sent] == second[:both_sent]
            assert both_sent > 0 or first == second == []

        await asyncio.to_thread(check)


async def test_two_requests_on_one_connection_keep_their_own_headers(users_file, client):
    """They differ in values alone: a server that remembers heads must not mix them up."""
    async with hop_of(FORWARDERS["spsp-server"], users_file, client) as hop:
        data = b"".join(
            hop.request_bytes(L1p_Trace_Id=trace, Idempotency_Key=key, Connection=connection)
            for trace, key, connection in [("b", "a", None), ("d", "c", None), ("f", "e", "close")]
        )
        responses = await hop.send_bytes(data)

        expected = [("b", "a"), ("d", "c"), ("f", "e")]
        assert expected == [(each.headers[TRACE], each.headers[KEY]) for each in responses]
        assert expected == [(each.headers[TRACE], each.headers[KEY]) for each in hop.next_hop.seen]
