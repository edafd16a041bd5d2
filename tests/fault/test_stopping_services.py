"""After SIGTERM a service finishes the requests in flight, refuses new ones, and ends."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import aiohttp
import asyncpg
import orjson
import pytest

from support.chain import running
from support.client import ClientResponse, send
from support.documented import IDS
from support.messages import QUOTE, RESERVE, basic, headers
from support.postgres import fresh_database

pytestmark = pytest.mark.batches

FORWARDERS = ("dfsp-api-payer", "spsp-client-proxy", "spsp-client", "spsp-server", "spsp-server-backend")
ALL = (*FORWARDERS, "dfsp-api")
MAX_STOP_SECONDS = 40.0
"""Four times the limit of ten seconds, for a busy machine. A request that hangs would take a minute."""
PATIENCE_SECONDS = 60.0


@dataclass
class KeptConnection:
    """A kept connection, such as the previous hop's."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def write(self, method: str, target: str, body: bytes = b"", **more: str) -> None:
        made = {"Host": "x", **headers(), **more}
        made.setdefault("Content-Length", str(len(body)))
        head = "".join(f"{name}: {value}\r\n" for name, value in made.items())
        self.writer.write(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def answer(self, seconds: float = PATIENCE_SECONDS) -> ClientResponse:
        async with asyncio.timeout(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            found = dict(line.split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(found["Content-Length"]))
        return ClientResponse(int(first.split()[1]), found, body)

    async def is_closed(self, seconds: float = PATIENCE_SECONDS) -> bool:
        async with asyncio.timeout(seconds):
            return await self.reader.read(1) == b""


@contextlib.asynccontextmanager
async def kept(chain, name: str) -> AsyncIterator[KeptConnection]:
    host, port = chain.origin(name).removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield KeptConnection(reader, writer)
    finally:
        writer.close()


@contextlib.asynccontextmanager
async def locked(chain, uuid: str) -> AsyncIterator[Callable]:
    """Lock a quote's row, so that its payment waits. The value releases it."""
    connection = await asyncpg.connect(chain.database_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT FROM quote WHERE uuid = $1::text::uuid FOR UPDATE", uuid)
    try:
        yield transaction.rollback
    finally:
        await connection.close()


async def wait_for_waiter(chain) -> None:
    """Wait until the payee's statement waits for the row."""
    connection = await asyncpg.connect(chain.database_url)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ):
                await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def wait_for_log(chain, name: str, event: str) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not chain.has_logged(name, event):
            await asyncio.sleep(0.02)


async def reserve(client, chain) -> str:
    answer = await send(client, "POST", chain.url + RESERVE, QUOTE, X_Request_Timeout_Ms="30000")
    assert 200 == answer.status, answer.body
    return answer.json["uuid"]


async def seconds_until_end(child, started: float) -> float:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while child.running:
            await asyncio.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture
def restored(broken_chain):
    """Restart the services that the test has stopped."""
    yield broken_chain
    for name, child in broken_chain.network.children.items():
        if not child.running:
            child.log.rename(child.log.with_suffix(f".{time.time_ns()}"))
            broken_chain.network.restart(name)


@pytest.mark.parametrize("name", ALL)
async def test_a_stopping_service_finishes_requests_in_flight_and_refuses_new_ones(restored, client, name):
    chain, child = restored, restored.network.children[name]
    uuid = await reserve(client, chain)
    async with locked(chain, uuid) as release, kept(chain, name) as connection:
        connection.write("GET", "/v1/nothing")
        assert 404 == (await connection.answer()).status
        paying = asyncio.create_task(
            send(client, "PUT", f"{chain.url}/v1/payments/{uuid}", QUOTE, X_Request_Timeout_Ms="30000")
        )
        await wait_for_waiter(chain)
        started = time.monotonic()
        child.terminate()
        await wait_for_log(chain, name, "stopping")
        await asyncio.sleep(0.3)
        connection.write("POST", RESERVE, orjson.dumps(QUOTE), **{"L1p-Trace-Id": "new"})
        refused = await connection.answer()
        async with kept(chain, name) as another:
            another.write("POST", RESERVE, orjson.dumps(QUOTE))
            also_refused = await another.answer()
        still_runs = child.running
        await release()
        paid = await paying
        seconds = await seconds_until_end(child, started)

    assert (200, "EXECUTED") == (paid.status, paid.json.get("state"))
    assert (503, "UnavailableError", name.removesuffix("-payer"), "new") == refused.raised
    assert "1" == refused.headers["Retry-After"]
    assert "close" == refused.headers["Connection"].lower()
    assert (503, "UnavailableError", name.removesuffix("-payer")) == also_refused.raised[:3]
    assert still_runs
    assert seconds < MAX_STOP_SECONDS
    assert 0 == child.exit_code


async def test_the_stopping_directory_finishes_requests_in_flight(restored, client):
    chain, child = restored, restored.network.children["central-directory"]
    body = orjson.dumps(
        {"identifierType": "eur", "identifier": "77", "spspReceiver": "http://127.0.0.1:9", "primary": True}
    )
    async with kept(chain, "central-directory") as taken, kept(chain, "central-directory") as connection:
        connection.write("GET", "/nothing")
        assert 404 == (await connection.answer()).status
        taken.write(
            "POST",
            "/resources",
            body[:10],
            **{
                "Content-Length": str(len(body)),
                "Authorization": basic("admin", "admin"),
                "Expect": "100-continue",
            },
        )
        assert b"HTTP/1.1 100 Continue\r\n\r\n" == await taken.reader.readuntil(b"\r\n\r\n")  # in flight now
        started = time.monotonic()
        child.terminate()
        await wait_for_log(chain, "central-directory", "stopping")
        await asyncio.sleep(0.3)
        connection.write("GET", "/resources?identifierType=eur&identifier=77")
        refused = await connection.answer()
        taken.writer.write(body[10:])
        added = await taken.answer()
        seconds = await seconds_until_end(child, started)

    assert 201 == added.status
    assert (503, "UnavailableError", "central-directory") == refused.raised[:3]
    assert seconds < MAX_STOP_SECONDS
    assert 0 == child.exit_code


@pytest.fixture(scope="module")
def graceful_chain(postgres_url, users_file, tmp_path_factory):
    """Start a chain whose services have a grace period of three seconds."""
    overrides = {name: {"QUOTES_STOP_GRACE_SECONDS": "3"} for name in (*ALL, "central-directory")}
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("graceful"), url, users_file, overrides) as chain,
    ):
        yield chain


