"""Fixtures: receivers in the test's process, each test with a new database."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from chassis.logs import LogWriter
from signal_receiver.app import create_app
from signal_receiver.event_repository import MIGRATIONS
from support import receiver as support
from support.receiver import Sender, settings_of
from support.serving import served


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, with the tables of the receiver."""
    async with reused_databases.one(MIGRATIONS) as url:
        yield url


@pytest.fixture
async def start(database_url, users_file, client, tmp_path):
    """Starts a receiver with the settings given; ``catalogue`` is the TOML of its instruments."""
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


@pytest.fixture
async def logged(database_url, users_file, client, tmp_path, monkeypatch):
    """A receiver and its log lines so far."""
    lines: list[dict] = []
    monkeypatch.setattr("chassis.watched_files.LOOK_SECONDS", 0.02)
    monkeypatch.setattr(LogWriter, "write", lambda _self, new, *, now: lines.extend(map(json.loads, new)))
    async with served(create_app(settings_of(database_url, users_file, tmp_path))) as url:
        sender = Sender(client, url)
        while (await sender.call("GET", "/health/ready")).status != 200:
            await asyncio.sleep(0.01)
        yield sender, lines
