"""The console in the test's process, and a client that signs in to it."""

import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from console.app import CONSOLE, create_app
from console.settings import ConsoleSettings
from console.view import Console
from support.responses import ReceivedResponse
from support.serving import served
from support.settings import load

OPERATOR, VIEWER = "operator", "viewer"
PASSWORD: Final = "sample"
SERVICE_PASSWORD: Final = "the console's own"


def basic(name: str, password: str = PASSWORD) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


@dataclass(frozen=True)
class RunningConsole:
    """A running console."""

    client: aiohttp.ClientSession
    url: str
    app: Any

    @property
    def console(self) -> Console:
        return self.app[CONSOLE]

    async def get(self, path: str, as_: str | None = OPERATOR, **headers: str) -> ReceivedResponse:
        return await self.send("GET", path, as_, None, headers)

    async def post(
        self, path: str, fields: Mapping[str, str], as_: str | None = OPERATOR, **headers: str
    ) -> ReceivedResponse:
        return await self.send("POST", path, as_, fields, headers)

    async def send(
        self,
        method: str,
        path: str,
        as_: str | None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> ReceivedResponse:
        given = {**({} if as_ is None else {"Authorization": basic(as_)}), **(headers or {})}
        async with self.client.request(
            method, self.url + path, data=fields, headers=given, allow_redirects=False
        ) as response:
            return ReceivedResponse(response.status, await response.read(), response.headers)


@asynccontextmanager
async def console(
    database_url: str,
    users_file: Path,
    client: aiohttp.ClientSession,
    services: Mapping[str, str],
    **settings: object,
) -> AsyncIterator[RunningConsole]:
    """Run a console that watches these services (name: base URL)."""
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_OPERATORS": OPERATOR,
        "QUOTES_SERVICE_PASSWORD": SERVICE_PASSWORD,
        "QUOTES_CONSOLE_SERVICES": ",".join(f"{name}={origin}" for name, origin in services.items()),
        **{f"QUOTES_{name.upper()}": str(value) for name, value in settings.items()},
    }
    app = create_app(load(ConsoleSettings, environment))
    async with served(app) as url:
        yield RunningConsole(client, url, app)
