"""Fixtures: receivers in process on a database of the test's own."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from support import receiver as support
from support.receiver import Sender


@pytest.fixture
async def start(database_url, users_file, client, tmp_path):
    """Starts a receiver with settings of its own; ``catalogue`` is its instruments' TOML."""
    async with AsyncExitStack() as stack:

        async def start_(**settings: object) -> Sender:
            made = support.settings_of(database_url, users_file, tmp_path, **settings)
            return await stack.enter_async_context(support.receiver(made, client))

        yield start_


@pytest.fixture
async def receiver(start) -> Sender:
    """A receiver with the sample instruments."""
    return await start()


@pytest.fixture
async def sql(receiver, database_url) -> AsyncIterator[asyncpg.Connection]:
    """A connection to the receiver's tables."""
    connection = await support.own_schema(database_url)
    yield connection
    await connection.close()
