"""The statements with many items at once: concurrent batches, duplicates, opposite orders."""

import asyncio
import random
from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from chassis.errors import IdempotencyKeyReusedError, QuoteMismatchError, UnavailableError
from dfsp_api.idempotency import require_same_request
from dfsp_api.replies import execution_reply
from dfsp_api.repository import QuoteOfCaller, Repository
from quoting.call import Operation
from support.messages import QUOTE
from support.payee import TTL, database, new, payment, rows, waiting_for_lock


async def test_a_batch_reserves_all_its_items_in_one_statement(repository, sql):
    items = [new(f"key-{number}", amount=f"{number}.25") for number in range(1, 1_001)]
    quotes = await repository.reserve(items)

    assert {item.uuid: (item.request, item.fingerprint) for item in items} == {
        uuid: (quote.request, quote.fingerprint) for uuid, quote in quotes.items()
    }
    assert 1_000 == await rows(sql)
    assert 1 == await sql.fetchval("SELECT count(DISTINCT xmin::text) FROM quote")
    assert quotes == await repository.reserve(items)


async def test_a_key_twice_in_a_batch_is_one_quote_of_its_first_request(repository, sql):
    one, other = new("one"), new("one", amount="12.51")
    quotes = await repository.reserve([new("two"), one, other, new("two")])

    assert 2 == await rows(sql) == len(quotes)
    assert one.fingerprint == quotes[one.uuid].fingerprint
    require_same_request(quotes[one.uuid], Operation.QUOTE_SOURCE_AMOUNT, one.fingerprint)
    with pytest.raises(IdempotencyKeyReusedError):
        require_same_request(quotes[one.uuid], Operation.QUOTE_SOURCE_AMOUNT, other.fingerprint)


async def test_old_and_new_keys_in_a_batch_each_get_their_own_quote(repository, sql):
    """The first statement inserts the new quotes; the second one finds the old ones."""
    old = [new(f"key-{number}") for number in range(0, 20, 2)]
    first = await repository.reserve(old)
    changed = [new(f"key-{number}", amount="1.00") for number in range(20)]
    quotes = await repository.reserve(changed)

    assert 20 == len(quotes) == await rows(sql)
    assert first == {uuid: quote for uuid, quote in quotes.items() if uuid in first}
    wrong = [item for item in changed if quotes[item.uuid].fingerprint != item.fingerprint]
    assert {item.uuid for item in old} == {item.uuid for item in wrong}


async def test_batches_with_the_same_new_keys_in_opposite_order_do_not_deadlock(database_url, sql):
    """The obvious statement deadlocked in 9 of 20 rounds."""
    async with database(database_url, 1) as one, database(database_url, 1) as other:
        for round_ in range(25):
            items = [new(f"key-{round_}-{number}") for number in range(200)]
            both = await asyncio.gather(
                Repository(one, TTL).reserve(items), Repository(other, TTL).reserve(items[::-1])
            )

            assert both[0] == both[1]
            assert 200 == len(both[0])
    assert 5_000 == await rows(sql)
    assert 0 == await deadlocks(sql)


async def test_batches_of_payments_in_opposite_order_do_not_deadlock(database_url, repository, sql):
    """`UPDATE … FROM unnest` deadlocked in 16 of 20 rounds."""
    async with database(database_url, 1) as one, database(database_url, 1) as other:
        for round_ in range(25):
            items = [new(f"key-{round_}-{number}") for number in range(200)]
            await repository.reserve(items)
            random.Random(round_).shuffle(items)
            payments = [payment(item) for item in items]
            both = await asyncio.gather(
                Repository(one, TTL).execute(payments), Repository(other, TTL).execute(payments[::-1])
            )

            assert both[0] == both[1]
            assert all(quote.executed for quote in both[0].values())
    assert 5_000 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed IS NOT NULL")
    assert 0 == await deadlocks(sql)


async def deadlocks(sql) -> int:
    """By the server's count: our repetition of a statement would hide them."""
    await sql.execute("SELECT pg_stat_force_next_flush()")
    return await sql.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


async def test_rows_are_locked_in_the_order_of_their_uuids(repository, sql, database_url):
    """In whatever order they arrive: while the statement waits for the lowest uuid, no higher one is locked."""
    items = sorted((new(f"key-{number}") for number in range(10)), key=lambda item: item.uuid)
    await repository.reserve(items)
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", items[0].uuid)
    paying = asyncio.create_task(repository.execute([payment(item) for item in reversed(items)]))
    await waiting_for_lock(sql)

    assert 10 == len(await sql.fetch("SELECT FROM quote FOR UPDATE NOWAIT"))
    await other.rollback()
    assert all(quote.executed for quote in (await paying).values())


