"""The load balancer passes each connection to a ready replica."""

import asyncio
import contextlib
import itertools
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from chassis.http.resolver import ReplicaAddress
from chassis.logs import Logs, LogWriter
from chassis.settings import SettingsError, load
from chassis.tls import Tls
from load_balancer import app, connections, health_check


@dataclass
class Replica:
    """A service on its own loopback address."""

    address: str
    port: int
    is_ready: bool = True
    served: int = 0
    held: asyncio.Event | None = None
    runner: web.AppRunner = field(init=False)

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/health/ready", self._ready)
        app.router.add_post("/", self._echo)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.address, self.port).start()

    async def _ready(self, _request):
        return web.Response(status=200 if self.is_ready else 503)

    async def _echo(self, request):
        self.served += 1
        if self.held:
            await self.held.wait()
        return web.Response(body=await request.read(), headers={"Server": self.address})


@pytest.fixture
async def replicas():
    """Two replicas of one service, on two loopback addresses and the same port."""
    made = await start_on_one_port(Replica("127.0.0.2", 0), Replica("127.0.0.3", 0))
    yield made
    for each in made:
        await each.runner.cleanup()


async def start_on_one_port(first, second):
    """Start the first on a free port; try another one if the second address uses that port already."""
    await first.start()
    first.port = second.port = first.runner.addresses[0][1]
    try:
        await second.start()
    except OSError:
        await first.runner.cleanup()
        await second.runner.cleanup()
        return await start_on_one_port(Replica(first.address, 0), Replica(second.address, 0))
    return [first, second]


@pytest.fixture
def names(monkeypatch, replicas):
    """The addresses that the service's name resolves to; a test may change the list."""
    found = [each.address for each in replicas]

    async def resolve(_base):
        return [ReplicaAddress(f"http://{each}:{replicas[0].port}") for each in found] or None

    monkeypatch.setattr(health_check, "resolve", resolve)
    return found


@pytest.fixture
def check(monkeypatch):
    """Checks the replicas' readiness now; there is no check between the first one and the test's own."""
    made = []
    monkeypatch.setattr(health_check, "CHECK_INTERVAL_SECONDS", 3600)
    original = health_check.HealthCheck.check

    async def recorded(self):
        made.append(self)
        await original(self)

    monkeypatch.setattr(health_check.HealthCheck, "check", recorded)

    async def now():
        await original(made[0])

    return now


@contextlib.asynccontextmanager
async def running(next_hop):
    """A load balancer; yields its URL."""
    settings = load(app.LoadBalancerSettings, {"QUOTES_NEXT_HOP": next_hop, "QUOTES_PORT": "0"})
    with silent_logs() as logs:
        async with app.listening(settings, Tls(settings), logs) as server:
            yield address(server)


@contextlib.contextmanager
def silent_logs():
    with Path(os.devnull).open("wb") as log:
        made = Logs("load-balancer", LogWriter(log.fileno()), human=False)
        yield made
        made.writer.flush()


def address(server):
    return "http://{}:{}".format(*server.sockets[0].getsockname())


@pytest.fixture
def next_hop(names, check, replicas):
    return f"http://service.test:{replicas[0].port}"


@pytest.fixture
async def url(next_hop):
    async with running(next_hop) as made:
        yield made


