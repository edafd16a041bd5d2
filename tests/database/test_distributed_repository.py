"""The payee's promises through the statements for a distributed table, on a real Postgres."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from chassis.database import Database
from dfsp_api import distributed_repository
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.quote_filter import QuoteFilter
from dfsp_api.repository import LIMIT_TIME, MIGRATIONS, ReleaseOrder
from support.messages import OTHER, QUOTE, UNKNOWN_UUID
from support.payee import PATIENCE_SECONDS, TTL, database, new, payment, rows, stubs, until, waiting_for_lock

STATEMENTS = {
    name: value
    for name, value in vars(distributed_repository).items()
    if name.isupper() and isinstance(value, str) and name not in {"COLUMNS", "CLOCK", "OF_CALLER", "OF_QUOTE"}
}
STATEMENTS["LIMIT_TIME"] = LIMIT_TIME
ON_ONE_ROW = {"INSERT", "SELECT", "LOCK_ONE", "EXECUTE", "RELEASE", "LOG", "SWEEP"}
# they read many rows without a lock, or use a reference table of one row
ON_NO_ROW_OF_ITS_OWN = {
    "TIME",
    "DUE",
    "LIMIT_TIME",
    "LIST_OF_ALL",
    "LIST_OF_CALLER",
    "LIST_OF_QUOTE",
    "SWEEP_FROM",
    "SWEPT",
}


@pytest.fixture
def start(start):
    """Starts a payee of this kind on the test's database."""

    async def start_distributed(**settings: object):
        return await start(database_kind="distributed", **settings)

    return start_distributed


@pytest.fixture
async def repository(database_url) -> AsyncIterator[DistributedRepository]:
    async with database(database_url, 16) as opened:
        yield DistributedRepository(opened, TTL)


async def test_a_hundred_repetitions_at_once_get_one_quote(start, sql):
    payee = await start()
    answers = await asyncio.gather(
        *(payee.reserve(key="one", X_Request_Timeout_Ms="60000") for _ in range(100))
    )

    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})
    assert 1 == await rows(sql)


async def test_two_hundred_executions_at_once_are_one_with_one_reply(start, sql):
    payee = await start()
    uuid = await payee.reserved()
    answers = await asyncio.gather(*(payee.execute(uuid, X_Request_Timeout_Ms="60000") for _ in range(200)))

    assert {200} == {answer.status for answer in answers}
    assert 1 == len({answer.body for answer in answers})


async def test_a_quote_that_expires_during_the_wait_for_its_row_is_not_executed(start, clock, sql):
    payee = await start()
    quote = (await payee.reserve()).json
    async with sql.transaction():
        await sql.execute("SELECT FROM quote FOR UPDATE")
        paying = asyncio.create_task(payee.execute(quote["uuid"]))
        await waiting_for_lock(sql)
        await clock.set(quote["expires"])

    assert (410, "QuoteExpiredError") == (await paying).outcome
    assert 0 == await sql.fetchval("SELECT count(executed) FROM quote")


@pytest.mark.parametrize(("plus", "status"), [("-1 us", 200), ("0", 410)])
async def test_a_quote_ends_at_expires_to_the_microsecond(start, clock, sql, plus, status):
    payee = await start()
    quote = (await payee.reserve()).json
    await clock.set(quote["expires"], plus=plus)

    assert status == (await payee.execute(quote["uuid"])).status
    assert 0 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed >= expires")


async def test_a_payment_with_another_parameter_executes_nothing(start, sql):
    payee = await start()
    uuid = await payee.reserved()
    for change in (
        {"amount": "12.51"},
        {"account": "http://elsewhere"},
        {"currencySymbol": "US$"},
        {"identifier": "30754017"},
        {"sourceAmount": "13.74"},
        {"destinationAmount": "12.49"},
    ):
        assert 409 == (await payee.execute(uuid, {**QUOTE, **change})).status, change
    assert 0 == await sql.fetchval("SELECT count(executed) FROM quote")

    assert 200 == (await payee.execute(uuid, {**QUOTE, "amount": "12.5", "sourceAmount": "13.750"})).status


