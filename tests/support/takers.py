"""Every service that takes batches, in process, and a request that it answers 200."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

from central_directory import app as central_directory
from chassis.app import SERVICE
from dfsp_api import payee
from support.batches import Batch, line, send_batch
from support.forwarders import SOURCE, Answer, Ask, Collected, Hop, collect_lines
from support.messages import QUOTE, RESERVE, basic, headers
from support.payee import until
from support.serving import served
from support.settings import load

LOOK_UP_RECEIVER: Final = Ask("GET", "/resources", query="identifierType=eur&identifier=30754016")
_RESOURCE: Final = {"identifierType": "eur", "identifier": "30754016", "spspReceiver": "http://spsp-server"}


@dataclass
class Taker:
    """A service that takes batches, and a request that it answers 200."""

    service: str
    app: web.Application
    url: str
    client: aiohttp.ClientSession
    log: Collected
    ask: Ask

    def line(self, id_: int | str = 1, ask: Ask | None = None, **more: str | None) -> dict[str, Any]:
        """The request as a line; keyword names are headers."""
        asked = ask or self.ask
        return line(id_, asked.method, asked.target, asked.body, **more)

    async def batch(self, *lines: dict[str, Any] | bytes, **more: str | None) -> Batch:
        return await send_batch(self.client, self.url, lines, **more)

    async def alone(self, ask: Ask | None = None, **more: str | None) -> Answer:
        asked = ask or self.ask
        given = headers() | {name.replace("_", "-"): value for name, value in more.items()}
        async with self.client.request(
            asked.method,
            self.url + asked.target,
            data=asked.body,
            headers={name: value for name, value in given.items() if value is not None},
        ) as response:
            return Answer(response.status, CIMultiDict(response.headers), await response.read())

    async def logged(self, count: int) -> None:
        """Until so many requests have their line."""

        async def is_there() -> bool:
            return len(self.log.events) >= count

        await until(is_there)


def of_hop(hop: Hop) -> Taker:
    return Taker(hop.service, hop.app, hop.url, hop.client, hop.lines, hop.adapted(SOURCE))


@asynccontextmanager
async def payee_taker(
    users_file: Path, client: aiohttp.ClientSession, database_url: str, **settings: str
) -> AsyncIterator[Taker]:
    told = _told(users_file, settings) | {"QUOTES_DATABASE_URL": database_url}
    ask = Ask("POST", RESERVE, body=json.dumps(QUOTE).encode())
    async with _serving(payee.create_app(load(payee.PayeeSettings, told)), client, ask) as taker:

        async def is_ready() -> bool:
            return 200 == (await taker.alone(Ask("GET", "/health/ready"))).status

        await until(is_ready)
        yield taker


@asynccontextmanager
async def directory_taker(
    users_file: Path, client: aiohttp.ClientSession, folder: Path, **settings: str
) -> AsyncIterator[Taker]:
    told = _told(users_file, settings) | {"QUOTES_DIRECTORY_FILE": str(folder / "directory.json")}
    app = central_directory.create_app(load(central_directory.CentralDirectorySettings, told))
    async with _serving(app, client, LOOK_UP_RECEIVER) as taker:
        add = Ask("POST", "/resources", body=json.dumps(_RESOURCE).encode())
        assert 201 == (await taker.alone(add, Authorization=basic("admin", "admin"))).status
        taker.log.kept.clear()
        yield taker


def _told(users_file: Path, settings: dict[str, str]) -> dict[str, str]:
    return {
        "QUOTES_USERS_FILE": str(users_file),
        **{f"QUOTES_{name.upper()}": value for name, value in settings.items()},
    }


@asynccontextmanager
async def _serving(app: web.Application, client: aiohttp.ClientSession, ask: Ask) -> AsyncIterator[Taker]:
    log = collect_lines(app)
    async with served(app) as url:
        yield Taker(app[SERVICE].name, app, url, client, log, ask)
