"""A database that takes no writes, lacks a table, or is replaced by another one under a running payee."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from dfsp_api.payee import PayeeSettings, create_app
from support.payee import Caller, is_ready, rows, until
from support.postgres import create_database, drop_database, with_database
from support.serving import served
from support.settings import load


@pytest.fixture
async def url(postgres_url) -> AsyncIterator[str]:
    """A database that the test drops, renames and creates again."""
    name = await create_database(postgres_url)
    yield with_database(postgres_url, name)
    await drop_database(postgres_url, name)


@pytest.fixture
async def server(postgres_url) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


def name_of(url: str) -> str:
    return url.rpartition("?")[0].rpartition("/")[2] if "?" in url else url.rpartition("/")[2]


async def missing(payee: Caller) -> list[str]:
    return (await payee.readiness()).json.get("missing", [])


async def disconnect(server: asyncpg.Connection, name: str) -> None:
    await server.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = $1", name
    )


async def test_a_payee_is_not_ready_on_a_database_that_takes_no_writes(start, sql, server):
    """`default_transaction_read_only`, as an administrator sets it before a move; a standby looks the same."""
    name = await sql.fetchval("SELECT current_database()")
    payee = await start()
    for value, status in (("on", 503), ("off", 200)):
        await server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")
        await server.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = $1 AND application_name = 'dfsp_api'",
            name,
        )

        async def answers(status: int = status) -> bool:
            return status == (await payee.readiness()).status

        await until(answers)
        assert ["database that accepts writes"] * (status == 503) == await missing(payee)
        assert status == (await payee.reserve()).status


async def test_a_payee_that_starts_on_a_database_without_writes_waits_for_them(
    database_url, users_file, client, sql, server
):
    """On a standby, which is then promoted, it is the same."""
    name = await sql.fetchval("SELECT current_database()")
    await server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    settings = {"QUOTES_USERS_FILE": str(users_file), "QUOTES_DATABASE_URL": database_url}
    async with served(create_app(load(PayeeSettings, settings))) as url:
        payee = Caller(client, url)

        async def names_it() -> bool:
            return ["database that accepts writes"] == await missing(payee)

        await until(names_it)
        await server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        await until(lambda: is_ready(payee))
        assert 200 == (await payee.reserve()).status


async def test_a_payee_without_a_table_is_not_ready_until_it_is_back(start, sql):
    """The payee does not create the table again: with an empty table, each key would give a second quote."""
    payee = await start()
    first = await payee.reserve(key="one")
    for table in ("quote", "namespace", "retention", "schema_migration"):
        await sql.execute(f"ALTER TABLE {table} RENAME TO gone")

        async def names_it(table: str = table) -> bool:
            return f"table {table}" in str(await missing(payee)) or table == "schema_migration"

        await until(names_it)
        if table != "schema_migration":
            assert (503, "UnavailableError") == (await payee.reserve(key="one")).outcome
        await sql.execute(f"DROP TABLE IF EXISTS {table}; ALTER TABLE gone RENAME TO {table}")
        await until(lambda: is_ready(payee))

        assert first.body == (await payee.reserve(key="one")).body


async def test_a_payee_serves_again_when_its_database_was_dropped_and_created(start, url, server):
    payee = await start(url=url)
    before = await payee.reserved(key="one")
    await server.execute(f"DROP DATABASE {name_of(url)} WITH (FORCE)")
    assert 503 == (await payee.readiness()).status
    assert (503, "UnavailableError") == (await payee.reserve()).outcome
    await server.execute(f"CREATE DATABASE {name_of(url)}")
    await until(lambda: is_ready(payee))

    # another database: another secret
    assert before != await payee.reserved(key="one")


async def test_a_key_has_one_quote_in_a_database_that_was_away_behind_another_one(start, url, server):
    """Database A, an empty B in its place, then A again: the payee kept B's secret, and an executed key got a second
    quote in A.
    """
    a, b = name_of(url), f"{name_of(url)}_b"
    payee = await start(url=url)
    first = await payee.reserve(key="one")
    assert 200 == (await payee.execute(first.json["uuid"])).status
    await server.execute(f"CREATE DATABASE {b}")
    for _ in range(2):  # there and back
        await disconnect(server, a)
        await server.execute(f"ALTER DATABASE {a} RENAME TO {a}_away")
        await server.execute(f"ALTER DATABASE {b} RENAME TO {a}")
        await server.execute(f"ALTER DATABASE {a}_away RENAME TO {b}")

        async def is_answered() -> bool:
            return 200 == (await payee.reserve(key="one")).status

        await until(is_answered)
    again = await payee.reserve(key="one")

    assert first.body == again.body
    assert "EXECUTED" == (await payee.look_up(again.json["uuid"])).json["state"]
    await disconnect(server, a)
    beside = await asyncpg.connect(url)
    assert 1 == await rows(beside)
    await beside.close()
    await drop_database(url.replace(a, "postgres"), b)


async def test_a_uuid_of_another_databases_secret_is_not_inserted(start, sql):
    """Also over a connection that stays: a pooler in front of Postgres may reconnect behind it."""
    payee = await start(database_connections=1)
    await payee.reserved(key="one")
    await sql.execute("UPDATE namespace SET secret = sha256('another')")

    assert (503, "UnavailableError") == (await payee.reserve(key="two")).outcome
    assert 1 == await rows(sql)
    answers = await asyncio.gather(*(payee.reserve(key="two") for _ in range(20)))
    assert {200} == {answer.status for answer in answers}
    assert 2 == await rows(sql)
