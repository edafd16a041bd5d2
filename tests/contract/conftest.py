"""Each test that asks for `hop` runs once for every forwarder."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from chassis import batching, password_queue, users, users_file
from quoting import server
from support.batches import peer
from support.forwarders import FORWARDERS, Forwarder, Hop, hop_of
from support.postgres import create_database, drop_database, with_database
from support.senders import Sender
from support.takers import Taker, directory_taker, of_hop, payee_taker

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(scope="module", autouse=True)
def _cheap_start():
    """What a process pays once when it starts would be paid by each test: hashes, and OpenAPI documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "openapi", functools.cache(server.openapi))
        patch.setattr(users, "HASHER", CHEAP)
        patch.setattr(users_file, "HASHER", CHEAP)
        patch.setattr(password_queue, "HASHER", CHEAP)
        yield


@pytest.fixture(params=FORWARDERS.values(), ids=FORWARDERS.keys())
def forwarder(request) -> Forwarder:
    return request.param


@pytest.fixture
async def hop_to(users_file, client) -> AsyncIterator[Callable]:
    """Starts a hop with settings or a next hop of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(forwarder: Forwarder, users: Path = users_file, **settings: str) -> Hop:
            return await stack.enter_async_context(hop_of(forwarder, users, client, **settings))

        yield start


@pytest.fixture
async def hop(forwarder, hop_to) -> Hop:
    """One of the five forwarders, with a next hop that answers every call 200."""
    return await hop_to(forwarder)


@pytest.fixture(params=[*FORWARDERS, "payee", "central-directory"])
async def taker_with(request, users_file, client, hop_to, tmp_path) -> AsyncIterator[Callable]:
    """Starts one of the seven services that take batches, with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def start(**settings: str) -> Taker:
            settings = {"batch_lines": "64", **settings}
            if request.param in FORWARDERS:
                return of_hop(await hop_to(FORWARDERS[request.param], **settings))
            if request.param == "payee":
                server = request.getfixturevalue("postgres_url")
                name = await create_database(server)
                stack.push_async_callback(drop_database, server, name)
                url = with_database(server, name)
                return await stack.enter_async_context(payee_taker(users_file, client, url, **settings))
            return await stack.enter_async_context(directory_taker(users_file, client, tmp_path, **settings))

        yield start


@pytest.fixture
async def taker(taker_with) -> Taker:
    """One of the seven services that take batches."""
    return await taker_with()


def _named(name: str):
    @pytest.fixture
    async def fixture(hop_to) -> Hop:
        return await hop_to(FORWARDERS[name])

    return fixture


payer = _named("dfsp-api")
proxy = _named("spsp-client-proxy")
spsp_client = _named("spsp-client")


@pytest.fixture(params=["dfsp-api", "spsp-client-proxy", "spsp-client"])
async def reader(request, hop_to) -> Hop:
    """One of the forwarders that look into bodies."""
    return await hop_to(FORWARDERS[request.param])


@pytest.fixture
def window(monkeypatch):
    """A slot is free at an answer alone, however long that takes: what leaves together is the test's to say."""
    monkeypatch.setattr(batching, "RELEASE_SECONDS", 3_600)


@pytest.fixture
async def sender_of(window, hop_to) -> AsyncIterator[Callable]:
    """A service that knows what its next hop announces."""
    async with peer() as next_hop:

        async def start(name: str = "spsp-server", **settings: str) -> Sender:
            settings = {"batch_lines": "64", "next_url": next_hop.url, **settings}
            sender = Sender(await hop_to(FORWARDERS[name], **settings), next_hop)
            assert 200 == (await sender.hop.send()).status
            next_hop.alone.clear()
            return sender

        yield start


@pytest.fixture
async def sender(sender_of) -> Sender:
    return await sender_of()


@pytest.fixture(params=FORWARDERS)
async def each_sender(request, sender_of) -> Sender:
    return await sender_of(request.param)
