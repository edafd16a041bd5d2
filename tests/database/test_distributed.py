"""What the payee promises, through both forms of its statements on a real Postgres."""

import asyncio
import re
from datetime import timedelta
from decimal import Decimal

import asyncpg
import pytest

from chassis.database import Database
from dfsp_api import distributed
from dfsp_api.distributed import DistributedRepository
from dfsp_api.payee import PayeeSettings, create_app
from dfsp_api.pricing import Terms
from dfsp_api.repository import MIGRATIONS, NewQuote, Payment, Repository
from dfsp_api.reservation import fingerprint, quote_uuid
from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, RESERVE, UNKNOWN_UUID, headers
from support.serving import served
from support.settings import load

KINDS = ["postgres", "distributed"]
STATEMENTS = {
    name: value for name, value in vars(distributed).items() if name.isupper() and isinstance(value, str)
}
del STATEMENTS["COLUMNS"]
ON_ONE_ROW = {"INSERT", "SELECT", "LOCK_ONE", "EXECUTE", "SWEEP"}
# read many rows without a lock, or read and write the reference table of one row
ON_NO_ROW_OF_ITS_OWN = {"TIME", "DUE", "SWEEP_FROM", "SWEPT"}


@pytest.fixture(params=KINDS)
def start(request, database_url, users_file):
    """Serves a payee of either kind on the test's database."""

    def make(**more):
        settings = {
            "QUOTES_USERS_FILE": str(users_file),
            "QUOTES_DATABASE_URL": database_url,
            "QUOTES_DATABASE_KIND": request.param,
            **{f"QUOTES_{name.upper()}": value for name, value in more.items()},
        }
        return served(create_app(load(PayeeSettings, settings)))

    return make


@pytest.fixture
async def sql(database_url):
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def ready(client, url):
    for _ in range(100):
        async with client.get(f"{url}/health/ready") as reply:
            if reply.status == 200:
                return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def post(client, url, key, body=QUOTE, authorization=None):
    made = headers(Idempotency_Key=key)
    if authorization:
        made["Authorization"] = authorization
    async with client.post(url + RESERVE, json=body, headers=made) as reply:
        return reply.status, await reply.json()


async def put(client, url, uuid, body=QUOTE, **kwargs):
    async with client.put(f"{url}/v1/payments/{uuid}", json=body, headers=headers(**kwargs)) as reply:
        return reply.status, await reply.read()


async def get(client, url, uuid, query=LOOK_UP_QUERY):
    async with client.get(f"{url}/v1/quote/{uuid}?{query}", headers=headers()) as reply:
        return reply.status, await reply.json()


async def test_a_hundred_repetitions_at_once_get_one_quote(start, client, sql):
    async with start() as url:
        await ready(client, url)
        answers = await asyncio.gather(*(post(client, url, "invoice-1") for _ in range(100)))

    assert {200} == {status for status, _ in answers} - {503, 504}
    assert 1 == len({tuple(content.items()) for status, content in answers if status == 200})
    assert 1 == await sql.fetchval("SELECT count(*) FROM quote")


async def test_two_hundred_executions_at_once_are_one_with_one_reply(start, client, sql):
    async with start() as url:
        await ready(client, url)
        _, quote = await post(client, url, "invoice-1")
        answers = await asyncio.gather(*(put(client, url, quote["uuid"]) for _ in range(200)))

    # a slow machine may not have a connection for all of them in time, and says so
    assert {200} == {status for status, _ in answers} - {503, 504}
    assert 1 == len({answer for answer in answers if answer[0] == 200})
    assert 1 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed IS NOT NULL")


async def test_what_expires_while_it_waits_for_a_lock_is_not_executed(start, client, sql):
    async with start(ttl_seconds="1") as url:
        await ready(client, url)
        _, quote = await post(client, url, "invoice-1")
        async with sql.transaction():
            await sql.execute("SELECT FROM quote FOR UPDATE")
            waiting = asyncio.create_task(put(client, url, quote["uuid"]))
            await asyncio.sleep(1.1)
            was_waiting = not waiting.done()
        status, _ = await waiting

    assert was_waiting
    assert 410 == status
    assert 0 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed IS NOT NULL")


async def test_what_is_executed_is_executed_before_it_expires(start, client, sql):
    async with start(ttl_seconds="0.05") as url:
        await ready(client, url)
        for number in range(20):
            _, quote = await post(client, url, f"invoice-{number}")
            await asyncio.sleep(0.04)
            await put(client, url, quote["uuid"])

    assert 0 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed >= expires")


