"""A next hop's responses pass unchanged or become the service's own error (wire.md §4, "Passing on")."""

import gzip

import pytest

from support.client import is_error_object
from support.forwarders import OPERATIONS
from support.scripted_server import http, scripted_server
from support.serving import reply

pytestmark = pytest.mark.batches

THEIR_ERROR = (
    b'{"id" : "QuoteExpiredError","message":"too late", "service":"dfsp-api", "traceId":"their-own"}'
)
OTHER_4XX = [400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 417, 422, 429, 418, 451, 499]
MAX_BODY_BYTES = 64 * 1024


def sized(size: int) -> bytes:
    """A JSON object of this many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


async def test_a_200_with_an_object_passes_byte_for_byte(hop):
    body = b'{"amount" : "13.75",\n  "expires":"x", "\\u0061": "\xc3\xbc"}\n'
    hop.next_hop.answer = reply(200, body, Content_Type="application/json; charset=utf-8")

    for operation in OPERATIONS.values():
        response = await hop.send(operation)

        assert (200, body) == (response.status, response.body)
        assert "application/json; charset=utf-8" == response.headers["Content-Type"]


async def test_a_4xx_with_an_object_passes_byte_for_byte(hop):
    """Mojaloop project #4198, #4444: a peer's 4xx came out as 503."""
    for status in OTHER_4XX:
        hop.next_hop.answer = reply(status, THEIR_ERROR, Content_Type="application/problem+json")

        response = await hop.send()

        assert (status, THEIR_ERROR) == (response.status, response.body)
        assert "application/problem+json" == response.headers["Content-Type"]


async def test_a_4xx_with_another_body_keeps_its_status_and_gets_our_object(hop):
    for body in [b"<html>no</html>", b"", b"[1]", b'"text"', b'{"a":', sized(MAX_BODY_BYTES + 1)]:
        for status in OTHER_4XX:
            hop.next_hop.answer = reply(status, body, Content_Type="text/html")

            response = await hop.send()

            assert status == response.status, body[:9]
            assert is_error_object(response)
            assert hop.service == response.json["service"]
            assert hop.forwarder.next_service in response.json["message"]


async def test_a_challenge_and_a_delay_pass(hop):
    hop.next_hop.answer = reply(
        401, THEIR_ERROR, WWW_Authenticate='Basic realm="theirs"', Retry_After="7", Set_Cookie="a=b", X_A="b"
    )

    response = await hop.send()

    assert 'Basic realm="theirs"' == response.headers["WWW-Authenticate"]
    assert "7" == response.headers["Retry-After"]
    assert not {"Set-Cookie", "X-A"} & set(response.headers)


async def test_a_401_without_an_object_and_a_challenge_gets_ours(hop):
    hop.next_hop.answer = reply(401, b"no")

    response = await hop.send()

    assert (401, "UnauthorizedError") == (response.status, response.id)
    assert f'Basic realm="{hop.service}", charset="UTF-8"' == response.headers["WWW-Authenticate"]


async def test_a_5xx_with_our_error_object_passes(hop):
    for status in [500, 501, 502, 503, 504, 507, 599]:
        hop.next_hop.answer = reply(status, THEIR_ERROR, Retry_After="3")

        response = await hop.send()

        passed = (response.status, response.body, response.headers["Retry-After"])
        assert (status, THEIR_ERROR, "3") == passed


INVALID = {
    "500 html": reply(500, b"<html>", Content_Type="text/html"),
    "500 without a body": reply(500, b""),
    "503 with another object": reply(503, {"error": "x"}),
    "503 with half an error object": reply(503, {"id": "a", "message": "b"}),
    "503 with numbers as fields": reply(503, {"id": 1, "message": 2, "service": 3, "traceId": 4}),
    "504 over 64 KiB": reply(504, THEIR_ERROR[:-1] + b"," + sized(MAX_BODY_BYTES)[1:]),
    "201": reply(201, {"amount": "1"}),
    "202": reply(202, {"amount": "1"}),
    "204": reply(204, b""),
    "206": reply(206, {"amount": "1"}),
    "301": reply(301, {"a": 1}, Location="/elsewhere"),
    "302": reply(302, {"a": 1}, Location="http://127.0.0.1:1/"),
    "304": reply(304, b""),
    "307": reply(307, {"a": 1}, Location="/v1/quoteDestinationAmount"),
    "308": reply(308, {"a": 1}, Location="/v1/quoteDestinationAmount"),
    "200 html": reply(200, b"<html>", Content_Type="text/html"),
    "200 empty": reply(200, b""),
    "200 list": reply(200, [{"amount": "1"}]),
    "200 string": reply(200, "amount"),
    "200 null": reply(200, None),
    "200 broken": reply(200, b'{"amount": "1"'),
    "200 NaN": reply(200, b'{"amount": NaN}'),
    "200 not UTF-8": reply(200, b'{"amount": "\xff"}'),
    "200 nested too deeply": reply(200, b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"),
    "200 over 64 KiB": reply(200, sized(MAX_BODY_BYTES + 1)),
    "200 gzip": reply(200, gzip.compress(b'{"amount": "1"}'), Content_Encoding="gzip"),
}


async def test_any_other_response_is_502(hop):
    for name, answer in INVALID.items():
        hop.next_hop.answer = answer
        hop.next_hop.seen.clear()

        response = await hop.send()

        assert (502, "UpstreamError") == (response.status, response.id), name
        assert is_error_object(response)
        assert hop.forwarder.next_service in response.json["message"]
        assert "127.0.0.1" not in response.body.decode()
        assert 1 == len(hop.next_hop.seen)


async def test_a_200_of_64_kib_passes(hop):
    hop.next_hop.answer = reply(200, sized(MAX_BODY_BYTES))

    assert sized(MAX_BODY_BYTES) == (await hop.send()).body


BROKEN = {
    "shorter than its length": http(200, b'{"amount":"1"}', length=99),
    "a broken chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"a":1}\r\n',
    "an unfinished chunk": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\n{"a":1}\r\n',
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "another HTTP": b"HTTP/7.3 200 OK\r\n\r\n{}",
    "a header line over 8,190 bytes": http(200, b"{}", "X-A: " + "x" * 9_000),
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\n{}",
    "a status of two digits": http(20, b"{}"),
    "two lengths": http(200, b'{"a":1}', "Content-Length: 2"),
    "length and chunks": http(200, b"2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
async def test_a_malformed_response_is_502_and_the_request_is_not_repeated(start_hop, forwarder, data):
    async with scripted_server(data) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)

        response = await hop.send()

        assert (502, "UpstreamError") == (response.status, response.id)
        assert 1 == len(next_hop.requests)


async def test_unusual_values_in_the_headers_that_pass_do_no_harm(start_hop, forwarder):
    values = ["\xff", "a\x0bb", "\xc3\xbc", "x" * 8_000]
    names = ["Content-Type", "Retry-After", "WWW-Authenticate"]
    script = [http(400, THEIR_ERROR, f"{name}: {value}") for name in names for value in values]
    async with scripted_server(*script) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)
        for _ in script:
            response = await hop.send()

            assert response.status in {400, 502}
            assert b"traceId" in response.body


async def test_an_interim_response_is_skipped(start_hop, forwarder):
    data = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(200, b'{"a":1}')
    async with scripted_server(data) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)

        assert b'{"a":1}' == (await hop.send()).body
