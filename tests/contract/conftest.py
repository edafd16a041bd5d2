"""Each test that asks for `hop` runs once for every forwarder."""

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from chassis import auth, users
from quoting import server
from support.forwarders import FORWARDERS, Forwarder, Hop, hop_of

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(scope="module", autouse=True)
def _cheap_start():
    """What a process pays once when it starts would be paid by each test: hashes, and OpenAPI documents."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "openapi", functools.cache(server.openapi))
        patch.setattr(users, "HASHER", CHEAP)
        patch.setattr(auth, "HASHER", CHEAP)
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