@pytest.mark.parametrize(
    "change",
    [
        {"amount": "12.51"},
        {"account": "http://elsewhere"},
        {"currencySymbol": "US$"},
        {"identifier": "30754017"},
        {"sourceAmount": "13.74"},
        {"destinationAmount": "12.49"},
    ],
)
async def test_nothing_is_executed_with_another_parameter(start, client, sql, change):
    async with start() as url:
        await ready(client, url)
        _, quote = await post(client, url, "invoice-1")
        status, _ = await put(client, url, quote["uuid"], {**QUOTE, **change})
        state = await sql.fetchval("SELECT executed FROM quote")
        after, _ = await put(
            client, url, quote["uuid"], {**QUOTE, "amount": "12.5", "sourceAmount": "13.750"}
        )

    assert (409, None, 200) == (status, state, after)


async def test_another_callers_quote_is_unknown(start, client):
    async with start() as url:
        await ready(client, url)
        _, quote = await post(client, url, "invoice-1")
        others, _ = await put(client, url, quote["uuid"], Authorization=OTHER)
        nobodys, _ = await put(client, url, UNKNOWN_UUID)

    assert (404, 404) == (others, nobodys)


async def test_one_key_of_two_callers_is_two_quotes(start, client):
    async with start() as url:
        await ready(client, url)
        _, mine = await post(client, url, "invoice-1")
        _, others = await post(client, url, "invoice-1", authorization=OTHER)

    assert mine["uuid"] != others["uuid"]


async def test_a_key_with_another_body_is_refused_also_among_many_at_once(start, client, sql):
    bodies = [{**QUOTE, "amount": f"{1 + number % 2}.00"} for number in range(40)]
    async with start() as url:
        await ready(client, url)
        answers = await asyncio.gather(*(post(client, url, "invoice-1", body) for body in bodies))

    assert [20, 20] == [[status for status, _ in answers].count(status) for status in (200, 422)]
    assert 1 == await sql.fetchval("SELECT count(*) FROM quote")


async def test_a_quote_is_looked_up_in_each_of_its_states(start, client):
    async with start(ttl_seconds="0.5") as url:
        await ready(client, url)
        _, paid = await post(client, url, "invoice-1")
        _, left = await post(client, url, "invoice-2")
        _, reserved = await get(client, url, paid["uuid"])
        await put(client, url, paid["uuid"])
        await asyncio.sleep(0.6)
        _, executed = await get(client, url, paid["uuid"])
        _, expired = await get(client, url, left["uuid"])
        other_receiver, _ = await get(client, url, paid["uuid"], "identifierType=eur&identifier=1")

    assert ["RESERVED", "EXECUTED", "EXPIRED"] == [each["state"] for each in (reserved, executed, expired)]
    assert QUOTE == executed["request"]
    assert paid["expires"] == executed["expires"]
    assert 404 == other_receiver


async def test_retention_leaves_stubs_of_what_was_never_executed(start, client, sql):
    async with start(ttl_seconds="0.1", retention_days="0", retention_every_seconds="0.1") as url:
        await ready(client, url)
        _, paid = await post(client, url, "invoice-1")
        await put(client, url, paid["uuid"])
        _, left = await post(client, url, "invoice-2")
        for _ in range(100):
            if await sql.fetchval("SELECT count(*) FROM quote WHERE request IS NULL"):
                break
            await asyncio.sleep(0.05)
        again = [await post(client, url, "invoice-2"), await put(client, url, left["uuid"])]
        looked_up, _ = await get(client, url, left["uuid"])
        still_paid, _ = await put(client, url, paid["uuid"])

    assert [410, 410] == [status for status, _ in again]
    assert (404, 200) == (looked_up, still_paid)
    assert [None, None] == list(
        await sql.fetchrow("SELECT source_amount, destination_amount FROM quote WHERE executed IS NULL")
    )


# --- the repository by itself


@pytest.fixture(params=[Repository, DistributedRepository])
async def repository(request, database_url):
    database = Database(database_url, 16, MIGRATIONS)
    await database.open(print)
    while await database.missing():
        await asyncio.sleep(0.02)
    yield request.param(database, timedelta(minutes=5))
    await database.close()


def new(key, amount="12.50", operation="quoteSourceAmount"):
    request = {**QUOTE, "amount": amount}
    return NewQuote(
        quote_uuid(b"namespace", "test", key),
        "test",
        operation,
        fingerprint(request),
        request,
        Terms(Decimal("13.75"), Decimal("12.50")),
    )


def payment(quote, **changed):
    given = {"source_amount": None, "destination_amount": None, "fingerprint": quote.fingerprint} | changed
    return Payment(quote.uuid, quote.caller, **given)


