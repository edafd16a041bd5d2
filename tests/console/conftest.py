"""Fixtures: consoles in the test's process, and scripted services."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import pytest

from console.app import MIGRATIONS
from console.collectors import fleet, look
from support import console as support
from support.console import RunningConsole
from support.scripted_service import ScriptedService, scripted_service


@pytest.fixture(autouse=True)
def quick(request, monkeypatch) -> None:
    """Make consoles look at the services without a pause, except in a browser."""
    if not request.node.get_closest_marker("browser"):
        monkeypatch.setattr(fleet, "EVERY_SECONDS", 0.0)
        monkeypatch.setattr(fleet, "MIN_PAUSE_SECONDS", 0.02)


@pytest.fixture
def impatient(monkeypatch) -> None:
    """Make consoles count a service as frozen after a short time."""
    monkeypatch.setattr(look, "LOOK_SECONDS", 1.0)


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, with the tables of the console."""
    async with reused_databases.one(MIGRATIONS) as url:
        yield url


@pytest.fixture
async def start(database_url, users_file, client):
    """Return a function that starts a console which watches services (name: base URL)."""
    async with AsyncExitStack() as stack:

        async def start_(services: Mapping[str, str] = {}, **settings: object) -> RunningConsole:
            url = str(settings.pop("database_url", database_url))
            return await stack.enter_async_context(
                support.console(url, users_file, client, services, **settings)
            )

        yield start_


@pytest.fixture
async def stop_stack():
    """A stack of contexts that end with the test."""
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def service():
    """A scripted service."""
    async with scripted_service() as made:
        yield made


@pytest.fixture
async def watched(service: ScriptedService, start):
    """A console that watches the scripted service under the name `dfsp-api`."""
    return await start({"dfsp-api": service.url})
