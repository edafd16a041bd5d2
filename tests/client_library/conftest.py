"""Fixtures of the client library: the fake, and the same tests on the real chain."""

from collections.abc import AsyncIterator
from decimal import Decimal
from functools import partial
from uuid import UUID

import asyncpg
import pytest

from dfsp_quotes import QuoteClient
from dfsp_quotes.fake import ExposureLimit, FakeQuoteServer
from support.chain import Chain
from support.messages import QUOTE
from support.quote_client import QuoteServer


@pytest.fixture
async def fake() -> AsyncIterator[FakeQuoteServer]:
    known = {(QUOTE["identifierType"], QUOTE["identifier"])}
    users = {"other": "456", "admin": "admin"}
    limits = {("other", "KWD"): ExposureLimit(sum=Decimal(30), count=2)}
    async with FakeQuoteServer(receivers=known, users=users, operators=["admin"], limits=limits) as server:
        yield server


@pytest.fixture
async def fake_client(fake) -> AsyncIterator[QuoteClient]:
    async with QuoteClient(fake.url, fake.name, fake.password) as client:
        yield client


@pytest.fixture(params=["fake", "chain"])
def server(request) -> QuoteServer:
    """The fake, and then the real chain."""
    started = request.getfixturevalue(request.param)
    payee_url = started.url if request.param == "fake" else started.origin("dfsp-api")
    return QuoteServer(started.url, partial(EXPIRE[request.param], started), payee_url)


async def _expire_in_fake(fake: FakeQuoteServer, uuid: UUID) -> None:
    fake.expire(uuid)


async def _expire_in_chain(chain: Chain, uuid: UUID) -> None:
    connection = await asyncpg.connect(chain.database_url)
    try:
        changed = await connection.execute(
            "UPDATE quote SET expires = date_trunc('milliseconds', greatest("
            "clock_timestamp() - interval '1 second', executed + interval '1 millisecond')) WHERE uuid = $1",
            uuid,
        )
    finally:
        await connection.close()
    assert "UPDATE 1" == changed


EXPIRE = {"fake": _expire_in_fake, "chain": _expire_in_chain}


@pytest.fixture
async def client(server) -> AsyncIterator[QuoteClient]:
    async with server.client() as client:
        yield client


@pytest.fixture
async def other_client(server) -> AsyncIterator[QuoteClient]:
    """A client with the credentials of another caller."""
    async with server.client("other", "456") as client:
        yield client
