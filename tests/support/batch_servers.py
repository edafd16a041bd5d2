"""The services that receive batches, in the test's process, each with a request that gets the response 200."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from central_directory import app as central_directory
from dfsp_api import payee
from support.batches import BatchResponse, line, send_batch
from support.client import ClientResponse, received
from support.forwarders import SOURCE, ClientRequest, Hop
from support.internals import CollectedLines, collect_lines, service_name
from support.messages import QUOTE, RESERVE, basic, headers
from support.payee import until
from support.serving import served
from support.settings import load

LOOK_UP_RECEIVER: Final = ClientRequest("GET", "/resources", query="identifierType=eur&identifier=30754016")
_RESOURCE: Final = {"identifierType": "eur", "identifier": "30754016", "spspReceiver": "http://spsp-server"}


@dataclass
class BatchServer:
    """A service under test that receives batches. `good` is a request that gets the response 200."""

    service: str
    app: web.Application
    url: str
    client: aiohttp.ClientSession
    log: CollectedLines
    good: ClientRequest
    hop: Hop | None = None
    """Where the service is a forwarder."""

    def reset(self) -> None:
        self.log.kept.clear()
        if self.hop is not None:
            self.hop.reset()

    def line(
        self, id_: int | str = 1, sent: ClientRequest | None = None, **more: str | None
    ) -> dict[str, Any]:
        """Return a request as a line of a batch. Keywords are headers with "_" in place of "-"; None leaves one out."""
        sent = sent or self.good
        return line(id_, sent.method, sent.target, sent.body, **more)

    async def batch(self, *lines: dict[str, Any] | bytes, **more: str | None) -> BatchResponse:
        return await send_batch(self.client, self.url, lines, **more)

    async def alone(self, sent: ClientRequest | None = None, **more: str | None) -> ClientResponse:
        """Send the request without a batch."""
        sent = sent or self.good
        given = headers() | {name.replace("_", "-"): value for name, value in more.items()}
        async with self.client.request(
            sent.method,
            self.url + sent.target,
            data=sent.body,
            headers={name: value for name, value in given.items() if value is not None},
        ) as response:
            return await received(response)

    async def logged(self, count: int) -> None:
        """Wait until the service has logged at least this number of requests."""

        async def is_there() -> bool:
            return len(self.log.events) >= count

        await until(is_there)


def batch_server_of(hop: Hop) -> BatchServer:
    return BatchServer(hop.service, hop.app, hop.url, hop.client, hop.log, hop.adapted(SOURCE), hop)


@asynccontextmanager
async def payee_batch_server(
    users_file: Path, client: aiohttp.ClientSession, database_url: str, **settings: str
) -> AsyncIterator[BatchServer]:
    environment = _environment(users_file, settings) | {"QUOTES_DATABASE_URL": database_url}
    good = ClientRequest("POST", RESERVE, body=json.dumps(QUOTE).encode())
    async with _serving(payee.create_app(load(payee.PayeeSettings, environment)), client, good) as server:

        async def is_ready() -> bool:
            return 200 == (await server.alone(ClientRequest("GET", "/health/ready"))).status

        await until(is_ready)
        yield server


@asynccontextmanager
async def directory_batch_server(
    users_file: Path, client: aiohttp.ClientSession, folder: Path, **settings: str
) -> AsyncIterator[BatchServer]:
    environment = _environment(users_file, settings) | {
        "QUOTES_DIRECTORY_FILE": str(folder / "directory.json")
    }
    app = central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
    async with _serving(app, client, LOOK_UP_RECEIVER) as server:
        add = ClientRequest("POST", "/resources", body=json.dumps(_RESOURCE).encode())
        assert 201 == (await server.alone(add, Authorization=basic("admin", "admin"))).status
        server.reset()
        yield server


def _environment(users_file: Path, settings: dict[str, str]) -> dict[str, str]:
    return {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_MAX_WAIT_SECONDS": "60",  # a busy machine must not look like an overloaded service
        **{f"QUOTES_{name.upper()}": value for name, value in settings.items()},
    }


@asynccontextmanager
async def _serving(
    app: web.Application, client: aiohttp.ClientSession, good: ClientRequest
) -> AsyncIterator[BatchServer]:
    log = collect_lines(app)
    async with served(app) as url:
        yield BatchServer(service_name(app), app, url, client, log, good)
