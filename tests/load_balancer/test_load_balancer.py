"""A front holds a port and passes connections through to the replicas that are ready (load_balancer)."""

import asyncio
import contextlib
import itertools
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from chassis.http.resolver import Place
from chassis.settings import SettingsError, load
from chassis.telemetry import Lines, Telemetry
from load_balancer import app, proxy


@dataclass
class Replica:
    """A service on an address of its own."""

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
    """Two of a service, on two addresses of loopback."""
    with socket.create_server(("127.0.0.2", 0)) as probe:
        port = probe.getsockname()[1]
    made = [Replica("127.0.0.2", port), Replica("127.0.0.3", port)]
    for each in made:
        await each.start()
    yield made
    for each in made:
        await each.runner.cleanup()


@pytest.fixture
def names(monkeypatch, replicas):
    """What the service's name resolves to; a test changes it as it goes."""
    found = [each.address for each in replicas]

    async def places_of(_base):
        return [Place(f"http://{each}:{replicas[0].port}") for each in found] or None

    monkeypatch.setattr(app, "places_of", places_of)
    return found


@pytest.fixture
def looks(monkeypatch):
    """Replicas are looked at when the test says so, and not between."""
    made = []
    monkeypatch.setattr(app, "LOOK_EVERY_SECONDS", 3600)
    original = app.Replicas.look

    async def look(self):
        made.append(self)
        await original(self)

    monkeypatch.setattr(app.Replicas, "look", look)

    async def again():
        await original(made[0])

    return again


@contextlib.asynccontextmanager
async def running(next_hop):
    """A front; gives its URL."""
    settings = load(app.LoadBalancerSettings, {"QUOTES_NEXT_HOP": next_hop, "QUOTES_PORT": "0"})
    with telemetry() as told:
        async with app.listening(settings, told) as server:
            yield address(server)


@contextlib.contextmanager
def telemetry():
    with Path(os.devnull).open("wb") as log:
        made = Telemetry("front", Lines(log.fileno()), human=False)
        yield made
        made.lines.flush()


def address(server):
    return "http://{}:{}".format(*server.sockets[0].getsockname())


@pytest.fixture
def next_hop(names, looks, replicas):
    return f"http://service.test:{replicas[0].port}"


@pytest.fixture
async def url(next_hop):
    async with running(next_hop) as made:
        yield made