async def test_of_one_key_twice_in_a_batch_the_first_request_counts(repository):
    first, second, third = new("a", "1.00"), new("b"), new("a", "2.00")

    quotes = await repository.reserve([first, second, third])

    assert {first.uuid, second.uuid} == set(quotes)
    assert first.fingerprint == quotes[first.uuid].fingerprint


async def test_batches_with_the_same_keys_in_opposite_order_get_through(repository):
    batch = [new(f"{number}") for number in range(50)]

    made = await asyncio.gather(
        *(repository.reserve(batch if number % 2 else batch[::-1]) for number in range(10))
    )
    await asyncio.gather(
        *(
            repository.execute([payment(each) for each in (batch if number % 2 else batch[::-1])])
            for number in range(10)
        )
    )
    found = await repository.find([each.uuid for each in batch])

    assert [50] * 10 == [len(each) for each in made]
    assert all(quote.executed for quote in found.values())


async def test_a_payment_twice_in_a_batch_is_one_execution(repository):
    quote = new("a")
    await repository.reserve([quote])

    found = await repository.execute([payment(quote, source_amount="1.00"), payment(quote), payment(quote)])

    assert found[quote.uuid].executed


async def test_retention_sweeps_more_than_one_batch(repository, sql):
    batch = [new(f"{number}") for number in range(600)]
    await repository.reserve(batch)
    await sql.execute(
        "UPDATE quote SET created = created - '2 days'::interval, expires = now() - '1 day'::interval"
    )
    await sql.execute("UPDATE retention SET swept_until = now() - '3 days'::interval")
    while await repository.sweep(timedelta()) is not None:
        pass

    assert 0 == await sql.fetchval("SELECT count(*) FROM quote WHERE request IS NOT NULL")


# --- what a distributed engine takes


def test_every_statement_of_the_distributed_form_is_known_here():
    assert set(STATEMENTS) == ON_ONE_ROW | ON_NO_ROW_OF_ITS_OWN


@pytest.mark.parametrize("name", sorted(ON_ONE_ROW))
def test_a_statement_on_a_quote_names_one_uuid(name):
    statement = " ".join(STATEMENTS[name].split())

    assert "VALUES ($1," in statement if name == "INSERT" else "WHERE uuid = $1" in statement
    assert not re.search(r"\bANY\b|unnest|\bWITH\b|\bIN \(|\bOR uuid\b|\bJOIN\b", statement)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
def test_no_statement_locks_more_than_one_row(name):
    statement = STATEMENTS[name]

    assert "FOR UPDATE" not in statement or name == "LOCK_ONE"
    assert not re.search(r"FOR (NO KEY|SHARE|KEY)|SKIP LOCKED|LOCK TABLE|advisory|nextval", statement)


@pytest.mark.parametrize("name", sorted(STATEMENTS))
async def test_no_statement_that_writes_calls_a_volatile_function(sql, name):
    called = re.findall(r"(\w+)\s*\(", STATEMENTS[name])
    volatile = await sql.fetch(
        "SELECT DISTINCT proname FROM pg_proc WHERE proname = ANY($1) AND provolatile = 'v'", called
    )

    assert ["clock_timestamp"] * (name == "TIME") == [row["proname"] for row in volatile]
    assert name != "TIME" or "quote" not in STATEMENTS[name]


async def test_the_distributed_form_sends_no_other_statement(database_url, monkeypatch):
    sent = set()
    create_pool = asyncpg.create_pool

    async def listen(connection):
        connection.add_query_logger(lambda record: sent.add(record.query))

    monkeypatch.setattr(
        asyncpg, "create_pool", lambda *args, **kwargs: create_pool(*args, init=listen, **kwargs)
    )
    database = Database(database_url, 4, MIGRATIONS)
    await database.open(print)
    while await database.missing():
        await asyncio.sleep(0.02)
    sent.clear()
    repository = DistributedRepository(database, timedelta(seconds=0.01))
    quote = new("a")
    for _ in range(2):
        await repository.reserve([quote, new("never paid")])
    await repository.execute([payment(quote)])
    await repository.find([quote.uuid])
    await asyncio.sleep(0.02)
    await repository.execute([payment(new("a")), payment(new("b"))])
    await repository.sweep(timedelta(seconds=-1))
    await repository.sweep(timedelta())
    await database.close()

    of_the_driver = {each for each in sent if each in {"BEGIN;", "COMMIT;"} or "RESET ALL" in each}
    assert set(STATEMENTS.values()) == sent - of_the_driver
