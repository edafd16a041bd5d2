"""Fixtures of the whole chain: people in the directory, quotes, and a chain whose every hop can be watched."""

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from support.chain import Chain, running
from support.client import send
from support.messages import QUOTE, RESERVE, basic
from support.postgres import fresh_database
from support.serving import Responder, Seen, Stub, stub

ADMIN = basic("admin", "admin")
_numbers = itertools.count(50_000_000)

Register = Callable[..., Awaitable[dict[str, str]]]
Reserve = Callable[..., Awaitable[str]]


@pytest.fixture
def register(client) -> Register:
    """Gives a person nobody has asked for yet an account at ``receiver``; returns a request to pay them."""

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
    """The uuid of a new quote in the shared chain."""

    async def new(request: dict[str, str] | None = None, **more: str) -> str:
        answer = await send(client, "POST", chain.url + RESERVE, request or QUOTE, **more)
        assert 200 == answer.status, answer.body
        return answer.json["uuid"]

    return new


@pytest.fixture
async def expire(chain) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """Sets a quote's ``expires`` back to a second ago."""
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
    """A chain where a stub stands before each service: what crosses is seen, and may be answered there."""

    chain: Chain
    ports: dict[str, int]

    @property
    def url(self) -> str:
        return self.chain.url

    def tap_url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"


@pytest.fixture(scope="module")
def tapped(postgres_url, users_file, tmp_path_factory) -> Iterator[Tapped]:
    """Its taps listen while a test asks for ``taps``."""
    ports = dict(zip(HOPS, _free_ports(len(HOPS)), strict=True))
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


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


TAP_SECONDS = 0.03


@pytest.fixture
async def taps(tapped, client) -> AsyncIterator[dict[str, Stub]]:
    """The taps by the service behind each: every one waits a little and hands on what it sees."""
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(stub(through(client, tapped.chain.origin(name)), port))
            for name, port in tapped.ports.items()
        }


def through(client: aiohttp.ClientSession, to: str) -> Responder:
    async def answer(seen: Seen) -> web.Response:
        await asyncio.sleep(TAP_SECONDS)
        kept = {name: value for name, value in seen.headers.items() if name not in {"Host", "Content-Length"}}
        async with client.request(seen.method, to + seen.target, data=seen.body, headers=kept) as reply:
            dropped = {"Content-Length", "Date", "Server", "Connection", "Transfer-Encoding"}
            left = {name: value for name, value in reply.headers.items() if name not in dropped}
            return web.Response(status=reply.status, body=await reply.read(), headers=left)

    return answer
