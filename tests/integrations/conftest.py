"""Fixtures: providers in this process, and webhooks."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from integrations.delivery.queue import MIGRATIONS
from support import provider as support
from support.provider import OK, Provider
from support.serving import stub


@pytest.fixture(scope="session")
def provider_users(tmp_path_factory) -> Path:
    return support.write_users(tmp_path_factory.mktemp("provider") / "users")


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, with the tables of `integrations`."""
    async with reused_databases.one(MIGRATIONS) as url:
        yield url


@pytest.fixture
async def start(database_url, provider_users, client):
    """Return a function that starts a provider with settings on the test's database."""
    async with AsyncExitStack() as stack:

        async def start_(**settings: object) -> Provider:
            return await stack.enter_async_context(
                support.provider(settings.pop("url", database_url), provider_users, client, **settings)
            )

        yield start_


@pytest.fixture
async def provider(start) -> Provider:
    return await start()


@pytest.fixture
async def hook():
    """A webhook that answers 200 to all events."""
    async with stub(OK) as made:
        yield made
