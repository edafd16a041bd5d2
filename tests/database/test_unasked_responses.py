"""A response of Postgres that comes unasked is never taken for the response to the next statement.

Without this protection, asyncpg takes a response that it has not read yet for that of the next statement: one caller
would get the rows of another.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from chassis.database import Database
from support.payee import database
from support.swallowing_proxy import SwallowingProxy

ECHO = "SELECT $1::text AS text"


class RepeatingProxy(SwallowingProxy):
    """Keeps what the server sent, to send it to the client once more."""

    def __init__(self, server_url: str) -> None:
        super().__init__(server_url)
        self.clients: list[asyncio.StreamWriter] = []
        self.recorded = b""
        self.behind_next_response = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.append(writer)
        await super().serve(reader, writer)

    def pass_on(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        if writer in self.clients:
            self.recorded += data
            data += self.behind_next_response
            self.behind_next_response = b""
        super().pass_on(data, writer)


@asynccontextmanager
async def repeating(server_url: str) -> AsyncIterator[tuple[RepeatingProxy, str]]:
    proxy = RepeatingProxy(server_url)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    parts = urlsplit(server_url)
    user, port = parts.netloc.rpartition("@")[0], server.sockets[0].getsockname()[1]
    try:
        yield proxy, f"postgresql://{user}@127.0.0.1:{port}{parts.path}"
    finally:
        server.close()
        await proxy.close()


async def text(opened: Database, value: str) -> str:
    [row] = await opened.fetch(ECHO, value)
    found: str = row["text"]
    return found


@pytest.mark.parametrize("has_turns", [False, True], ids=["unread", "read"])
async def test_a_response_on_an_idle_connection_ends_it(database_url, has_turns):
    async with repeating(database_url) as (proxy, url), database(url, 1) as opened:
        await text(opened, "zero")  # prepares the statement
        proxy.recorded = b""
        await text(opened, "first")
        proxy.clients[-1].write(proxy.recorded)
        for _ in range(20 if has_turns else 0):
            await asyncio.sleep(0)

        assert ["second", "third"] == [await text(opened, "second"), await text(opened, "third")]
        assert 2 == len(proxy.clients)


PARTS = {
    "one byte": b"D",
    "a head": b"D\0\0\0\x20",
    "no message": b"\0\0\0",
    "half a notice": b"N\0\0\0\x20SNOT",
}


@pytest.mark.parametrize("has_turns", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_a_part_of_a_message_on_an_idle_connection_ends_it(database_url, part, has_turns):
    """Otherwise the next statement would wait for the rest of the message until its deadline."""
    async with repeating(database_url) as (proxy, url), database(url, 1) as opened:
        await text(opened, "first")
        proxy.clients[-1].write(part)
        for _ in range(20 if has_turns else 0):
            await asyncio.sleep(0)

        assert "second" == await text(opened, "second")
        assert 2 == len(proxy.clients)


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
async def test_a_part_of_a_message_behind_a_response_ends_the_connection(database_url, part):
    async with repeating(database_url) as (proxy, url), database(url, 1) as opened:
        await text(opened, "first")
        proxy.behind_next_response = part

        assert "second" == await text(opened, "second")
        assert "third" == await text(opened, "third")
        assert 2 == len(proxy.clients)


async def test_a_notice_on_an_idle_connection_does_not_end_it(database_url):
    notice = b"SNOTICE\0C00000\0Mhello\0\0"
    async with repeating(database_url) as (proxy, url), database(url, 1) as opened:
        await text(opened, "first")
        proxy.clients[-1].write(b"N" + (len(notice) + 4).to_bytes(4, "big") + notice)

        assert "second" == await text(opened, "second")
        assert 1 == len(proxy.clients)