@pytest.fixture
async def client():
    """Opens a new connection for each request."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=60)
    ) as session:
        yield session


async def post(client, url, body=b"x"):
    async with client.post(url, data=body) as response:
        return response.status, response.headers["Server"], await response.read()


async def servers(client, url, count=6):
    return sorted([(await post(client, url))[1] for _ in range(count)])


async def test_bytes_pass_through_unchanged_in_both_directions(client, url):
    body = bytes(range(256)) * 2_000

    status, _, back = await post(client, url, body)

    assert (200, body) == (status, back)


async def test_connections_are_distributed_round_robin(client, url):
    assert ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3 == await servers(client, url)


async def test_a_kept_connection_stays_at_its_replica(url):
    async with aiohttp.ClientSession() as keeping_client:
        used = {(await post(keeping_client, url))[1] for _ in range(5)}

    assert 1 == len(used)


async def test_a_replica_that_is_not_ready_gets_no_new_connection(client, url, replicas, check):
    replicas[0].is_ready = False
    await check()

    assert ["127.0.0.3"] * 6 == await servers(client, url)


async def test_a_replica_that_stopped_after_the_last_check_fails_no_request(client, url, replicas):
    await replicas[0].runner.cleanup()

    assert ["127.0.0.3"] * 6 == await servers(client, url)


async def test_replicas_are_added_and_removed_as_the_name_resolves(client, url, names, check):
    names.remove("127.0.0.2")
    await check()
    assert ["127.0.0.3"] * 6 == await servers(client, url)

    names.append("127.0.0.2")
    await check()
    assert ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3 == await servers(client, url)


async def test_all_replicas_are_tried_when_none_is_ready(client, url, replicas, check):
    for each in replicas:
        each.is_ready = False
    await check()

    assert {"127.0.0.2", "127.0.0.3"} == set(await servers(client, url))


async def test_the_last_known_addresses_are_kept_when_the_name_cannot_be_resolved(client, url, names, check):
    names.clear()
    await check()

    assert {"127.0.0.2", "127.0.0.3"} == set(await servers(client, url))


async def test_the_connection_is_closed_when_there_is_no_replica(client, names, next_hop):
    names.clear()
    async with running(next_hop) as url:
        with pytest.raises(aiohttp.ClientConnectionError):
            await post(client, url)


async def test_bytes_sent_before_a_replica_is_connected_are_not_lost(client, next_hop, names, replicas):
    """A third address refuses connections, and every third connection tries it first."""
    names.append("127.0.0.9")
    replicas[0].is_ready = replicas[1].is_ready = False
    body = b"x" * 300_000
    async with running(next_hop) as url:
        responses = [await post(client, url, body) for _ in range(6)]

    assert [(200, body)] * 6 == [(status, echoed) for status, _, echoed in responses]


async def test_a_client_that_half_closes_still_gets_its_response():
    async def answer(reader, writer):
        first = await reader.read(5)
        writer.write(first + await reader.read() if first == b"hello" else b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, running(address(server)) as url:
        reader, writer = await connect(url)
        writer.write(b"hello you")
        writer.write_eof()

        assert b"hello you" == await reader.read()
        writer.close()


async def test_a_client_that_half_closes_without_a_byte_is_disconnected(url):
    reader, writer = await connect(url)
    writer.write_eof()

    assert b"" == await reader.read()
    writer.close()


async def test_a_slow_replica_slows_the_client_down():
    released = asyncio.Event()

    async def read_only_five_bytes(reader, writer):
        if await reader.read(5) == b"hello":
            await released.wait()
        writer.close()

    async with (
        await asyncio.start_server(read_only_five_bytes, "127.0.0.1", 0) as server,
        running(address(server)) as url,
    ):
        _, writer = await connect(url)
        writer.write(b"hello" + bytes(50_000_000))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.5)
        writer.transport.abort()
        released.set()


async def connect(url):
    return await asyncio.open_connection(*url.removeprefix("http://").split(":"))


async def test_the_client_is_disconnected_when_the_replica_closes(url, replicas):
    reader, writer = await connect(url)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for each in replicas:
        await each.runner.cleanup()

    assert b"" == await reader.read()
    writer.close()


async def test_the_replica_connection_is_closed_when_the_client_leaves(url, replicas):
    _, writer = await connect(url)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    await until(lambda: sum(each.served for each in replicas) == 1)
    writer.transport.abort()

    await until(lambda: connection_count(replicas) == len(replicas))


def connection_count(replicas):
    """Counts one kept connection per replica for the health checks."""
    return sum(len(each.runner.server.connections) for each in replicas)


async def until(is_met):
    async with asyncio.timeout(60):
        while not is_met():
            await asyncio.sleep(0.01)


async def test_above_the_maximum_the_connection_that_was_idle_longest_makes_room(client, url, monkeypatch):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in range(2)]
        for each in clients:
            await post(each, url)

        assert 200 == (await post(client, url))[0]
        first, second = (next(iter(each.connector._conns.values()))[0][0] for each in clients)
        await until(lambda: not first.is_connected())
        assert second.is_connected()


async def test_above_the_maximum_a_connection_is_refused_and_logged_if_none_is_idle(
    client, next_hop, replicas, monkeypatch
):
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 2)
    logged = []
    monkeypatch.setattr(Logs, "error", lambda _self, event, **fields: logged.append((event, fields)))
    released = replicas[0].held = replicas[1].held = asyncio.Event()
    async with running(next_hop) as url:
        held = [asyncio.create_task(post(client, url)) for _ in range(2)]
        await until(lambda: 2 == sum(each.served for each in replicas))
        for _ in range(3):
            reader, writer = await connect(url)
            with contextlib.suppress(ConnectionResetError):
                assert b"" == await reader.read()
            writer.close()
        released.set()
        statuses = [(await each)[0] for each in held]
        await until_accepted(client, url)

    assert [200, 200] == statuses
    assert ("connections cannot be passed on", 1) == (logged[0][0], logged[0][1]["refused"])
    assert "2 connections are open and await responses" == logged[0][1]["cause"]


async def test_a_connection_without_a_replica_is_refused_and_logged(next_hop, replicas, monkeypatch):
    logged = []
    monkeypatch.setattr(Logs, "error", lambda _self, event, **fields: logged.append((event, fields)))
    for each in replicas:
        await each.runner.cleanup()
    async with running(next_hop) as url:
        reader, writer = await connect(url)
        with contextlib.suppress(ConnectionResetError):
            assert b"" == await reader.read()
        writer.close()
        await until(lambda: logged)

    assert "connections cannot be passed on" == logged[0][0]
    assert "no replica could be reached: " in logged[0][1]["cause"]


async def until_accepted(client, url):
    for _ in itertools.count():
        with contextlib.suppress(aiohttp.ClientConnectionError):
            return await post(client, url)
        await asyncio.sleep(0.01)
    return None


async def test_an_idle_connection_is_closed(next_hop, monkeypatch):
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(connections, "IDLE_CHECK_SECONDS", 0.01)
    async with running(next_hop) as url:
        reader, writer = await connect(url)

        assert b"" == await reader.read()
        writer.close()


async def test_shutdown_waits_for_pending_responses_and_closes_idle_connections(
    client, next_hop, replicas, monkeypatch
):
    monkeypatch.setattr(app, "GONE_AFTER_SECONDS", 3_600)
    async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession() as keeping_client:
        url = await stack.enter_async_context(running(next_hop))
        await post(keeping_client, url)
        idle, writer = await connect(url)
        released = replicas[0].held = replicas[1].held = asyncio.Event()
        pending = asyncio.create_task(post(client, url))
        await until(lambda: sum(each.served for each in replicas) == 2)
        stopping = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        released.set()
        async with asyncio.timeout(60):
            await stopping

    assert 200 == (await pending)[0]
    assert b"" == await idle.read()
    writer.close()


def test_the_next_hop_is_required():
    with pytest.raises(SettingsError, match="QUOTES_NEXT_HOP is not set"):
        load(app.LoadBalancerSettings, {})


async def test_sighup_is_logged_and_ends_nothing(next_hop, monkeypatch):
    logged = []
    monkeypatch.setattr(Logs, "info", lambda _self, event, **_fields: logged.append(event))
    settings = load(app.LoadBalancerSettings, {"QUOTES_NEXT_HOP": next_hop, "QUOTES_PORT": "0"})
    serving = asyncio.create_task(app.serve(settings))
    try:
        await until(lambda: "started" in logged)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "nothing to reload" in logged)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    of_process = ["started", "nothing to reload", "stopping", "stopped"]
    assert of_process == [event for event in logged if event in of_process]
