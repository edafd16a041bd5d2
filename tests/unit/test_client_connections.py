"""Connections to other services are reused, checked and given up (chassis.http.pool, chassis.http.client)."""

import asyncio
import contextlib
import socket
import time

import pytest

from chassis import keepalive
from chassis.http.pool import ConnectionPool, NoResponseError
from chassis.settings import Settings, load
from chassis.tls import Tls
from chassis.tracing import TRACE_HEADER

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def pool(users_file):
    made = ConnectionPool(Tls(load(Settings, {"QUOTES_USERS_FILE": str(users_file)})))
    yield made
    await made.close()


class Peer:
    """A server that answers each request of a connection by the next step of a script.

    A step is bytes, or a function of the request's bytes; None swallows the request.
    """

    def __init__(self, *scripts):
        self.scripts = list(scripts)
        self.connections = 0
        self.requests = []
        self.writers = []

    async def serve(self, reader, writer):
        self.writers.append(writer)
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        for step in script:
            with contextlib.suppress(asyncio.IncompleteReadError):
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            content = step(self.requests[-1]) if callable(step) else step
            if content is not None:
                writer.write(content)
        await reader.read()
        writer.close()


@contextlib.asynccontextmanager
async def serving(peer):
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    yield "http://{}:{}".format(*server.sockets[0].getsockname())
    server.close()
    for writer in peer.writers:
        writer.close()


def with_trace_id(trace_id):
    return OK.replace(b"\r\n\r\n", f"\r\n{TRACE_HEADER}: {trace_id}\r\n\r\n".encode())


def echo(request):
    """The response of a service, which carries the trace id of the request."""
    [line] = [each for each in request.split(b"\r\n") if each.startswith(TRACE_HEADER.encode())]
    return OK.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n")


async def get(pool, url, trace_id="t", seconds=5.0):
    return await pool.request("GET", url, "/", {TRACE_HEADER: trace_id}, None, time.monotonic() + seconds)


async def test_a_connection_is_reused(pool):
    peer = Peer([echo] * 3)
    async with serving(peer) as url:
        for _ in range(3):
            assert 200 == (await get(pool, url)).status

    assert 1 == peer.connections


async def test_a_response_to_another_request_closes_the_connection(pool):
    """A response that came unasked on a kept connection was given to the next request."""
    peer = Peer([with_trace_id("another")], [echo])
    async with serving(peer) as url:
        received = await get(pool, url)

    assert ("t", b"ok") == (received.headers[TRACE_HEADER.lower()], received.body)
    assert 2 == peer.connections == len(peer.requests)


async def test_a_peer_that_sends_only_responses_to_other_requests_gives_no_response(pool):
    peer = Peer([with_trace_id("another")])
    async with serving(peer) as url:
        with pytest.raises(NoResponseError, match="a response to another request"):
            await get(pool, url)

    assert 2 == peer.connections


async def test_a_response_without_a_trace_id_is_accepted(pool):
    """Directories of others know nothing of trace ids."""
    async with serving(Peer([OK])) as url:
        assert b"ok" == (await get(pool, url)).body


async def test_a_request_without_a_trace_id_gets_one(pool):
    """Batches have none of their own."""
    async with serving(Peer([with_trace_id("another")], [echo])) as url:
        assert b"ok" == (await pool.request("GET", url, "/", {})).body


async def test_data_on_an_idle_connection_closes_it(pool):
    peer = Peer([echo, echo])
    async with serving(peer) as url:
        await get(pool, url)
        peer.writers[0].write(OK)
        async with asyncio.timeout(60):
            while pool._open:
                await asyncio.sleep(0.01)
        await get(pool, url)

    assert 2 == peer.connections


async def test_a_second_response_in_one_segment_closes_the_connection(pool):
    peer = Peer([OK + OK], [echo])
    async with serving(peer) as url:
        await get(pool, url)
        await get(pool, url)

    assert 2 == peer.connections


async def test_a_connection_that_swallows_a_request_costs_no_more_than_its_deadline(pool):
    """A firewall that forgot a connection drops its data: the deadline ends the request, and the connection."""
    peer = Peer([echo, None], [echo, echo])
    async with serving(peer) as url:
        await get(pool, url)
        with pytest.raises(TimeoutError):
            await get(pool, url, seconds=0.1)
        assert 200 == (await get(pool, url)).status

    assert 2 == peer.connections


async def test_a_swallowed_request_closes_the_other_idle_connections_too(pool):
    """The firewall may have forgotten all of them, and each would cost a deadline."""
    peer = Peer([echo, None], [echo, None], [echo, None], [echo, echo])
    async with serving(peer) as url:
        await asyncio.gather(*(get(pool, url) for _ in range(3)))
        with pytest.raises(TimeoutError):
            await get(pool, url, seconds=0.1)
        assert 200 == (await get(pool, url)).status

    assert 4 == peer.connections


async def test_the_kernel_watches_for_peers_that_have_disappeared(pool):
    peer = Peer([echo])
    async with serving(peer) as url:
        await get(pool, url)
        [connection] = pool._open
        made = connection._transport.get_extra_info("socket")

        assert 1 == made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert keepalive.IDLE_SECONDS == made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert keepalive.USER_TIMEOUT_MS == made.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