async def test_a_payment_at_fault_does_not_affect_the_others_in_its_batch(repository, sql):
    """Expired, altered, another caller's, a wrong amount, unknown: all others are executed."""
    items = [new(f"key-{number}") for number in range(8)]
    await repository.reserve(items[:-1])
    await sql.execute("UPDATE quote SET expires = clock_timestamp() WHERE uuid = $1", items[0].uuid)
    quotes = await repository.execute(
        [
            payment(items[0]),
            payment(items[1], amount="1.00"),
            replace(payment(items[2]), caller="other"),
            payment(items[3], sourceAmount="13.76"),
            payment(items[4], destinationAmount="12.5", sourceAmount="13.75"),
            payment(items[5]),
            payment(items[6]),
            payment(items[7]),
        ]
    )

    assert [False, False, False, True, True, True] == [
        quotes[item.uuid].executed is not None for item in [*items[:2], *items[3:-1]]
    ]
    assert {items[2].uuid, items[7].uuid}.isdisjoint(quotes)
    assert [] == await sql.fetch("SELECT FROM quote WHERE uuid = $1 AND executed IS NOT NULL", items[2].uuid)
    assert quotes[items[0].uuid].is_expired


async def test_a_payment_twice_in_a_batch_is_executed_once_and_each_gets_its_own_reply(repository, sql):
    item = new("one")
    await repository.reserve([item])
    altered = {**QUOTE, "amount": "1.00"}
    quotes = await repository.execute([payment(item, amount="1.00"), payment(item), payment(item)])

    assert "EXECUTED" == execution_reply(quotes[item.uuid], "test", QUOTE)["state"]
    with pytest.raises(QuoteMismatchError):
        execution_reply(quotes[item.uuid], "test", altered)


async def test_several_wrong_payments_in_a_batch_do_not_make_a_right_one(repository, sql):
    """Each of them has another value at fault."""
    item = new("one")
    await repository.reserve([item])
    await repository.execute(
        [
            payment(item, amount="1.00"),
            replace(payment(item), caller="other"),
            payment(item, sourceAmount="1.00", destinationAmount="12.50"),
            payment(item, sourceAmount="13.75", destinationAmount="1.00"),
        ]
    )

    assert 0 == await sql.fetchval("SELECT count(*) FROM quote WHERE executed IS NOT NULL")


async def test_a_batch_of_payments_takes_the_time_after_its_last_lock(repository, sql):
    """The clock is read once, when all rows are locked, also for rows that were free."""
    items = sorted((new(f"key-{number}") for number in range(3)), key=lambda item: item.uuid)
    await repository.reserve(items)
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", items[2].uuid)
    paying = asyncio.create_task(repository.execute([payment(item) for item in items]))
    await waiting_for_lock(sql)
    waited_until = await sql.fetchval("SELECT date_trunc('milliseconds', clock_timestamp())")
    await other.commit()

    assert all(quote.executed >= waited_until for quote in (await paying).values())


async def test_a_quote_that_can_be_neither_inserted_nor_found_is_an_error(repository, sql):
    """After three tries, UnavailableError: never a 200 without a row."""
    await sql.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        "CREATE TRIGGER refuse BEFORE INSERT ON quote FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(UnavailableError) as raised:
        await repository.reserve([new("one")])

    assert "a quote was neither inserted nor found" == raised.value.cause


async def test_a_row_that_vanishes_between_the_statements_is_inserted_again(database_url, sql):
    async with database(database_url) as made:

        class Vanishing(Repository):
            async def find(self, wanted: Sequence[QuoteOfCaller], deadline: float | None = None):
                await sql.execute("DELETE FROM quote")
                return await super().find(wanted, deadline)

        await Repository(made, TTL).reserve([new("one", amount="1.00")])
        quotes = await Vanishing(made, TTL).reserve([new("one")])

    assert new("one").fingerprint == quotes[new("one").uuid].fingerprint


async def test_an_empty_batch_does_nothing(repository, sql):
    assert {} == await repository.reserve([])
    assert {} == await repository.execute([])
    assert {} == await repository.find([])
    assert 0 == await rows(sql)


async def test_all_quotes_of_a_batch_expire_at_the_same_time(database_url):
    async with database(database_url) as made:
        quotes = await Repository(made, timedelta(seconds=1)).reserve([new(str(n)) for n in range(50)])

    assert 1 == len({quote.expires for quote in quotes.values()})
    assert {timedelta(seconds=1)} == {quote.expires - quote.created for quote in quotes.values()}
