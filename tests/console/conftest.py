"""Fixtures: consoles in the test's process, and scripted services."""

from collections.abc import Mapping
from contextlib import AsyncExitStack

import pytest

from support import console as support
from support.console import RunningConsole


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
