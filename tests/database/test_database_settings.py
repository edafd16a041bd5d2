"""No promise depends on the settings of a role or a database."""

import asyncio

import pytest

from chassis.postgres_session import SETTINGS
from dfsp_api import repository
from support.messages import QUOTE
from support.payee import TTL, database, drop_tables, new, payment, rows

HOSTILE = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "100",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "100",
    "transaction_timeout": "100",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "standard_conforming_strings": "off",
}


@pytest.fixture
async def set_for_database(sql):
    async def set_(**settings: str) -> None:
        name = await sql.fetchval("SELECT current_database()")
        for setting, value in settings.items():
            await sql.execute(f"ALTER DATABASE {name} SET {setting} = {value}")

    return set_


async def test_each_connection_has_its_own_settings_whatever_the_database_says(
    database_url, set_for_database
):
    await set_for_database(**{name: f"'{value}'" for name, value in HOSTILE.items()})
    async with database(database_url) as opened:
        found = await opened.fetch(
            "SELECT name, current_setting(name) FROM unnest($1::text[]) AS s (name)", list(HOSTILE)
        )

    assert SETTINGS == {row[0]: row[1] for row in found}


async def test_frequent_statements_are_planned_once_and_never_read_a_whole_table(database_url):
    """To plan a payment took four times as long as to execute it; a plan for an empty table would read all of it."""
    frequent = [repository.INSERT, repository.SELECT, repository.EXECUTE, repository.RELEASE]
    async with database(database_url, 1) as opened:
        before = await scans(opened)
        quotes = repository.Repository(opened, TTL)
        for number in range(8):
            wanted = new(f"key-{number}")
            await quotes.reserve([wanted])
            await quotes.find([wanted])
            await quotes.execute([payment(wanted)])
            await quotes.release([repository.ReleaseOrder(wanted.uuid, wanted.caller)])
        plans = await opened.fetch(
            "SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements WHERE statement = ANY($1)",
            frequent,
        )

        assert dict.fromkeys(frequent, 0) == {each["statement"]: each["custom_plans"] for each in plans}
        assert all(each["generic_plans"] >= 8 for each in plans)
        assert before == await scans(opened)
        assert "off" == (await opened.fetch("SHOW jit"))[0][0]


async def scans(opened) -> int:
    await opened.fetch("SELECT pg_stat_force_next_flush()")
    return (await opened.fetch("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'quote'"))[0][0]


@pytest.mark.parametrize("kind", ["postgres", "distributed"])
@pytest.mark.parametrize("isolation", ["'repeatable read'", "serializable"])
async def test_requests_at_once_are_answered_under_any_default_isolation(
    start, sql, set_for_database, isolation, kind
):
    """Under serializable most were 503."""
    await set_for_database(default_transaction_isolation=isolation)
    payee = await start(database_kind=kind)
    patient = {"X_Request_Timeout_Ms": "60000"}
    reserved = await asyncio.gather(*(payee.reserve(**patient) for _ in range(20)))
    answers = await asyncio.gather(
        *(payee.execute(answer.json["uuid"], **patient) for answer in reserved * 2),
        *(payee.reserve(key=f"{number % 5}", **patient) for number in range(20)),
    )

    assert {200} == {answer.status for answer in answers}
    assert 25 == await rows(sql)


async def test_a_limit_is_counted_over_the_commits_of_concurrent_transactions(database_url, set_for_database):
    """Under repeatable read a count after a lock did not see them: 35 requests were accepted where 20 may be."""
    await set_for_database(default_transaction_isolation="'repeatable read'")
    async with database(database_url, 8) as opened:
        await opened.fetch("CREATE TABLE lane (id int); ")
        await opened.fetch("INSERT INTO lane VALUES (1)")
        await opened.fetch("CREATE TABLE request (id int)")

        async def accept(connection) -> None:
            await connection.fetch("SELECT FROM lane FOR UPDATE")
            if await connection.fetchval("SELECT count(*) FROM request") < 5:
                await connection.execute("INSERT INTO request VALUES (1)")

        await asyncio.gather(*(opened.transaction(accept) for _ in range(20)))

        assert 5 == (await opened.fetch("SELECT count(*) FROM request"))[0][0]


async def test_another_search_path_does_not_make_a_second_quote_for_a_key(start, sql, set_for_database):
    first = await (await start()).reserve(key="one")
    await sql.execute("CREATE SCHEMA elsewhere")
    await set_for_database(search_path="elsewhere, public")
    again = await (await start()).reserve(key="one")

    assert (200, first.body) == (again.status, again.body)


async def test_a_search_path_in_the_url_is_the_operators_choice(start, sql, database_url):
    await drop_tables(sql)
    await sql.execute("CREATE SCHEMA quotes")
    separator = "&" if "?" in database_url else "?"
    payee = await start(url=f"{database_url}{separator}search_path=quotes")

    assert 200 == (await payee.reserve()).status
    assert 1 == await sql.fetchval("SELECT count(*) FROM quotes.quote")
    assert await sql.fetchval("SELECT to_regclass('public.quote') IS NULL")


async def test_times_are_the_same_under_any_time_zone_and_date_style(start, clock, set_for_database):
    await set_for_database(TimeZone="'Asia/Kathmandu'", DateStyle="'SQL, DMY'")
    payee = await start()
    await clock.set("2030-02-03T04:05:06.789Z")
    uuid = await payee.reserved()

    assert "2030-02-03T04:05:06.789Z" == (await payee.look_up(uuid)).json["created"]
    assert 200 == (await payee.execute(uuid, QUOTE)).status
