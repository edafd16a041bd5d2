"""A connection that swallows everything costs its callers' time and no more: it is closed, and another one is used."""

import asyncio
import socket
import time

import asyncpg
import pytest

from chassis import keepalive
from chassis.errors import UnavailableError, UpstreamTimeoutError
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.repository import Repository
from support.payee import TTL, database, new, payment, until, waiting_for_lock
from support.swallowing_proxy import swallowing_proxy

LONG_SECONDS = 30
"""Far less than the 60 s of a statement without a deadline, and far more than a busy machine needs."""


def soon() -> float:
    return time.monotonic() + 0.3


@pytest.mark.parametrize("kind", [Repository, DistributedRepository])
async def test_a_dead_connection_is_closed_at_its_callers_deadline_and_another_one_is_used(
    database_url, kind
):
    """Statements had 60 s whatever their callers had, and a pool of 16 filled up."""
    async with swallowing_proxy(database_url) as proxy, database(proxy.url, 4) as opened:
        repository = kind(opened, TTL)
        item = new("one")
        statements = (
            lambda: repository.reserve([item], soon()),
            lambda: repository.execute([payment(item)], soon()),
            lambda: repository.find([item], soon()),
        )
        await asyncio.gather(*(opened.fetch("SELECT pg_sleep(0.1)") for _ in range(4)))
        assert 4 == proxy.swallow()
        began = time.monotonic()
        ends = await asyncio.gather(*(statement() for statement in statements), return_exceptions=True)

        assert [UpstreamTimeoutError] * 3 == [type(end) for end in ends]
        # the fourth connection was idle, and is as dead
        quotes = await repository.reserve([item], time.monotonic() + LONG_SECONDS)
        assert item.fingerprint == quotes[item.uuid].fingerprint
        assert time.monotonic() - began < LONG_SECONDS


async def test_a_payees_dead_connections_cost_their_callers_time_and_no_more(start, database_url):
    """Without the protection, callers waited up to 58 s: a statement had 60 s, and each next caller got another dead connection."""
    async with swallowing_proxy(database_url) as proxy:
        payee = await start(url=proxy.url, database_connections=4)
        await asyncio.gather(*(payee.reserve() for _ in range(20)))
        proxy.swallow()
        began = time.monotonic()

        async def is_answered() -> bool:
            answer = await payee.reserve(key="one", X_Request_Timeout_Ms="1000")
            assert answer.status in {200, 503, 504}
            return 200 == answer.status

        await until(is_answered)
        assert time.monotonic() - began < LONG_SECONDS


async def test_a_transaction_ends_at_its_deadline_and_its_connection_is_closed(database_url, sql):
    async with database(database_url, 1) as opened:

        async def work(connection: asyncpg.Connection) -> None:
            await connection.execute("CREATE TABLE half_done (id int)")
            await connection.execute("SELECT pg_sleep(50)")

        with pytest.raises(UpstreamTimeoutError):
            await opened.transaction(work, deadline=soon())
        with pytest.raises(UpstreamTimeoutError):
            await opened.connected(deadline=time.monotonic() - 1)

        assert 1 == (await opened.fetch("SELECT 1"))[0][0]
    assert await sql.fetchval("SELECT to_regclass('half_done') IS NULL")


async def test_no_statement_begins_after_its_deadline(repository, sql):
    with pytest.raises(UpstreamTimeoutError):
        await repository.reserve([new("one")], time.monotonic() - 1)

    assert 0 == await sql.fetchval("SELECT count(*) FROM quote")


async def test_the_kernel_ends_a_tcp_connection_whose_peer_is_gone(database_url):
    """An idle connection by keep-alive probes, one with data under way by TCP_USER_TIMEOUT."""
    found: list[tuple[int, ...]] = []

    async def look(connection: asyncpg.Connection) -> None:
        stream = connection._transport.get_extra_info("socket")
        found.append(
            (
                stream.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            )
        )

    async with swallowing_proxy(database_url) as proxy, database(proxy.url, 1) as opened:
        opened.on_connect(look)
        await opened.expire_connections()
        await opened.fetch("SELECT 1")

    assert [(1, keepalive.IDLE_SECONDS, keepalive.USER_TIMEOUT_MS)] == found


async def test_the_cause_of_a_lost_connection_is_the_one_that_is_logged(database_url, sql):
    """It was "cannot call Connection.terminate(): connection has been released back to the pool"."""
    async with database(database_url, 1) as opened:
        item = new("one")
        await Repository(opened, TTL).reserve([item])
        async with sql.transaction():
            await sql.execute("SELECT FROM quote FOR UPDATE")
            paying = asyncio.create_task(Repository(opened, TTL).execute([payment(item)]))
            await waiting_for_lock(sql)
            await sql.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'dfsp_api'"
            )
            with pytest.raises(UnavailableError) as raised:
                await paying

    assert "terminate()" not in str(raised.value.cause)
    assert str(raised.value.cause).startswith(("AdminShutdownError: ", "ConnectionDoesNotExistError: "))