async def test_during_the_grace_period_a_service_answers_requests_and_is_not_ready(graceful_chain, client):
    """The services are stopped in the order of the chain, so that each one's next hop still runs."""
    for name in ALL:
        chain, child = graceful_chain, graceful_chain.network.children[name]
        await send(client, "GET", chain.origin(name) + f"/v1/quote/{'0' * 8}-0000-0000-0000-{'0' * 12}")
        async with kept(chain, name) as connection, kept(chain, name) as probe:
            body = QUOTE
            if name == "spsp-client":
                body = {**QUOTE, "submissionUrl": chain.origin("spsp-server") + RESERVE}
            probe.write("GET", "/health/ready")
            before = await probe.answer()
            started = time.monotonic()
            child.terminate()
            await wait_for_log(chain, name, "stopping")
            probe.write("GET", "/health/ready")
            ready = await probe.answer()
            connection.write("POST", RESERVE, orjson.dumps(body))
            served = await connection.answer()
            closed = await connection.is_closed()
            seconds = await seconds_until_end(child, started)

        assert (200, 503) == (before.status, ready.status), name
        assert 200 == served.status, (name, served.body)
        assert "close" == served.headers["Connection"].lower()
        assert closed
        assert 2.9 < seconds < MAX_STOP_SECONDS
        assert 0 == child.exit_code


@pytest.mark.parametrize("name", ALL)
async def test_a_service_ends_within_ten_seconds_although_a_request_hangs(restored, client, name):
    chain, child = restored, restored.network.children[name]
    uuid = await reserve(client, chain)
    async with locked(chain, uuid):
        paying = asyncio.create_task(
            send(client, "PUT", f"{chain.url}/v1/payments/{uuid}", QUOTE, X_Request_Timeout_Ms="60000")
        )
        await wait_for_waiter(chain)
        started = time.monotonic()
        child.terminate()
        seconds = await seconds_until_end(child, started)
        ended = (await asyncio.gather(paying, return_exceptions=True))[0]

    assert 5 < seconds < MAX_STOP_SECONDS
    assert 0 == child.exit_code
    if name == "dfsp-api-payer":  # no service is left that could answer
        assert isinstance(ended, aiohttp.ClientError)
    else:
        assert ended.status in {502, 503}
        assert ended.json["id"] in IDS[ended.status]
