"""The payee behind PgBouncer: as direct with pool_mode = session, and refused with the modes that share sessions."""

import asyncio

import asyncpg
import pytest

from chassis.database import Database
from chassis.postgres_session import SETTINGS
from dfsp_api.payee import PayeeSettings, create_app
from dfsp_api.repository import MIGRATIONS
from support.payee import Caller, database, drop_tables, rows, until
from support.pgbouncer import NEEDED, PROGRAM, pgbouncer
from support.serving import served
from support.settings import load

pytestmark = pytest.mark.skipif(PROGRAM is None, reason=NEEDED)

# as administrators configure it for drivers that send startup parameters
IGNORING = "ignore_startup_parameters = extra_float_digits, synchronous_commit, search_path"


@pytest.mark.parametrize("more", ["", IGNORING], ids=["as it comes", "ignoring startup parameters"])
async def test_a_payee_works_behind_pgbouncer_in_session_mode(start, database_url, sql, more):
    with pgbouncer(database_url, "session", more) as url:
        payee = await start(url=url)
        answers = await asyncio.gather(*(payee.reserve() for _ in range(50)))
        paid = await asyncio.gather(*(payee.execute(each.json["uuid"]) for each in answers))

    assert {200} == {answer.status for answer in [*answers, *paid]}
    assert 50 == await rows(sql)


@pytest.mark.parametrize("more", ["", IGNORING], ids=["as it comes", "ignoring startup parameters"])
async def test_commits_wait_for_the_disk_behind_pgbouncer(database_url, sql, more):
    """With ignore_startup_parameters 40 of 198 quotes that were answered 200 were lost when Postgres was killed."""
    name = await sql.fetchval("SELECT current_database()")
    await sql.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    await sql.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    with pgbouncer(database_url, "session", more) as url:
        async with database(url) as made:
            found = await made.fetch(
                "SELECT name, current_setting(name) FROM unnest($1::text[]) AS s (name)", list(SETTINGS)
            )

    assert SETTINGS == {row[0]: row[1] for row in found}


@pytest.mark.parametrize("pool_mode", ["transaction", "statement"])
async def test_a_payee_behind_pgbouncer_in_another_mode_is_not_ready_and_says_why(
    database_url, users_file, client, sql, pool_mode
):
    await drop_tables(sql)
    with pgbouncer(database_url, pool_mode) as url:
        settings = {"QUOTES_USERS_FILE": str(users_file), "QUOTES_DATABASE_URL": url}
        async with served(create_app(load(PayeeSettings, settings))) as origin:
            payee = Caller(client, origin)

            async def says_why() -> bool:
                readiness = await payee.readiness()
                assert 503 == readiness.status
                return "set pool_mode = session" in str(readiness.json["missing"])

            await until(says_why)
            assert (503, "UnavailableError") == (await payee.reserve()).outcome

    assert await sql.fetchval("SELECT to_regclass('quote') IS NULL")


async def test_a_pooler_of_transactions_is_found_also_while_other_clients_use_it(database_url):
    with pgbouncer(database_url, "transaction") as url:
        others = [asyncio.create_task(keep_busy(url)) for _ in range(3)]
        for _ in range(5):
            faults: list[str] = []
            made = Database(url, 2, MIGRATIONS)
            await made.open(faults.append)

            async def has_tried(faults: list[str] = faults) -> bool:
                return bool(faults)

            await until(has_tried)
            await made.close()
            assert "set pool_mode = session" in faults[0]
        for other in others:
            other.cancel()
        await asyncio.wait(others)


async def test_a_pooler_that_begins_to_share_sessions_is_found(database_url, sql):
    """PgBouncer's pool_mode can change while services run."""
    async with database(database_url):
        pass
    with pgbouncer(database_url, "transaction") as url:
        made = Database(url, 4, MIGRATIONS)
        faults: list[str] = []
        await made.open(faults.append)
        # as if the mode had been another one when the service became ready
        made._is_prepared = True

        async def is_found() -> bool:
            statements = (made.fetch(f"SELECT pg_sleep(0.01), {number}") for number in range(20))
            await asyncio.gather(*statements, return_exceptions=True)
            return "set pool_mode = session" in str(faults + await made.missing())

        await until(is_found)
        await made.close()


async def keep_busy(url: str) -> None:
    connection = await asyncpg.connect(url, statement_cache_size=0)
    try:
        while True:
            await connection.execute("SELECT pg_sleep(0.001)")
    finally:
        connection.terminate()
