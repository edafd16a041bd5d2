"""HTTP's edge: whatever comes over a socket, the answer is documented, in time, and nothing goes on."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.app import SERVICE
from support.forwarders import EXECUTE, LOOK_UP, SOURCE, Ask, is_error_object
from support.messages import RESERVE, TEST
from support.serving import raw

MAX_LINE = 8_190

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
    "a version that is none": b"GET / HTTP/x\r\n\r\n",
    "HTTP/3.0": b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    "a method that is none": b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "zero bytes": b"\x00\x00\x00\x00\r\n\r\n",
    "a header without a colon": GET + b"nonsense\r\n\r\n",
    "a header without a name": GET + b": x\r\n\r\n",
    "a blank before the colon": GET + b"X-A : b\r\n\r\n",
    "a blank in a header's name": GET + b"X A: b\r\n\r\n",
    "a folded header": GET + b"X-A: b\r\n c\r\n\r\n",
    "a zero in a header": GET + b"X-A: b\x00c\r\n\r\n",
    "a bare CR in a header": GET + b"X-A: b\rX-B: c\r\n\r\n",
    "a control character in a header's name": GET + b"X\x01A: b\r\n\r\n",
    "a length that is none": POST + b"Content-Length: ten\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "a length with a sign": POST + b"Content-Length: +2\r\n\r\n{}",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\n{}",
    "a length of 30 digits": POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n",
    "a length that is empty": POST + b"Content-Length:\r\n\r\n",
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "two lengths in one": POST + b"Content-Length: 2, 3\r\n\r\n{}",
    "length and chunks": POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
    "chunks that do not come last": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "an encoding nobody knows": POST + b"Transfer-Encoding: nonsense\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


async def test_malformed_http_is_a_4xx_with_the_error_object(hop):
    for data in MALFORMED.values():
        answer = (await hop.raw(data))[0]

        assert 400 <= answer.status < 500
        assert is_error_object(answer)
        assert hop.service == answer.json["service"]
        assert [] == hop.next_hop.seen + hop.directory.seen


def odd(hop) -> dict[str, bytes]:
    """Well-formed enough, or nearly; whatever is answered must be documented."""
    look_up, reserve = hop.written(LOOK_UP), hop.written(SOURCE)
    return {
        "no Host": look_up.replace(b"Host: hop\r\n", b""),
        "two Hosts": look_up.replace(b"Host: hop\r\n", b"Host: a\r\nHost: b\r\n"),
        "an odd Host": look_up.replace(b"Host: hop", b"Host: a b@c:d/e"),
        "HTTP/1.0": look_up.replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/1.0 without a Host": reserve.replace(b"HTTP/1.1", b"HTTP/1.0").replace(b"Host: hop\r\n", b""),
        "HTTP/1.0 that expects": hop.written(SOURCE, Expect="100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"),
        "HTTP/0.9": b"GET /health/live\r\n\r\n",
        "bare newlines": look_up.replace(b"\r\n", b"\n"),
        "newlines in front": b"\r\n\r\n" + look_up,
        "an upgrade": hop.written(LOOK_UP, Connection="Upgrade, close", Upgrade="websocket"),
        "an upgrade to HTTP/2": hop.written(SOURCE, Connection="Upgrade, HTTP2-Settings, close", Upgrade="h2c"),
        "an upgrade with a body": hop.written(SOURCE, Connection="Upgrade, close", Upgrade="websocket"),
        "CONNECT": b"CONNECT ledger.example:443 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "a target that is a URL": look_up.replace(b"GET /", b"GET http://hop/"),
        "another's URL": look_up.replace(b"GET /", b"GET http://evil.example/"),
        "a URL with a user": look_up.replace(b"GET /", b"GET http://a:b@evil.example/"),
        "a URL of another kind": look_up.replace(b"GET /", b"GET file:///"),
        "a URL with a port that is none": look_up.replace(b"GET /", b"GET http://evil.example:x/"),
        "a URL with an open bracket": look_up.replace(b"GET /", b"GET http://[::1/"),
        "a target without a slash": look_up.replace(b"GET /", b"GET "),
        "two slashes": look_up.replace(b"GET /", b"GET //evil.example/"),
        "a fragment": look_up.replace(b" HTTP/1.1", b"#x HTTP/1.1"),
        "bytes in the query": look_up.replace(b"30754016 ", b"\xff\xfe "),
        "UTF-8 in the path": look_up.replace(b"/v1/quote", b"/v1/qu\xc3\xb6te"),
        "a body with GET": look_up.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
        "a body with chunks with GET": look_up.replace(
            b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        ),
        "200 headers": look_up.replace(b"\r\n\r\n", b"\r\n" + b"X-A: b\r\n" * 200 + b"\r\n"),
        "a trailer": hop.written(replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked")
        + b"2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n",
        "a chunk extension": hop.written(
            replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
        )
        + b"2;a=b\r\n{}\r\n0\r\n\r\n",
        "TRACE with a body": hop.written(Ask("TRACE", "/v1/quoteSourceAmount", body=b"{}"), adapt=False),
    }  # fmt: skip


async def test_odd_http_gets_a_documented_answer(hop):
    for name, data in odd(hop).items():
        [answer] = [each for each in await hop.raw(data) if each.status >= 200]

        assert answer.status == 200 or (answer.status < 500 and is_error_object(answer)), name
        assert "L1p-Trace-Id" in answer.headers, name
    assert {seen.target.partition("?")[0] for seen in hop.next_hop.seen} <= {LOOK_UP.path, SOURCE.path}


def with_line(hop, line: bytes) -> bytes:
    return hop.written(LOOK_UP).replace(b"Connection:", line + b"\r\nConnection:")


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        (b"X-A", b""),
        (b"Authorization", b"Basic "),
        (b"L1p-Trace-Id", b""),
        (b"GET", b"/v1"),
        (b"Referer", b"http://"),
    ],
)
async def test_a_header_line_over_8_190_bytes_is_400(hop, name, begin):
    [answer] = await hop.raw(with_line(hop, name + b": " + begin.ljust(MAX_LINE, b"x")))

    assert (400, "InvalidHeaderError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen


async def test_a_header_line_of_8_190_bytes_is_taken(hop):
    [answer] = await hop.raw(with_line(hop, b"X-A: ".ljust(MAX_LINE, b"x")))

    assert 200 == answer.status


@pytest.mark.parametrize("method", [b"GET", b"POST", b"OPTIONS"])
@pytest.mark.parametrize("begin", [b"/v1/", b"/v1/quoteSourceAmount?x=", b"http://a/"])
async def test_a_url_over_8_190_bytes_is_400(hop, method, begin):
    url = begin.ljust(MAX_LINE + 1, b"x")
    [answer] = await hop.raw(method + b" " + url + b" HTTP/1.1\r\nHost: a\r\n\r\n")

    assert (400, "InvalidUriParameterError") == (answer.status, answer.id)
    assert is_error_object(answer)


async def test_a_url_of_8_190_bytes_is_looked_at(hop):
    [answer] = await hop.raw(hop.written(Ask("GET", "/".ljust(MAX_LINE, "x")), adapt=False))

    assert 404 == answer.status


CUT = {
    "a body that stays half": lambda hop: hop.written(SOURCE)[:-10],
    "no body": lambda hop: hop.written(SOURCE).partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
    "half a body of execute": lambda hop: hop.written(EXECUTE)[:-1],
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT.keys())
async def test_a_body_cut_off_is_400(hop, data):
    """The caller has closed its side and reads on."""
    [answer] = await hop.raw(data(hop), half_close=True)

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert [] == hop.next_hop.seen


CHUNKS = {
    "no number": b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative number": b"-2\r\n{}\r\n0\r\n\r\n",
    "a number too large": b"f" * 20 + b"\r\n{}\r\n0\r\n\r\n",
    "a number too small": b"1\r\n{}\r\n0\r\n\r\n",
    "a number too big by one": b"3\r\n{}\r\n0\r\n\r\n",
    "no line end behind it": b"2\r\n{}0\r\n\r\n",
    "bare newlines": b"2\n{}\n0\n\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_broken_chunks_are_400(hop, chunks):
    head = hop.written(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
    )

    answer = (await hop.raw(head + chunks))[0]

    assert (400, True) == (answer.status, is_error_object(answer))
    assert [] == hop.next_hop.seen


@pytest.mark.parametrize("chunks", [b"", b"2", b"2\r\n{", b"2\r\n{}\r\n", b"2\r\n{}\r\n0\r\n"])
async def test_chunks_cut_off_are_400(hop, chunks):
    head = hop.written(
        replace(SOURCE, body=b""), adapt=False, Content_Length=None, Transfer_Encoding="chunked"
    )

    [answer] = await hop.raw(head + chunks, half_close=True)

    assert (400, "InvalidBodyError") == (answer.status, answer.id)
    assert [] == hop.next_hop.seen


async def test_a_body_cut_off_behind_a_refusal_is_no_failure_of_ours(hop, caplog):
    [answer] = await hop.raw(hop.written(SOURCE, Authorization=None)[:-10], half_close=True)

    assert 401 == answer.status
    assert [] == caplog.records


async def test_a_caller_that_closes_its_side_after_a_whole_request_gets_its_answer(hop):
    for ask in (SOURCE, LOOK_UP):
        [answer] = await hop.raw(hop.written(ask), half_close=True)

        assert 200 == answer.status


async def test_a_caller_that_has_gone_does_no_harm(hop):
    host, port = hop.url.removeprefix("http://").split(":")
    for data in (b"", b"GET", hop.written(SOURCE)[:40], hop.written(SOURCE)[:-5], hop.written(SOURCE)):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        await writer.drain()
        writer.transport.abort()
        await asyncio.sleep(0.01)

    assert 200 == (await hop.send()).status
    assert 0 == hop.app[SERVICE].in_hand


async def test_requests_in_a_row_are_answered_in_a_row(hop):
    data = b"".join(
        hop.written(ask, Connection="keep-alive", L1p_Trace_Id=f"trace-{number}")
        for number, ask in enumerate([SOURCE, LOOK_UP, EXECUTE])
    ) + hop.written(Ask("GET", "/nothing"), adapt=False, L1p_Trace_Id="trace-3")

    answers = await hop.raw(data)

    assert [200, 200, 200, 404] == [answer.status for answer in answers]
    assert [f"trace-{number}" for number in range(4)] == [a.headers["L1p-Trace-Id"] for a in answers]


async def test_a_body_is_never_read_as_the_next_request(hop):
    """Whatever a refusal leaves unread of a body, no second request comes out of it."""
    inner = hop.written(SOURCE)
    for wrong in ({"Authorization": None}, {"Content_Type": "text/plain"}, {"X_Request_Timeout_Ms": "0"}):
        answers = await hop.raw(hop.written(replace(SOURCE, body=inner), adapt=False, **wrong))

        assert 1 == len(answers)
    answers = await hop.raw(hop.written(Ask("GET", "/health/live", body=inner), adapt=False))

    assert [200] == [answer.status for answer in answers]
    assert [] == hop.next_hop.seen


async def test_a_connection_serves_on_after_a_refusal(hop):
    data = hop.written(LOOK_UP, Authorization=None, Connection="keep-alive") + hop.written(LOOK_UP)

    assert [401, 200] == [answer.status for answer in await hop.raw(data)]


@pytest.mark.parametrize("name", ["L1p-Trace-Id", "Idempotency-Key", "traceparent", "Origin"])
async def test_no_header_is_injected(hop, name):
    for value in ["a\r\nX-Injected: 1", "a\nX-Injected: 1", "%0d%0aX-Injected: 1", "a\u2028b", "a\x0bb"]:
        data = hop.written(SOURCE).replace(b"Connection:", f"{name}: {value}\r\nConnection:".encode())

        [answer] = await hop.raw(data)

        assert "X-Injected" not in answer.headers
        for seen in hop.next_hop.seen + hop.directory.seen:
            assert "X-Injected" not in seen.headers


async def test_arbitrary_bytes_on_a_socket_get_a_documented_answer_or_none(hop):
    """None only where what came is not yet a request: then the connection just ends."""
    loop = asyncio.get_running_loop()
    pieces = st.sampled_from(
        [b"GET ", b"POST ", b"/v1/quoteSourceAmount", b"/", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: a", b": ",
         b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Authorization: " + TEST.encode(), b"{}", b"0\r\n\r\n"]
    )  # fmt: skip

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.lists(pieces | st.binary(max_size=20), max_size=25).map(b"".join))
    def check(data):
        coroutine = hop.raw(data, half_close=True)
        for answer in asyncio.run_coroutine_threadsafe(coroutine, loop).result(10):
            assert answer.status < 500
            assert answer.status in {100, 200} or is_error_object(answer)

    await asyncio.to_thread(check)


async def test_a_reply_to_head_has_no_body(hop):
    """What stood behind it would be taken for the next reply on the connection."""
    request = f"HEAD {RESERVE} HTTP/1.1\r\nHost: x\r\n%s\r\n"
    said = await raw(hop.url, (request % "" + request % "Connection: close\r\n").encode())
    heads = said.split(b"\r\n\r\n")

    assert [b"HTTP/1.1 405 ", b"HTTP/1.1 405 ", b""] == [head[:13] for head in heads]