async def test_another_callers_quote_is_not_found_and_not_executed(start, sql):
    payee = await start()
    uuid = await payee.reserved()

    assert 404 == (await payee.execute(uuid, authorization=OTHER)).status
    assert 404 == (await payee.execute(UNKNOWN_UUID)).status
    assert 0 == await sql.fetchval("SELECT count(executed) FROM quote")


async def test_one_key_of_two_callers_is_two_quotes(start, sql):
    payee = await start()

    assert await payee.reserved(key="one") != await payee.reserved(key="one", authorization=OTHER)
    assert 2 == await rows(sql)


async def test_a_key_with_another_body_is_refused_also_among_many_at_once(start, sql):
    payee = await start()
    bodies = [{**QUOTE, "amount": f"{1 + number % 2}.00"} for number in range(40)]
    answers = await asyncio.gather(
        *(payee.reserve(body, "one", X_Request_Timeout_Ms="60000") for body in bodies)
    )

    assert [200] * 20 + [422] * 20 == sorted(answer.status for answer in answers)
    assert 1 == await rows(sql)


async def test_a_quote_is_looked_up_in_each_of_its_states(start, clock):
    payee = await start()
    paid, left = (await payee.reserve()).json, (await payee.reserve()).json
    states = [(await payee.look_up(paid["uuid"])).json["state"]]
    await payee.execute(paid["uuid"])
    await clock.set(left["expires"])
    states += [(await payee.look_up(quote["uuid"])).json["state"] for quote in (paid, left)]
    elsewhere = await payee.look_up(paid["uuid"], "identifierType=eur&identifier=1")

    assert ["RESERVED", "EXECUTED", "EXPIRED"] == states
    assert 404 == elsewhere.status


async def test_retention_leaves_stubs_of_quotes_that_were_never_executed(start, clock, sql):
    payee = await start(retention_days="0", retention_every_seconds="0.05")
    paid = (await payee.reserve(key="paid")).json
    await payee.execute(paid["uuid"])
    left = (await payee.reserve(key="left")).json
    await clock.set(left["expires"], plus="1 s")

    async def is_stub() -> bool:
        return 1 == await stubs(sql)

    await until(is_stub)
    assert 410 == (await payee.reserve(key="left")).status
    assert 410 == (await payee.execute(left["uuid"])).status
    assert 404 == (await payee.look_up(left["uuid"])).status
    assert 200 == (await payee.execute(paid["uuid"])).status


async def test_of_a_key_twice_in_a_batch_the_first_request_counts(repository):
    first, second, third = new("a", amount="1.00"), new("b"), new("a", amount="2.00")

    quotes = await repository.reserve([first, second, third])

    assert {first.uuid, second.uuid} == set(quotes)
    assert first.fingerprint == quotes[first.uuid].fingerprint


async def test_batches_with_the_same_keys_in_opposite_order_get_through(repository):
    batch = [new(str(number)) for number in range(30)]
    payments = [payment(each) for each in batch]

    made = await asyncio.gather(*(repository.reserve(batch[:: 1 - 2 * (n % 2)]) for n in range(6)))
    await asyncio.gather(*(repository.execute(payments[:: 1 - 2 * (n % 2)]) for n in range(6)))
    found = await repository.find(batch)

    assert [30] * 6 == [len(each) for each in made]
    assert all(quote.executed for quote in found.values())


async def test_a_payment_twice_in_a_batch_is_one_execution(repository):
    quote = new("a")
    await repository.reserve([quote])

    found = await repository.execute([payment(quote, sourceAmount="1.00"), payment(quote), payment(quote)])

    assert found[quote.uuid].executed


