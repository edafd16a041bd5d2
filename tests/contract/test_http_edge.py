"""The edge of HTTP: any bytes on a socket get a documented response, and nothing invalid goes on.

Each test runs with every implementation of HTTP (`QUOTES_HTTP`).
"""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client import ClientResponse, is_error_object
from support.forwarders import DESTINATION, EXECUTE, LOOK_UP, SOURCE, ClientRequest, Hop
from support.internals import is_idle
from support.messages import KEY, RESERVE, TEST, TRACE
from support.payee import until
from support.serving import connection, send_bytes
from support.settings import HTTP

MAX_LINE = 8_190
LIVE = ClientRequest("GET", "/health/live")


@pytest.fixture(params=HTTP)
def http(request) -> str:
    return request.param


@pytest.fixture(params=["dfsp-api", "spsp-server"])
async def hop(request, http, shared_hop) -> Hop:
    """A hop that reads bodies, and one that passes them on."""
    return await shared_hop(request.param, http=http)


GET = b"GET /v1/quote/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
POST = (
    b"POST /v1/quoteSourceAmount HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Authorization: " + TEST.encode() + b"\r\n"
)

MALFORMED = {
    "words": b"hello\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "an unknown version": b"GET / HTTP/x\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "a method with a sign": b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "zero bytes": b"\x00\x00\x00\x00\r\n\r\n",
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header without a name": GET + b": x\r\n\r\n",
    "a space before the colon": GET + b"X-A : b\r\n\r\n",
    "a space in a header's name": GET + b"X A: b\r\n\r\n",
    "a folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "a zero in a header": GET + b"X-A: b\x00c\r\n\r\n",
    "a bare CR in a header": GET + b"X-A: b\rX-B: c\r\n\r\n",
    "a control character in a header's name": GET + b"X\x01A: b\r\n\r\n",
    "a length in words": POST + b"Content-Length: ten\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length of 30 digits": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "an empty length": POST + b"Content-Length:\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two lengths in one": POST + b"Content-Length: 2, 3\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks that do not come last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "an unknown encoding": POST + b"Transfer-Encoding: nonsense\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


async def test_malformed_http_is_a_4xx_with_the_error_object(hop):
    for name, data in MALFORMED.items():
        response = (await hop.send_bytes(data))[0]

        assert 400 <= response.status < 500, name
        assert is_error_object(response), name
        assert hop.service == response.json["service"], name
        assert [] == hop.next_hop.seen + hop.directory.seen, name


@pytest.mark.parametrize("name", ["spsp-client-proxy", "spsp-client", "spsp-server-backend"])
async def test_malformed_http_is_a_4xx_at_every_other_service_too(shared_hop, http, name):
    hop = await shared_hop(name, http=http)

    [response] = await hop.send_bytes(MALFORMED["a header without a colon"])

    assert (400, "InvalidHeaderError", name) == (response.status, response.id, response.json["service"])
    assert is_error_object(response)


def unusual(hop: Hop) -> dict[str, bytes]:
    """Requests that are well-formed, or nearly so."""
    look_up, reserve = hop.request_bytes(LOOK_UP), hop.request_bytes(SOURCE)
    chunked = hop.request_bytes(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
    )
    return {
        "no Host": look_up.replace(b"Host: hop\r\n", b""),
        "two Hosts": look_up.replace(b"Host: hop\r\n", b"Host: a\r\nHost: b\r\n"),
        "an odd Host": look_up.replace(b"Host: hop", b"Host: a b@c:d/e"),
        "HTTP/1.0": look_up.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/1.0 without a Host": reserve.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: hop\r\n", b""),
        "HTTP/1.0 with Expect": hop.request_bytes(SOURCE, Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/0.9": b"GET /health/live\r\n\r\n",
        "bare newlines": look_up.replace(b"\r\n", b"\n"),
        "newlines in front": b"\r\n\r\n" + look_up,
        "an upgrade": hop.request_bytes(LOOK_UP, Connection="Upgrade, close", Upgrade="websocket"),
        "an upgrade to HTTP/2": hop.request_bytes(SOURCE, Connection="Upgrade, HTTP2-Settings, close", Upgrade="h2c"),
        "an upgrade with a body": hop.request_bytes(SOURCE, Connection="Upgrade, close", Upgrade="websocket"),
        "CONNECT": b"CONNECT ledger.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "a URL as target": look_up.replace(b"GET /", b"GET http://hop/"),
        "another's URL": look_up.replace(b"GET /", b"GET http://evil.example/"),
        "a URL with a user": look_up.replace(b"GET /", b"GET http://a:b@evil.example/"),
        "a URL of another scheme": look_up.replace(b"GET /", b"GET file:///"),
        "a URL with a port in words": look_up.replace(b"GET /", b"GET http://evil.example:x/"),
        "a URL with an open bracket": look_up.replace(b"GET /", b"GET http://[::1/"),
        "a target without a slash": look_up.replace(b"GET /", b"GET "),
        "two slashes": look_up.replace(b"GET /", b"GET //evil.example/"),
        "a fragment": look_up.replace(b" HTTP/1.1", b"#x HTTP/1.1"),
        "bytes in the query": look_up.replace(b"30754016 ", b"\xff\xfe "),
        "UTF-8 in the path": look_up.replace(b"/v1/quote", b"/v1/qu\xc3\xb6te"),
        "a body with GET": look_up.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
        "a body in chunks with GET": look_up.replace(
            b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        "200 headers": look_up.replace(b"\r\n\r\n", b"\r\n" + b"X-A: b\r\n" * 200 + b"\r\n"),
        "a trailer": chunked + b"2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n",
        "a chunk extension": chunked + b"2;a=b\r\n{}\r\n0\r\n\r\n",
        "TRACE with a body": hop.request_bytes(ClientRequest("TRACE", RESERVE, body=b"{}"), adapt=False),
    }  # fmt: skip


async def test_an_unusual_request_gets_a_documented_response(hop):
    for name, data in unusual(hop).items():
        [response] = [each for each in await hop.send_bytes(data) if each.status >= 200]

        assert response.status == 200 or (response.status < 500 and is_error_object(response)), name
        assert TRACE in response.headers, name
    assert {seen.target.partition("?")[0] for seen in hop.next_hop.seen} <= {LOOK_UP.path, SOURCE.path}


def with_line(hop: Hop, line: bytes) -> bytes:
    return hop.request_bytes(LOOK_UP).replace(b"Connection:", line + b"\r\nConnection:")


async def test_a_header_line_has_at_most_8_190_bytes(hop):
    for name, begin in [
        (b"X-A", b""),
        (b"Authorization", b"Basic "),
        (b"L1p-Trace-Id", b""),
        (b"GET", b"/v1"),
        (b"Referer", b"http://"),
    ]:
        [rejected] = await hop.send_bytes(with_line(hop, name + b": " + begin.ljust(MAX_LINE, b"x")))

        assert (400, "InvalidHeaderError") == (rejected.status, rejected.id)
        assert is_error_object(rejected)
        assert [] == hop.next_hop.seen
    [accepted] = await hop.send_bytes(with_line(hop, b"X-A: ".ljust(MAX_LINE, b"x")))

    assert 200 == accepted.status


async def test_a_url_has_at_most_8_190_bytes(hop):
    for method in [b"GET", b"POST", b"OPTIONS"]:
        for begin in [b"/v1/", b"/v1/quoteSourceAmount?x=", b"http://a/"]:
            url = begin.ljust(MAX_LINE + 1, b"x")
            [rejected] = await hop.send_bytes(method + b" " + url + b" HTTP/1.1\r\nHost: a\r\n\r\n")

            assert (400, "InvalidUriParameterError") == (rejected.status, rejected.id)
            assert is_error_object(rejected)
    longest = ClientRequest("GET", "/".ljust(MAX_LINE, "x"))
    [accepted] = await hop.send_bytes(hop.request_bytes(longest, adapt=False))

    assert 404 == accepted.status


async def test_an_incomplete_body_is_400_when_the_client_closes_its_side(hop):
    head, _, _ = hop.request_bytes(SOURCE).partition(b"\r\n\r\n")
    for data in (hop.request_bytes(SOURCE)[:-10], head + b"\r\n\r\n", hop.request_bytes(EXECUTE)[:-1]):
        [response] = await hop.send_bytes(data, half_close=True)

        assert (400, "InvalidBodyError") == (response.status, response.id)
        assert is_error_object(response)
        assert [] == hop.next_hop.seen


CHUNKS = {
    "no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative number": b"-2\r\n{}\r\n0\r\n\r\n",
    "a huge number": b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "a number too small": b"1\r\n{}\r\n0\r\n\r\n",
    "a number too large by one": b"3\r\n{}\r\n0\r\n\r\n",
    "no line end after the chunk": b"2\r\n{}0\r\n\r\n",
    "bare newlines": b"2\n{}\n0\n\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
}


async def test_malformed_or_incomplete_chunks_are_400(hop):
    head = hop.request_bytes(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
    )
    for name, chunks in CHUNKS.items():
        response = (await hop.send_bytes(head + chunks))[0]

        assert (400, True) == (response.status, is_error_object(response)), name
    for chunks in [b"", b"2", b"2\r\n{", b"2\r\n{}\r\n", b"2\r\n{}\r\n0\r\n"]:
        [response] = await hop.send_bytes(head + chunks, half_close=True)

        assert (400, "InvalidBodyError") == (response.status, response.id), chunks
    assert [] == hop.next_hop.seen


async def test_an_incomplete_body_of_a_rejected_request_is_logged_as_no_failure(hop, caplog):
    data = hop.request_bytes(SOURCE, Authorization=None)[:-10]
    [response] = await hop.send_bytes(data, half_close=True)

    assert 401 == response.status
    assert [] == caplog.records


async def test_a_client_that_closes_its_side_after_a_complete_request_gets_its_response(hop):
    for operation in (SOURCE, LOOK_UP):
        [response] = await hop.send_bytes(hop.request_bytes(operation), half_close=True)

        assert 200 == response.status


async def test_a_client_that_has_gone_does_no_harm(hop):
    request = hop.request_bytes(SOURCE)
    for data in (b"", b"GET", request[:40], request[:-5], request):
        async with connection(hop.url) as (_, writer):
            writer.write(data)
            await writer.drain()
            writer.transport.abort()

    assert 200 == (await hop.send()).status

    async def idle() -> bool:
        return is_idle(hop.app)

    await until(idle)


async def test_pipelined_requests_are_answered_in_their_order(hop):
    data = b"".join(
        hop.request_bytes(operation, Connection="keep-alive", L1p_Trace_Id=f"trace-{number}")
        for number, operation in enumerate([SOURCE, LOOK_UP, EXECUTE])
    ) + hop.request_bytes(ClientRequest("GET", "/nothing"), adapt=False, L1p_Trace_Id="trace-3")

    responses = await hop.send_bytes(data)

    assert [200, 200, 200, 404] == [response.status for response in responses]
    assert [f"trace-{number}" for number in range(4)] == [each.headers[TRACE] for each in responses]


async def test_a_body_is_never_read_as_the_next_request(hop):
    """A rejection may leave a part of the body unread. That part is not served as a request."""
    inner = hop.request_bytes(SOURCE)
    for wrong in ({"Authorization": None}, {"Content_Type": "text/plain"}, {"X_Request_Timeout_Ms": "0"}):
        responses = await hop.send_bytes(hop.request_bytes(replace(SOURCE, body=inner), adapt=False, **wrong))

        assert 1 == len(responses)
    responses = await hop.send_bytes(hop.request_bytes(replace(LIVE, body=inner), adapt=False))

    assert [200] == [response.status for response in responses]
    assert [] == hop.next_hop.seen


async def test_a_connection_stays_open_after_a_rejection(hop):
    data = hop.request_bytes(LOOK_UP, Authorization=None, Connection="keep-alive")

    responses = await hop.send_bytes(data + hop.request_bytes(LOOK_UP))

    assert [401, 200] == [response.status for response in responses]


async def test_no_header_is_injected(hop):
    for name in [TRACE, KEY, "traceparent", "Origin"]:
        for value in ["a\r\nX-Injected: 1", "a\nX-Injected: 1", "%0d%0aX-Injected: 1", "a\u2028b", "a\x0bb"]:
            data = hop.request_bytes(SOURCE).replace(
                b"Connection:", f"{name}: {value}\r\nConnection:".encode()
            )

            [response] = await hop.send_bytes(data)

            assert "X-Injected" not in response.headers
            for seen in hop.next_hop.seen + hop.directory.seen:
                assert "X-Injected" not in seen.headers


async def test_arbitrary_bytes_get_a_documented_response_or_none(hop):
    """None where the bytes are no request yet: then the connection just ends."""
    loop = asyncio.get_running_loop()
    pieces = st.sampled_from(
        [b"GET ", b"POST ", b"/v1/quoteSourceAmount", b"/", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: a", b": ",
         b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Authorization: " + TEST.encode(), b"{}", b"0\r\n\r\n"]
    )  # fmt: skip

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.lists(pieces | st.binary(max_size=20), max_size=25).map(b"".join))
    def check(data):
        coroutine = hop.send_bytes(data, half_close=True)
        for response in asyncio.run_coroutine_threadsafe(coroutine, loop).result():
            assert response.status < 500
            assert response.status in {100, 200} or is_error_object(response)

    await asyncio.to_thread(check)


async def test_a_response_to_head_has_no_body(hop):
    """The client would read a body as the next response on the connection."""
    request = f"HEAD {RESERVE} HTTP/1.1\r\nHost: x\r\n%s\r\n"
    received = await send_bytes(hop.url, (request % "" + request % "Connection: close\r\n").encode())
    heads = received.split(b"\r\n\r\n")

    assert [b"HTTP/1.1 405 ", b"HTTP/1.1 405 ", b""] == [head[:13] for head in heads]


FIXED = {TRACE.replace("-", "_"): "trace", KEY.replace("-", "_"): "key"}


def whole_requests(hop: Hop) -> dict[str, bytes]:
    """Requests that are split below: good and bad, with and without a body, one and several."""
    chunked = hop.request_bytes(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked", **FIXED
    )
    return {
        "a reservation": hop.request_bytes(SOURCE, **FIXED),
        "an execution": hop.request_bytes(EXECUTE, **FIXED),
        "a look-up": hop.request_bytes(LOOK_UP, **FIXED),
        "chunks": chunked + b"80\r\n" + hop.adapted(SOURCE).body[:128] + b"\r\n"
        + b"%x\r\n" % (len(hop.adapted(SOURCE).body) - 128) + hop.adapted(SOURCE).body[128:] + b"\r\n0\r\n\r\n",
        "an expectation": hop.request_bytes(DESTINATION, Expect="100-continue", **FIXED),
        "wrong credentials": hop.request_bytes(LOOK_UP, Authorization="Basic x", **FIXED),
        "a malformed body": hop.request_bytes(replace(SOURCE, body=b"{"), adapt=False, **FIXED),
        "a header twice": hop.request_bytes(SOURCE, **FIXED).replace(b"Connection:", b"Idempotency-Key: b\r\nConnection:"),
        "an unknown path": hop.request_bytes(ClientRequest("GET", "/nowhere"), adapt=False, **FIXED),
        "malformed HTTP": hop.request_bytes(LOOK_UP, **FIXED).replace(b"Host: hop", b"Host : hop"),
        "two requests": hop.request_bytes(SOURCE, **{**FIXED, "Connection": None}) + hop.request_bytes(LOOK_UP, **FIXED),
    }  # fmt: skip


def comparable(responses: list[ClientResponse]) -> list[object]:
    """The responses without what differs each time: interim responses, the date and a trace id that was made."""
    return [
        (
            each.status,
            {name: value for name, value in each.headers.items() if name not in {"Date", TRACE}},
            each.body.replace(each.headers.get(TRACE, "").encode(), b""),
        )
        for each in responses
        if each.status != 100
    ]


async def in_parts(hop: Hop, *parts: bytes) -> list[object]:
    return comparable(await hop.send_bytes(*parts))


@pytest.mark.parametrize("name", ["a reservation", "an execution", "a look-up", "chunks", "an expectation",
    "wrong credentials", "a malformed body", "a header twice", "an unknown path", "malformed HTTP", "two requests"])  # fmt: skip
async def test_a_request_is_answered_alike_wherever_its_bytes_are_split(shared_hop, http, name):
    hop = await shared_hop("dfsp-api", http=http)
    data = whole_requests(hop)[name]
    whole = await in_parts(hop, data)
    assert whole

    for begin in range(1, len(data), 50):
        positions = range(begin, min(begin + 50, len(data)))
        split = await asyncio.gather(*(in_parts(hop, data[:at], data[at:]) for at in positions))

        assert dict.fromkeys(positions, whole) == dict(zip(positions, split, strict=True))
    assert whole == await in_parts(hop, *(data[at : at + 1] for at in range(len(data))))
