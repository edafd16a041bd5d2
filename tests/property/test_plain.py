"""Plain requests are answered past aiohttp: as aiohttp's own reading of the same bytes would have them answered."""

import asyncio
import re

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from chassis import connection
from chassis.plain import MAX_REMEMBERED, _remembered, plain
from support.forwarders import BODY, FORWARDERS, hop_of
from support.messages import TEST, UNKNOWN_UUID

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
    "X-Blank:   b  ",
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

VARYING = re.compile(rb"Date: [^\r]*|Idempotency-Key: [^\r]*|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@st.composite
def requests(draw):
    """A request, well-formed or not, and where it is cut into pieces."""
    head = [
        f"{draw(st.sampled_from(METHODS[:4]) | st.sampled_from(METHODS))} {draw(st.sampled_from(TARGETS))} HTTP/1.1"
    ]
    head += ["Host: a", "L1p-Trace-Id: first"]
    head += draw(st.lists(st.sampled_from(FIELDS), max_size=5))
    body = draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        head.append(f"Content-Length: {len(body)}")
    data = "\r\n".join(head).encode() + b"\r\n\r\n" + body
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=2))
    return data + draw(st.sampled_from([b"", NEXT])), sorted(cuts)


async def said(url, data, cuts):
    """What comes back, apart from what is new each time."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            writer.write(data[begin:end])
            await writer.drain()
            await asyncio.sleep(0.002 if cuts else 0)
        writer.write_eof()
        async with asyncio.timeout(15):
            return VARYING.sub(b"", await reader.read())
    except OSError:
        return None  # reset with data unread: what was said may have been lost
    finally:
        writer.close()


@pytest.mark.parametrize("name", ["dfsp-api", "spsp-server"])
async def test_a_plain_request_is_answered_as_aiohttp_would_have_it(name, users_file, client, monkeypatch):
    loop = asyncio.get_running_loop()
    answered_here = []

    def counted(data):
        found = plain(data)
        answered_here.append(found is not None and not found.missing)
        return found

    async with hop_of(FORWARDERS[name], users_file, client) as hop:

        async def both(data, cuts):
            monkeypatch.setattr(connection, "plain", lambda _data: None)
            by_aiohttp = await said(hop.url, data, cuts)
            monkeypatch.setattr(connection, "plain", counted)
            return by_aiohttp, await said(hop.url, data, cuts)

        @settings(
            max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
        )
        @given(request=requests())
        def check(request):
            by_aiohttp, here = asyncio.run_coroutine_threadsafe(both(*request), loop).result(40)
            assume(by_aiohttp is not None and here is not None)
            assert by_aiohttp == here

        await asyncio.to_thread(check)
    assert sum(answered_here) > 20


REQUEST = b"GET /v1/quote/x HTTP/1.1\r\nHost: a\r\nAuthorization: " + TEST.encode() + b"\r\n\r\n"


def test_what_is_plain_is_read_as_it_was_written():
    data = b"PUT /v1/payments/x?a=%20&b HTTP/1.1\r\nHost: a:80\r\ncontent-length: 2\r\nX-Y: a: b\r\n\r\n{"

    found = plain(data)

    assert found is not None
    assert ("PUT", "/v1/payments/x", "a=%20&b") == (found.method, found.path, found.query)
    assert {"Host": "a:80", "content-length": "2", "X-Y": "a: b"} == dict(found.headers)
    assert (b"{", 1, False) == (found.body, found.missing, found.is_last)


def test_two_requests_that_are_written_alike_have_each_its_own():
    heads = [
        b"\r\nIdempotency-Key: %b\r\nAccept: a\r\nl1p-trace-id: %b" % (key, trace)
        for key, trace in [(b"a", b"b"), (b"c", b"d")]
    ]

    first, second = (plain(REQUEST.replace(b"\r\n\r\n", head + b"\r\n\r\n")) for head in heads)

    assert first is not None
    assert second is not None
    assert ["a", "b", "a"] == [first.headers[name] for name in ("idempotency-key", "L1p-Trace-Id", "accept")]
    assert ["c", "d", "a"] == [second.headers[name] for name in ("idempotency-key", "L1p-Trace-Id", "accept")]
    assert first.common is second.common


@pytest.mark.parametrize("field", ["Authorization: Basic c2VjcmV0", "X-Api-Key: secret", "Cookie: secret"])
def test_no_secret_is_remembered(field):
    found = plain(f"GET /v1/secret?secret HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n".encode())

    assert found is not None
    assert not [each for each in _remembered if b"ecret" in each or b"c2VjcmV0" in each]


def test_not_too_many_heads_are_remembered():
    for number in range(2 * MAX_REMEMBERED):
        assert plain(f"GET /a HTTP/1.1\r\nHost: {number}\r\n\r\n".encode()) is not None

    assert 0 < len(_remembered) <= MAX_REMEMBERED


@pytest.mark.parametrize("again", ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"])
@pytest.mark.parametrize("value", ["a", "a b"])
def test_what_is_said_twice_is_left_to_aiohttp(again, value):
    head = f"\r\nIdempotency-Key: a\r\n{again}: {value}\r\n\r\n".encode()

    assert plain(REQUEST.replace(b"\r\n\r\n", head)) is None


@pytest.mark.parametrize(
    "field",
    [
        *(
            "Host: b",
            "Content-Length: 01",
            "Content-Length: 1, 1",
            "Transfer-Encoding: chunked",
            "Expect: 100-continue",
        ),
        *(
            "Upgrade: h2c",
            "Connection: upgrade",
            "X-Y: a ",
            "X-Y:a",
            "X-Y: ",
            "X-Y: \x01",
            "X-Y: \xe9",
            "X-Y: a\rb",
        ),
        *("X-Y : a", " X-Y: a", "X-Y", "X-Y: " + "a" * 4_096),
    ],
)
def test_what_is_not_plain_is_left_to_aiohttp(field):
    assert plain(REQUEST) is not None
    assert plain(REQUEST.replace(b"\r\n\r\n", b"\r\n" + field.encode("latin-1") + b"\r\n\r\n")) is None