@pytest.fixture
async def caller():
    """With a connection for each request."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=10)
    ) as session:
        yield session


async def ask(caller, url, body=b"x"):
    async with caller.post(url, data=body) as reply:
        return reply.status, reply.headers["Server"], await reply.read()


async def served_by(caller, url, count=6):
    return sorted([(await ask(caller, url))[1] for _ in range(count)])


async def test_bytes_pass_through_both_ways_however_many(caller, url):
    body = bytes(range(256)) * 2_000

    status, _, back = await ask(caller, url, body)

    assert (200, body) == (status, back)


async def test_connections_go_to_the_replicas_in_turn(caller, url):
    assert ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3 == await served_by(caller, url)


async def test_a_connection_that_is_kept_stays_at_its_replica(url):
    async with aiohttp.ClientSession() as keeping:
        used = {(await ask(keeping, url))[1] for _ in range(5)}

    assert 1 == len(used)


async def test_a_replica_that_is_not_ready_gets_nothing_new(caller, url, replicas, looks):
    replicas[0].is_ready = False
    await looks()

    assert ["127.0.0.3"] * 6 == await served_by(caller, url)


async def test_a_replica_that_has_gone_since_the_last_look_costs_no_request(caller, url, replicas):
    await replicas[0].runner.cleanup()

    assert ["127.0.0.3"] * 6 == await served_by(caller, url)


async def test_replicas_that_come_are_used_and_those_that_go_are_not(caller, url, names, looks):
    names.remove("127.0.0.2")
    await looks()
    assert ["127.0.0.3"] * 6 == await served_by(caller, url)

    names.append("127.0.0.2")
    await looks()
    assert ["127.0.0.2"] * 3 + ["127.0.0.3"] * 3 == await served_by(caller, url)


async def test_where_none_is_ready_any_is_tried(caller, url, replicas, looks):
    for each in replicas:
        each.is_ready = False
    await looks()

    assert {"127.0.0.2", "127.0.0.3"} == set(await served_by(caller, url))


async def test_a_name_that_is_not_to_be_resolved_now_stays_what_it_was(caller, url, names, looks):
    names.clear()
    await looks()

    assert {"127.0.0.2", "127.0.0.3"} == set(await served_by(caller, url))


async def test_where_there_is_nobody_the_connection_is_closed(caller, names, next_hop):
    names.clear()
    async with running(next_hop) as url:
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(caller, url)


async def test_what_is_said_before_a_replica_is_reached_is_not_lost(caller, next_hop, names, replicas):
    """A third address refuses: its turn comes first for one in three."""
    names.append("127.0.0.9")
    replicas[0].is_ready = replicas[1].is_ready = False
    said = b"x" * 300_000
    async with running(next_hop) as url:
        answers = [await ask(caller, url, said) for _ in range(6)]

    assert [(200, said)] * 6 == [(status, body) for status, _, body in answers]


async def test_a_caller_that_has_said_all_still_gets_its_answer():
    async def answer(reader, writer):
        said = await reader.read(5)
        writer.write(said + await reader.read() if said == b"hello" else b"")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, running(address(server)) as url:
        reader, writer = await connect(url)
        writer.write(b"hello you")
        writer.write_eof()

        assert b"hello you" == await reader.read()
        writer.close()


async def test_a_caller_that_says_nothing_and_ends_is_let_go(url):
    reader, writer = await connect(url)
    writer.write_eof()

    assert b"" == await reader.read()
    writer.close()


async def test_what_is_not_taken_at_the_one_end_is_not_read_at_the_other():
    released = asyncio.Event()

    async def take_nothing(reader, writer):
        if await reader.read(5) == b"hello":
            await released.wait()
        writer.close()

    async with (
        await asyncio.start_server(take_nothing, "127.0.0.1", 0) as server,
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


async def test_when_a_replica_closes_so_is_the_callers_connection(url, replicas):
    reader, writer = await connect(url)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    for each in replicas:
        await each.runner.cleanup()

    assert b"" == await reader.read()
    writer.close()


async def test_a_caller_that_goes_takes_its_connection_to_the_replica_along(url, replicas):
    _, writer = await connect(url)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
    await until(lambda: sum(each.served for each in replicas) == 1)
    writer.transport.abort()

    await until(lambda: connections(replicas) == len(replicas))


def connections(replicas):
    """Those that readiness is asked over are kept, one for each."""
    return sum(len(each.runner.server.connections) for each in replicas)


async def until(is_so):
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_more_connections_than_it_holds_are_closed(caller, url, monkeypatch):
    monkeypatch.setattr(proxy, "MAX_LINES", 2)
    async with contextlib.AsyncExitStack() as stack:
        keeping = [await stack.enter_async_context(aiohttp.ClientSession()) for _ in range(2)]
        for each in keeping:
            await ask(each, url)

        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(caller, url)
    await until_answered(caller, url)


async def until_answered(caller, url):
    for _ in itertools.count():
        with contextlib.suppress(aiohttp.ClientConnectionError):
            return await ask(caller, url)
        await asyncio.sleep(0.01)
    return None


async def test_a_silent_connection_is_closed_after_its_time(next_hop, monkeypatch):
    monkeypatch.setattr(proxy, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(proxy, "SWEEP_EVERY_SECONDS", 0.01)
    async with running(next_hop) as url:
        reader, writer = await connect(url)

        assert b"" == await reader.read()
        writer.close()


async def test_at_its_end_it_waits_for_answers_that_are_due_and_for_nothing_else(
    caller, next_hop, replicas, monkeypatch
):
    monkeypatch.setattr(app, "GONE_AFTER_SECONDS", 3_600)
    async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession() as keeping:
        url = await stack.enter_async_context(running(next_hop))
        await ask(keeping, url)
        silent, writer = await connect(url)
        answering = replicas[0].held = replicas[1].held = asyncio.Event()
        asking = asyncio.create_task(ask(caller, url))
        await until(lambda: sum(each.served for each in replicas) == 2)
        ending = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0.1)
        assert not ending.done()
        answering.set()
        async with asyncio.timeout(10):
            await ending

    assert 200 == (await asking)[0]
    assert b"" == await silent.read()
    writer.close()


def test_what_is_behind_has_to_be_named():
    with pytest.raises(SettingsError, match="QUOTES_NEXT_HOP is not set"):
        load(app.LoadBalancerSettings, {})
