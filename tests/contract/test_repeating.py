"""A request is repeated once where no reply had begun, and never otherwise (wire.md §4, "Repeating")."""

import asyncio
import contextlib
import socket

import pytest

from support.forwarders import ASKS, QUOTE_REPLY, SOURCE, hop_of
from support.serving import reply
from support.sockets import HANG, Reset, http, sockets, unused_url

GOOD = http(200, QUOTE_REPLY, "Content-Type: application/json")


@pytest.fixture(params=ASKS.values(), ids=ASKS.keys())
def ask(request):
    return request.param


@pytest.fixture
async def between(forwarder, users_file, client):
    """Starts a hop whose next hop is bare sockets."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(*script):
            next_hop = await stack.enter_async_context(sockets(*script))
            hop = await stack.enter_async_context(
                hop_of(forwarder, users_file, client, next_url=next_hop.url)
            )
            return hop, next_hop

        yield start


@pytest.mark.parametrize("first", [b"", Reset()], ids=["closed", "reset"])
async def test_a_connection_lost_before_the_first_byte_is_repeated(between, ask, first):
    hop, next_hop = await between(first, GOOD)

    answer = await hop.send(ask)

    assert (200, QUOTE_REPLY) == (answer.status, answer.body)
    assert 2 == len(next_hop.requests)


async def test_a_repetition_is_the_same_request(between):
    hop, next_hop = await between(b"", GOOD)

    await hop.send(SOURCE)

    one, two = (
        [line for line in request.split(b"\r\n") if not line.startswith(b"X-Request-Timeout-Ms")]
        for request in next_hop.requests
    )
    assert one == two
    assert any(line.startswith(b"Idempotency-Key: ") for line in one)


@pytest.mark.parametrize("step", [b"", Reset()], ids=["closed", "reset"])
async def test_it_is_repeated_once_and_no_more(between, ask, step):
    hop, next_hop = await between(step)

    answer = await hop.send(ask)

    assert (502, "UpstreamError") == (answer.status, answer.id)
    assert 2 == len(next_hop.requests)


HEADS = {
    "a letter": b"H",
    "the protocol": b"HTTP/1.1",
    "half a status": b"HTTP/1.1 20",
    "a status": b"HTTP/1.1 200",
    "a status line": b"HTTP/1.1 200 OK\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a header": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    "a head": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
    "an interim reply": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("begun", HEADS.values(), ids=HEADS.keys())
async def test_it_is_not_repeated_when_a_reply_had_begun(between, begun, how):
    hop, next_hop = await between(Reset(begun) if how == "reset" else begun, GOOD)

    answer = await hop.send()

    assert (502, "UpstreamError") == (answer.status, answer.id)
    assert 1 == len(next_hop.requests)


async def test_it_is_never_repeated_after_a_status(hop, ask):
    statuses = [200, 201, 302, 400, 401, 404, 409, 429, 500, 502, 503, 504]
    for status in statuses:
        hop.next_hop.answer = reply(status, b"no object")
        await hop.send(ask)

    assert len(statuses) == len(hop.next_hop.seen)


async def test_a_refused_connection_is_tried_twice(forwarder, users_file, client, monkeypatch):
    url = unused_url()
    port = int(url.rpartition(":")[2])
    tried = []
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def counted(sock: socket.socket, address):
        if address[1] == port:
            tried.append(address)
        return await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", counted)
    async with hop_of(forwarder, users_file, client, next_url=url) as hop:
        answer = await hop.send()

        assert (502, "UpstreamError") == (answer.status, answer.id)
        assert 2 == len(tried)


async def test_a_repetition_has_no_more_time_than_the_first(between):
    hop, next_hop = await between(b"", HANG)

    async with asyncio.timeout(2):
        answer = await hop.send(X_Request_Timeout_Ms="200")

    assert (504, "UpstreamTimeoutError") == (answer.status, answer.id)
    assert 2 == len(next_hop.requests)


async def test_the_directory_is_asked_again_when_it_closes_before_a_reply(hop_to, proxy):
    found = http(200, b'{"spspReceiver": "http://spsp-server"}')
    async with sockets(b"", found) as directory:
        hop = await hop_to(proxy.forwarder, directory_url=directory.url)

        assert 200 == (await hop.send()).status
        assert 2 == len(directory.requests)


@pytest.mark.parametrize("begun", HEADS.values(), ids=HEADS.keys())
async def test_the_directory_is_not_asked_again_when_a_reply_had_begun(hop_to, proxy, begun):
    for step in (begun, Reset(begun)):
        async with sockets(step, http(200, b'{"spspReceiver": "http://spsp-server"}')) as directory:
            hop = await hop_to(proxy.forwarder, directory_url=directory.url)

            answer = await hop.send()

            assert (502, "UpstreamError") == (answer.status, answer.id)
            assert 1 == len(directory.requests)
