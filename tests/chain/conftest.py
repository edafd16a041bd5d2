"""Fixtures of the whole chain: receivers in the directory, quotes, and a chain with a tap before each service."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from support.chain import Chain, free_ports, running
from support.client import send
from support.messages import QUOTE, RESERVE, basic
from support.postgres import fresh_database
from support.sample_run import UP, SampleRun, sample_run, shown
from support.serving import Responder, Seen, Stub, client_session, stub

ADMIN = basic("admin", "admin")
_numbers = itertools.count(50_000_000)

Register = Callable[..., Awaitable[dict[str, str]]]
Reserve = Callable[..., Awaitable[str]]


@pytest.fixture(scope="session")
def run() -> Iterator[SampleRun]:
    """A run that tests share; a test of test_sample_run, the last module that uses it, stops it.

    Its shell has variables of Postgres' clients, which the network must not inherit.
    """
    shell = {
        "PGPORT": "1",
        "PGHOST": "nowhere",
        "PGSSLMODE": "verify-full",
        "PGTARGETSESSIONATTRS": "standby",
    }
    # not below pytest's own folder, which an embedded Postgres of another user cannot enter
    with TemporaryDirectory() as folder, sample_run(free_ports(), Path(folder) / "data", **shell) as started:
        started.wait_until_up()
        asyncio.run(_print_one(started))
        started.output_of_demonstration = started.output
        yield started


async def _print_one(run: SampleRun) -> None:
    """Send one request and wait until the run has printed it."""
    async with client_session() as session, asyncio.timeout(60):
        answer = await send(session, "POST", run.url + RESERVE, QUOTE)
        assert 200 == answer.status, answer.body
        while not sum(shown(run.output.partition(UP)[2])):
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session() as session:
        yield session


@pytest.fixture
def register(client) -> Register:
    """Registers a new person at ``receiver`` in the directory and returns a request to pay them."""

    async def add(chain: Chain, receiver: str, identifier: str | None = None) -> dict[str, str]:
        person = {"identifierType": "eur", "identifier": identifier or str(next(_numbers))}
        answer = await send(
            client,
            "POST",
            chain.origin("central-directory") + "/resources",
            {**person, "spspReceiver": receiver},
            Authorization=ADMIN,
        )
        assert 201 == answer.status, answer.body
        return {**QUOTE, **person}

    return add


@pytest.fixture
def reserve(chain, client) -> Reserve:
    """Reserves a quote in the shared chain and returns its uuid."""

    async def new(request: dict[str, str] | None = None, **more: str) -> str:
        answer = await send(client, "POST", chain.url + RESERVE, request or QUOTE, **more)
        assert 200 == answer.status, answer.body
        return answer.json["uuid"]

    return new


@pytest.fixture
async def expire(chain) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Sets a quote's ``expires`` to a second ago."""
    connection = await asyncpg.connect(chain.database_url)

    async def set_back(uuid: str) -> None:
        done = await connection.execute(
            "UPDATE quote SET expires = date_trunc('milliseconds', clock_timestamp() - interval '1 second')"
            " WHERE uuid = $1::text::uuid",
            uuid,
        )
        assert "UPDATE 1" == done

    yield set_back
    await connection.close()


HOPS = (
    "spsp-client-proxy",
    "central-directory",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)


@dataclass(frozen=True)
class Tapped:
    """A chain with a tap before each service: a stub that keeps the requests and may respond to them itself."""

    chain: Chain
    ports: dict[str, int]

    @property
    def url(self) -> str:
        return self.chain.url

    def tap_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@pytest.fixture(scope="module")
def tapped(postgres_url, users_file, tmp_path_factory) -> Iterator[Tapped]:
    """A chain whose services call each other through the ports of ``taps``."""
    first = free_ports()
    ports = {name: first + offset for offset, name in enumerate(HOPS)}
    at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    overrides = {
        "dfsp-api-payer": {"QUOTES_NEXT_HOP": at["spsp-client-proxy"]},
        "spsp-client-proxy": {
            "QUOTES_NEXT_HOP": at["spsp-client"],
            "QUOTES_DIRECTORY_URL": at["central-directory"],
            "QUOTES_DIRECTORY_MEMORY_SECONDS": "3600",
        },
        "spsp-client": {"QUOTES_SUBMISSION_URLS": at["spsp-server"]},
        "spsp-server": {"QUOTES_NEXT_HOP": at["spsp-server-backend"]},
        "spsp-server-backend": {"QUOTES_NEXT_HOP": at["dfsp-api"]},
    }
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("tapped"), url, users_file, overrides) as chain,
    ):
        yield Tapped(chain, ports)


TAP_SECONDS = 0.03
"""How long each tap holds a request."""


@pytest.fixture(scope="module")
async def open_taps(tapped, client) -> AsyncIterator[dict[str, Stub]]:
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(stub(through(client, tapped.chain.origin(name)), port))
            for name, port in tapped.ports.items()
        }


@pytest.fixture
def taps(tapped, client, open_taps) -> dict[str, Stub]:
    """The taps, by the service behind each: each waits a little and passes on what it receives."""
    for name, tap in open_taps.items():
        tap.answer = through(client, tapped.chain.origin(name))
        tap.seen.clear()
    return open_taps


def through(client: aiohttp.ClientSession, to: str) -> Responder:
    async def answer(seen: Seen) -> web.Response:
        await asyncio.sleep(TAP_SECONDS)
        kept = {name: value for name, value in seen.headers.items() if name not in {"Host", "Content-Length"}}
        async with client.request(seen.method, to + seen.target, data=seen.body, headers=kept) as response:
            dropped = {"Content-Length", "Date", "Server", "Connection", "Transfer-Encoding"}
            left = {name: value for name, value in response.headers.items() if name not in dropped}
            return web.Response(status=response.status, body=await response.read(), headers=left)

    return answer