async def test_retention_leaves_executed_quotes_as_they_are(repository, sql):
    paid, left = new("paid"), new("left")
    await repository.reserve([paid, left])
    await repository.execute([payment(paid)])
    await sql.execute(
        "UPDATE quote SET expires = now() - '1 day'::interval, executed = executed - '2 days'::interval"
    )
    await sql.execute("UPDATE retention SET swept_until = now() - '3 days'::interval")
    while await repository.sweep(timedelta()) is not None:
        pass

    assert 1 == await stubs(sql)
    assert paid.request == (await repository.find([paid]))[paid.uuid].request


async def test_retention_sweeps_more_than_one_batch(repository, sql):
    await repository.reserve([new(str(number)) for number in range(510)])
    await sql.execute(
        "UPDATE quote SET created = created - '2 days'::interval, expires = now() - '1 day'::interval"
    )
    await sql.execute("UPDATE retention SET swept_until = now() - '3 days'::interval")
    while await repository.sweep(timedelta()) is not None:
        pass

    assert 510 == await stubs(sql)


def test_every_statement_is_known_to_these_tests():
    assert set(STATEMENTS) == ON_ONE_ROW | ON_NO_ROW_OF_ITS_OWN


@pytest.mark.parametrize("name", sorted(ON_ONE_ROW))
def test_a_statement_on_a_quote_names_one_uuid(name):
    statement = " ".join(STATEMENTS[name].split())

    assert "VALUES ($1," in statement if name in {"INSERT", "LOG"} else "WHERE uuid = $1" in statement
    assert not re.search(r"\bANY\b|unnest|\bWITH\b|\bIN \(|\bOR uuid\b|\bJOIN\b", statement)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_locks_more_than_one_row(name):
    statement = STATEMENTS[name]

    assert "FOR UPDATE" not in statement or name == "LOCK_ONE"
    assert not re.search(r"FOR (NO KEY|SHARE|KEY)|SKIP LOCKED|LOCK TABLE|advisory|nextval", statement)


async def test_no_statement_that_writes_calls_a_volatile_function(sql):
    for name, statement in STATEMENTS.items():
        volatile = await sql.fetch(
            "SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY($1) AND provolatile = 'v'",
            re.findall(r"(\w+)\s*\(", statement),
        )

        expected = {"TIME": ["clock_timestamp"], "LIMIT_TIME": ["set_config"]}.get(name, [])
        assert expected == [row["proname"] for row in volatile], name
    assert "quote" not in STATEMENTS["TIME"]


async def test_the_repository_sends_no_other_statement(database_url):
    sent = set()

    async def listen(connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: sent.add(record.query))

    async with database(database_url):
        pass
    opened = Database(database_url, 4, MIGRATIONS)
    opened.on_connect(listen)
    await opened.open(print)

    async def is_ready() -> bool:
        return not await opened.missing()

    await until(is_ready)
    sent.clear()
    repository = DistributedRepository(opened, timedelta(seconds=0.01), is_audited=True)
    quote = new("a")
    for _ in range(2):
        await repository.reserve([quote, new("never paid")])
    await repository.execute([payment(quote)])
    await repository.release([ReleaseOrder(quote.uuid, quote.caller)])
    await repository.find([quote])
    await repository.page(QuoteFilter(), deadline=time.monotonic() + PATIENCE_SECONDS)
    await repository.page(QuoteFilter(caller="test"))
    await repository.page(QuoteFilter(uuid=quote.uuid))
    await asyncio.sleep(0.02)
    await repository.execute([payment(new("a")), payment(new("b"))])
    await repository.sweep(timedelta(seconds=-1))
    await repository.sweep(timedelta())
    await opened.close()

    of_the_driver = {each for each in sent if each in {"BEGIN;", "COMMIT;"} or "RESET ALL" in each}
    of_new_connections = {each for each in sent if "unnest" in each or each == "SELECT secret FROM namespace"}
    assert set(STATEMENTS.values()) == sent - of_the_driver - of_new_connections
