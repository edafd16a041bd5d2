"""Metrics of the pool and of the statements, at a payee with a real Postgres."""

import asyncio
import time

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from chassis.database import Database
from chassis.errors import UnavailableError, UpstreamTimeoutError
from dfsp_api.repository import MIGRATIONS
from support.payee import database, until

SLEEP = "SELECT pg_sleep(30)"


@pytest.fixture
async def shown(database_url):
    """A database with one connection, and a function that returns the value of a metric."""
    async with database(database_url):
        pass
    opened = Database(database_url, 1, MIGRATIONS, statements={SLEEP: "sleep"})
    await opened.open(print)

    async def is_ready() -> bool:
        return not await opened.missing()

    await until(is_ready)
    registry = CollectorRegistry()
    registry.register(opened.metrics)
    yield opened, lambda name, **labels: registry.get_sample_value(name, labels)
    await opened.close()


async def test_a_payee_shows_its_statements_its_pool_and_its_tables(payee):
    await payee.execute(await payee.reserved())
    text = ""

    async def has_tables() -> bool:
        """Whether the tables were measured within the second that a collection waits for them."""
        nonlocal text
        text = (await payee.send("GET", "/metrics")).body.decode()
        return 'database_table_bytes{table="quote"} ' in text

    await until(has_tables)

    for statement in ("reserve", "execute"):
        assert f'database_statement_duration_seconds_count{{statement="{statement}"}} 1.0' in text
        assert f'statement_batch_items_sum{{operation="{statement}"}} 1.0' in text
    assert 'database_connections{state="idle"} ' in text
    assert "database_connections_max 16.0" in text
    assert 'database_table_bytes{table="retention"} ' in text
    assert 'statement_items_waiting{operation="look_up"} 0.0' in text


async def test_statements_in_a_transaction_are_measured_too(shown):
    opened, value = shown

    async def work(connection) -> None:
        await connection.execute("SELECT 1")

    before = value("database_statement_duration_seconds_count", statement="commit")
    await opened.transaction(work)
    await asyncio.sleep(0)

    assert before + 1 == value("database_statement_duration_seconds_count", statement="commit")


async def test_a_statement_waits_for_the_one_connection(shown):
    opened, value = shown
    waits = value("database_connection_wait_seconds_count")
    holding = asyncio.create_task(opened.fetch(SLEEP))

    async def is_held() -> bool:
        return value("database_connections", state="in_use") == 1

    await until(is_held)
    waiting = asyncio.create_task(opened.fetch("SELECT 1"))

    async def waits_for_it() -> bool:
        return value("database_connection_waiters") == 1

    await until(waits_for_it)
    holding.cancel()
    await asyncio.wait([holding])
    await waiting

    assert (0, waits + 2) == (
        value("database_connection_waiters"),
        value("database_connection_wait_seconds_count"),
    )
    assert 1 == value("database_statement_duration_seconds_count", statement="sleep")


async def test_failures_are_counted_by_reason(shown):
    opened, value = shown

    async def conflict(_connection) -> None:
        raise asyncpg.SerializationError("scripted")

    with pytest.raises(UpstreamTimeoutError):
        await opened.fetch(SLEEP, deadline=time.monotonic() + 0.05)
    with pytest.raises(UnavailableError):
        await opened.use(conflict)
    with pytest.raises(UnavailableError):
        await opened.fetch("SELECT pg_terminate_backend(pg_backend_pid())")

    assert {"timeout": 1, "conflict": 3, "unavailable": 1} == {
        reason: value("database_errors_total", reason=reason)
        for reason in ("timeout", "conflict", "unavailable")
    }
