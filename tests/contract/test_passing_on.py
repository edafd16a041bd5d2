"""What of a next hop's answer passes, and what becomes our own error (wire.md §4, "Passing on")."""

import gzip

import pytest

from support.forwarders import ASKS, SOURCE, hop_of, is_error_object
from support.serving import reply
from support.sockets import http, sockets

THEIR_ERROR = (
    b'{"id" : "QuoteExpiredError","message":"too late", "service":"dfsp-api", "traceId":"their-own"}'
)
OTHER_4XX = [400, 401, 403, 404, 405, 408, 409, 410, 413, 415, 417, 422, 429, 418, 451, 499]
MOST = 64 * 1024


def sized(size: int) -> bytes:
    """A JSON object of just this many bytes."""
    return b'{"a":"' + b"x" * (size - 8) + b'"}'


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
async def test_a_200_with_an_object_passes_byte_for_byte(hop, ask):
    body = b'{"amount" : "13.75",\n  "expires":"x", "\\u0061": "\xc3\xbc"}\n'
    hop.next_hop.answer = reply(200, body, Content_Type="application/json; charset=utf-8")

    answer = await hop.send(ask)

    assert (200, body) == (answer.status, answer.body)
    assert "application/json; charset=utf-8" == answer.headers["Content-Type"]


async def test_a_4xx_with_an_object_passes_byte_for_byte(hop):
    """Mojaloop project #4198, #4444: a peer's 4xx came out as 503."""
    for status in OTHER_4XX:
        hop.next_hop.answer = reply(status, THEIR_ERROR, Content_Type="application/problem+json")

        answer = await hop.send()

        assert (status, THEIR_ERROR) == (answer.status, answer.body)
        assert "application/problem+json" == answer.headers["Content-Type"]


@pytest.mark.parametrize(
    "body", [b"<html>no</html>", b"", b"[1]", b'"text"', b'{"a":', sized(MOST + 1)], ids=lambda b: repr(b[:9])
)
async def test_a_4xx_with_another_body_keeps_its_status_and_gets_our_object(hop, body):
    for status in OTHER_4XX:
        hop.next_hop.answer = reply(status, body, Content_Type="text/html")

        answer = await hop.send()

        assert status == answer.status
        assert is_error_object(answer)
        assert hop.service == answer.json["service"]
        assert hop.forwarder.next_service in answer.json["message"]


async def test_a_challenge_and_a_delay_pass(hop):
    hop.next_hop.answer = reply(
        401, THEIR_ERROR, WWW_Authenticate='Basic realm="theirs"', Retry_After="7", Set_Cookie="a=b", X_A="b"
    )

    answer = await hop.send()

    assert 'Basic realm="theirs"' == answer.headers["WWW-Authenticate"]
    assert "7" == answer.headers["Retry-After"]
    assert not {"Set-Cookie", "X-A"} & set(answer.headers)


async def test_a_401_without_an_object_or_challenge_gets_ours(hop):
    hop.next_hop.answer = reply(401, b"no")

    answer = await hop.send()

    assert (401, "UnauthorizedError") == (answer.status, answer.id)
    assert f'Basic realm="{hop.service}", charset="UTF-8"' == answer.headers["WWW-Authenticate"]


async def test_a_5xx_with_our_error_object_passes(hop):
    for status in [500, 501, 502, 503, 504, 507, 599]:
        hop.next_hop.answer = reply(status, THEIR_ERROR, Retry_After="3")

        answer = await hop.send()

        assert (status, THEIR_ERROR, "3") == (answer.status, answer.body, answer.headers["Retry-After"])


NO_ANSWERS = {
    "500 html": reply(500, b"<html>", Content_Type="text/html"),
    "500 without a body": reply(500, b""),
    "503 with another object": reply(503, {"error": "x"}),
    "503 with half an error object": reply(503, {"id": "a", "message": "b"}),
    "503 whose fields are no strings": reply(503, {"id": 1, "message": 2, "service": 3, "traceId": 4}),
    "504 over 64 KiB": reply(504, THEIR_ERROR[:-1] + b"," + sized(MOST)[1:]),
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
    "200 over 64 KiB": reply(200, sized(MOST + 1)),
    "200 gzip": reply(200, gzip.compress(b'{"amount": "1"}'), Content_Encoding="gzip"),
}


@pytest.mark.parametrize("answers", NO_ANSWERS.values(), ids=NO_ANSWERS.keys())
async def test_all_else_is_502(hop, answers):
    hop.next_hop.answer = answers

    answer = await hop.send()

    assert (502, "UpstreamError") == (answer.status, answer.id)
    assert is_error_object(answer)
    assert hop.forwarder.next_service in answer.json["message"]
    assert "127.0.0.1" not in answer.body.decode()
    assert 1 == len(hop.next_hop.seen)


async def test_a_200_of_64_kib_passes(hop):
    hop.next_hop.answer = reply(200, sized(MOST))

    assert sized(MOST) == (await hop.send()).body


BROKEN = {
    "shorter than it says": http(200, b'{"amount":"1"}', length=99),
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


@pytest.mark.parametrize("said", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_reply_is_502_and_not_asked_for_again(forwarder, users_file, client, said):
    async with (
        sockets(said) as next_hop,
        hop_of(forwarder, users_file, client, next_url=next_hop.url) as hop,
    ):
        answer = await hop.send()

        assert (502, "UpstreamError") == (answer.status, answer.id)
        assert 1 == len(next_hop.requests)


@pytest.mark.parametrize("name", ["Content-Type", "Retry-After", "WWW-Authenticate"])
@pytest.mark.parametrize(
    "value", ["\xff", "a\x0bb", "\xc3\xbc", "x" * 8_000], ids=["latin", "control", "utf-8", "long"]
)
async def test_odd_values_in_the_headers_that_pass_do_no_harm(forwarder, users_file, client, name, value):
    async with (
        sockets(http(400, THEIR_ERROR, f"{name}: {value}")) as next_hop,
        hop_of(forwarder, users_file, client, next_url=next_hop.url) as hop,
    ):
        answer = await hop.send(SOURCE)

        assert answer.status in {400, 502}
        assert b"traceId" in answer.body


async def test_an_interim_reply_is_no_reply(forwarder, users_file, client):
    said = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http(200, b'{"a":1}')
    async with (
        sockets(said) as next_hop,
        hop_of(forwarder, users_file, client, next_url=next_hop.url) as hop,
    ):
        assert b'{"a":1}' == (await hop.send()).body
