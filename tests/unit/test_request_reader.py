"""One reader serves all connections of a server: no request may change how the next one is read."""

import pytest

from chassis.http.request import RequestReader

PLAIN = b"GET /v1/quote/1?identifier=1 HTTP/1.1\r\nHost: a\r\n\r\n"
WITH_BODY = b"POST /v1/quoteSourceAmount HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12345"

ARRIVAL = (1.0, "192.0.2.1", "https")

BEFORE = {
    "a request without a body": PLAIN,
    "a request with its body": WITH_BODY,
    "two requests": WITH_BODY + PLAIN,
    "a body that has not arrived": WITH_BODY[:-2],
    "a head that has not arrived": PLAIN[:-2],
    "a body that looks like a request": WITH_BODY.replace(b"5\r\n\r\n12345", b"%d\r\n\r\n" % len(PLAIN))
    + PLAIN,
    "the last request of its connection": PLAIN.replace(b"Host", b"Connection: close\r\nHost"),
    "bytes that are no HTTP": b"A" * 100 + b"\r\n\r\n",
    "half a chunked body": WITH_BODY.replace(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "a change of protocol": PLAIN.replace(b"Host", b"Connection: Upgrade\r\nUpgrade: h2c\r\nHost"),
    "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.0": PLAIN.replace(b"1.1", b"1.0"),
    "a response": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a repeated header": PLAIN.replace(b"Host", b"Accept: a\r\nAccept: b\r\nHost"),
    "a target that is not ASCII": PLAIN.replace(b"identifier", b"\xc3\xa9"),
    "empty lines": b"\r\n\r\n",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE.keys())
def test_a_request_is_read_the_same_whatever_was_read_before(before):
    for request in (PLAIN, WITH_BODY):
        reader = RequestReader()
        reader.read(before, *ARRIVAL)

        assert RequestReader().read(request, *ARRIVAL) == reader.read(request, *ARRIVAL)


def test_a_request_is_read():
    read = RequestReader().read(WITH_BODY + PLAIN, *ARRIVAL)

    assert read is not None
    request, end = read
    assert ("POST", "/v1/quoteSourceAmount", "") == (request.method, request.path, request.query)
    assert {"host": "a", "content-length": "5"} == request.headers
    assert (b"12345", len(WITH_BODY)) == (request.body, end)
    assert ARRIVAL == (request.received, request.address, request.scheme)


def test_a_reader_keeps_no_credentials():
    reader = RequestReader()
    reader.read(PLAIN.replace(b"Host", b"Authorization: Basic c2VjcmV0\r\nHost"), *ARRIVAL)

    assert "c2VjcmV0" not in repr(vars(reader))
