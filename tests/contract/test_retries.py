"""A request is repeated once where no response had begun, and never otherwise (wire.md §4, "Repeating")."""

import asyncio
import socket

import pytest

from support.forwarders import OPERATIONS, QUOTE_REPLY, SOURCE
from support.scripted_server import HANG, Reset, http, scripted_server, unused_url
from support.serving import SECONDS, reply

pytestmark = pytest.mark.batches

GOOD = http(200, QUOTE_REPLY, "Content-Type: application/json")
LOST = {"closed": b"", "reset": Reset()}
BEGUN = [
    b"H",
    b"HTTP/1.1",
    b"HTTP/1.1 20",
    b"HTTP/1.1 200",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Le",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
]
"""How far a response may have come when its connection is lost."""


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST.keys())
async def test_a_connection_lost_before_the_first_byte_is_repeated_once(start_hop, forwarder, lost):
    async with scripted_server(*[lost, GOOD] * len(OPERATIONS), lost) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)
        for operation in OPERATIONS.values():
            response = await hop.send(operation)

            assert (200, QUOTE_REPLY) == (response.status, response.body)
        assert 2 * len(OPERATIONS) == len(next_hop.requests)
        for operation in OPERATIONS.values():
            next_hop.requests.clear()
            response = await hop.send(operation)

            assert (502, "UpstreamError") == (response.status, response.id)
            assert 2 == len(next_hop.requests)


async def test_the_repetition_is_the_same_request(start_hop, forwarder):
    async with scripted_server(b"", GOOD) as next_hop:
        await (await start_hop(forwarder, next_url=next_hop.url)).send(SOURCE)

        one, two = (
            [line for line in request.split(b"\r\n") if not line.startswith(b"X-Request-Timeout-Ms")]
            for request in next_hop.requests
        )
        assert one == two
        assert any(line.startswith(b"Idempotency-Key: ") for line in one)


async def test_a_request_is_not_repeated_when_a_response_had_begun(start_hop, forwarder):
    script = [*BEGUN, *(Reset(begun) for begun in BEGUN)]
    async with scripted_server(*script) as next_hop:
        hop = await start_hop(forwarder, next_url=next_hop.url)
        for number, step in enumerate(script, 1):
            response = await hop.send()

            assert (502, "UpstreamError") == (response.status, response.id), step
            assert number == len(next_hop.requests), step


async def test_a_request_is_never_repeated_after_a_status(hop):
    for operation in OPERATIONS.values():
        for status in [200, 201, 302, 400, 401, 404, 409, 429, 500, 502, 503, 504]:
            hop.next_hop.answer = reply(status, b"no object")
            hop.next_hop.seen.clear()
            await hop.send(operation)

            assert 1 == len(hop.next_hop.seen), status


async def test_a_refused_connection_is_tried_twice(start_hop, forwarder, monkeypatch):
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
    response = await (await start_hop(forwarder, next_url=url)).send()

    assert (502, "UpstreamError") == (response.status, response.id)
    assert 2 == len(tried)


@pytest.mark.parametrize("name", ["dfsp-api", "spsp-server"])
async def test_a_repetition_has_no_more_time_than_the_first(start_hop, name):
    for milliseconds in (600, 8_000):  # on a busy machine 600 ms may pass before the repetition leaves
        async with scripted_server(b"", HANG) as next_hop:
            hop = await start_hop(name, next_url=next_hop.url)
            async with asyncio.timeout(SECONDS):
                response = await hop.send(X_Request_Timeout_Ms=str(milliseconds))
        if 2 == len(next_hop.requests):
            break

    assert (504, "UpstreamTimeoutError") == (response.status, response.id)
    assert 2 == len(next_hop.requests)


FOUND = http(200, b'{"spspReceiver": "http://spsp-server"}')


async def test_a_look_up_in_the_directory_is_repeated_by_the_same_rule(start_hop):
    script = [b"", FOUND, *BEGUN, *(Reset(begun) for begun in BEGUN)]
    async with scripted_server(*script) as directory:
        hop = await start_hop("spsp-client-proxy", directory_url=directory.url, directory_memory_seconds="0")
        assert 200 == (await hop.send()).status
        assert 2 == len(directory.requests)
        for number, step in enumerate(script[2:], 3):
            response = await hop.send()

            assert (502, "UpstreamError") == (response.status, response.id), step
            assert number == len(directory.requests), step
