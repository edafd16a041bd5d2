"""Services that a module's tests share, reset before each test, and services that a test starts for itself."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from chassis import batching, password_queue, users, users_file
from support.batch_senders import BatchSender
from support.batch_servers import (
    BatchServer,
    batch_server_of,
    directory_batch_server,
    payee_batch_server,
)
from support.batches import peer
from support.forwarders import FORWARDERS, OPERATIONS, ClientRequest, Forwarder, Hop, hop_of
from support.postgres import create_database, drop_database, with_database
from support.serving import client_session
from support.settings import CHEAP_HASHER

PAYER_AND_FORWARDER = ("dfsp-api", "spsp-server")
"""The two on which the pipeline that all services share is tested in depth: one reads bodies, one does not."""


@pytest.fixture(scope="module", autouse=True)
def _cheap_start():
    """Make password hashes cheap, because the tests start a service many times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users, "HASHER", CHEAP_HASHER)
        patch.setattr(users_file, "HASHER", CHEAP_HASHER)
        patch.setattr(password_queue, "HASHER", CHEAP_HASHER)
        yield


@pytest.fixture(scope="module")
async def running() -> AsyncIterator[AsyncExitStack]:
    """The services that the module's tests share. They stop after the client has closed its connections."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
async def client(running) -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session() as session:
        yield session


@pytest.fixture(params=FORWARDERS.values(), ids=FORWARDERS.keys())
def forwarder(request) -> Forwarder:
    return request.param


@pytest.fixture(params=OPERATIONS.values(), ids=OPERATIONS.keys())
def operation(request) -> ClientRequest:
    return request.param


@pytest.fixture(scope="module")
def shared_hop(running, users_file, client) -> Callable:
    """The module's hop with these settings, reset; for tests that leave it as it was."""
    hops: dict[object, Hop] = {}

    async def get(name: str, **settings: str) -> Hop:
        # the directory's responses are not remembered: what one test looks up says nothing to the next
        settings = {"directory_memory_seconds": "0", **settings}
        key = (name, *sorted(settings.items()))
        if key not in hops:
            starting = hop_of(FORWARDERS[name], users_file, client, **settings)
            hops[key] = await running.enter_async_context(starting)
        hops[key].reset()
        return hops[key]

    return get


@pytest.fixture
async def start_hop(users_file, client) -> AsyncIterator[Callable]:
    """Starts a hop of the test's own, with any settings and next hop."""
    async with AsyncExitStack() as stack:

        async def start(forwarder: Forwarder | str, users: Path = users_file, **settings: str) -> Hop:
            made = FORWARDERS[forwarder] if isinstance(forwarder, str) else forwarder
            return await stack.enter_async_context(hop_of(made, users, client, **settings))

        yield start


@pytest.fixture(params=FORWARDERS)
async def hop(request, shared_hop) -> Hop:
    """Each of the five forwarders, with a next hop that responds 200."""
    return await shared_hop(request.param)


@pytest.fixture(params=PAYER_AND_FORWARDER)
async def either_hop(request, shared_hop) -> Hop:
    """A hop that reads bodies, and one that passes them on: for the pipeline that all services share."""
    return await shared_hop(request.param)


@pytest.fixture
async def payer(shared_hop) -> Hop:
    return await shared_hop("dfsp-api")


@pytest.fixture
async def proxy(shared_hop) -> Hop:
    return await shared_hop("spsp-client-proxy")


@pytest.fixture
async def spsp_client(shared_hop) -> Hop:
    return await shared_hop("spsp-client")


@pytest.fixture
async def spsp_server(shared_hop) -> Hop:
    return await shared_hop("spsp-server")


@pytest.fixture(params=["dfsp-api", "spsp-client-proxy", "spsp-client"])
async def reader(request, shared_hop) -> Hop:
    """Each forwarder that reads bodies."""
    return await shared_hop(request.param)


@pytest.fixture(scope="module")
def shared_batch_server(running, postgres_url, users_file, client, shared_hop) -> Callable:
    """The module's service that takes batches, by its name and settings, reset."""
    servers: dict[object, BatchServer] = {}

    async def start(name: str, settings: dict[str, str]) -> BatchServer:
        if name in FORWARDERS:
            return batch_server_of(await shared_hop(name, **settings))
        if name == "payee":
            database = await create_database(postgres_url)
            running.push_async_callback(drop_database, postgres_url, database)
            url = with_database(postgres_url, database)
            starting = payee_batch_server(users_file, client, url, **settings)
        else:
            folder = Path(running.enter_context(TemporaryDirectory()))
            starting = directory_batch_server(users_file, client, folder, **settings)
        return await running.enter_async_context(starting)

    async def get(name: str, **settings: str) -> BatchServer:
        settings = {"batch_lines": "64", **settings}
        key = (name, *sorted(settings.items()))
        if key not in servers:
            servers[key] = await start(name, settings)
        servers[key].reset()
        return servers[key]

    return get


@pytest.fixture(params=[*FORWARDERS, "payee", "central-directory"])
def get_batch_server(request, shared_batch_server) -> Callable:
    """Gets each of the seven services that take batches, with any settings."""
    return functools.partial(shared_batch_server, request.param)


@pytest.fixture
async def batch_server(get_batch_server) -> BatchServer:
    """Each of the seven services that take batches."""
    return await get_batch_server()


@pytest.fixture(params=["spsp-server", "payee"])
async def either_batch_server(request, shared_batch_server) -> BatchServer:
    """A forwarder and the payee: for what all services do with a batch."""
    return await shared_batch_server(request.param)


@pytest.fixture
def window(monkeypatch):
    """Free a slot only when a response comes, however late: the test decides which requests leave together."""
    monkeypatch.setattr(batching, "RELEASE_SECONDS", 3_600)


@pytest.fixture
async def sender_of(window, start_hop) -> AsyncIterator[Callable]:
    """Starts a service that knows what its next hop announces."""
    async with peer() as next_hop:

        async def start(name: str = "spsp-server", **settings: str) -> BatchSender:
            settings = {"batch_lines": "64", "next_url": next_hop.url, **settings}
            sender = BatchSender(await start_hop(name, **settings), next_hop)
            assert 200 == (await sender.hop.send()).status
            next_hop.single.clear()
            return sender

        yield start


@pytest.fixture
async def sender(sender_of) -> BatchSender:
    return await sender_of()


@pytest.fixture(params=FORWARDERS)
async def each_sender(request, sender_of) -> BatchSender:
    """Each forwarder as a sender of batches."""
    return await sender_of(request.param)
