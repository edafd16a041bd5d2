"""Fixtures: a payee in the test's process, two payees as processes, and a connection to their database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from dfsp_api.repository import MIGRATIONS, Repository
from network.processes import Network
from network.topology import ServiceSpec
from support import payee as support
from support.chain import free_ports
from support.payee import Caller, FakeClock
from support.settings import DEFAULTS


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, with the tables of the payee."""
    async with reused_databases.one(MIGRATIONS) as url:
        yield url


@pytest.fixture
async def start(database_url, users_file, client):
    """Return a function that starts another payee on the test's database. Its arguments are settings."""
    async with AsyncExitStack() as stack:

        async def start_(**settings: object) -> Caller:
            return await stack.enter_async_context(
                support.payee(settings.pop("url", database_url), users_file, client, **settings)
            )

        yield start_


@pytest.fixture
async def payee(start) -> Caller:
    """A payee with the sample fees."""
    return await start()


@pytest.fixture
async def sql(database_url) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the payee's database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def clock(sql) -> AsyncIterator[FakeClock]:
    """Stop the clock of the payee's database. A test must request this fixture before the payee."""
    clock = FakeClock(sql)
    await clock.install()
    yield clock
    await clock.remove()


@pytest.fixture
def payee_environment() -> dict[str, str]:
    """More environment variables of `two_processes`."""
    return {}


@pytest.fixture
async def two_processes(
    request, database_url, users_file, client, tmp_path, payee_environment
) -> AsyncIterator[list[Caller]]:
    """Two payees as processes on one database. An indirect parameter is its kind."""
    first = free_ports()
    environment = {
        **DEFAULTS,
        "QUOTES_ROLE": "payee",
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_DATABASE_KIND": getattr(request, "param", "postgres"),
        "QUOTES_STOP_GRACE_SECONDS": "0",
        **payee_environment,
    }
    specs = [
        ServiceSpec(f"payee-{port}", "dfsp_api", port, {**environment, "QUOTES_PORT": str(port)})
        for port in (first, first + 1)
    ]
    network = Network(specs, logs=tmp_path / "logs")
    try:
        await asyncio.to_thread(network.start)
        await asyncio.to_thread(network.wait_ready)
        yield [Caller(client, spec.origin) for spec in specs]
    finally:
        await asyncio.to_thread(network.stop)


@pytest.fixture
async def repository(database_url) -> AsyncIterator[Repository]:
    """The statements without the service."""
    async with support.database(database_url) as database:
        yield Repository(database, support.TTL)
