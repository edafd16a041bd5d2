"""Retention reduces quotes that expired and were never executed to stubs; their keys never make another quote."""

import asyncio
from datetime import timedelta

import pytest

from dfsp_api.repository import SWEEP_ROWS, SWEEP_SLICE, LookUp, Repository
from support.messages import OTHER, QUOTE, RESERVE_DESTINATION
from support.payee import FIVE_PER_CENT, NO_FEES, database, new, payment, rows, stubs, until, waiting_for_lock

HOUR = timedelta(hours=1)


async def sweep_all(repository: Repository, older_than: timedelta = HOUR) -> list[int]:
    """How many were due in each batch, until nothing is left to do."""
    found: list[int] = []
    while (due := await repository.sweep(older_than)) is not None:
        found.append(due)
        assert len(found) < 1_000
    return found


@pytest.fixture
async def swept(start, clock, sql):
    """A payee, and the key, uuid and reply of a quote that it has reduced to a stub."""
    payee = await start(retention_days=HOUR / timedelta(days=1), retention_every_seconds=0.05)
    reply = (await payee.reserve(key="one")).json
    await clock.set(reply["expires"], plus="1 hour 1 ms")

    async def is_stub() -> bool:
        return 1 == await stubs(sql)

    await until(is_stub)
    return payee, reply["uuid"]


async def test_a_stub_answers_410_to_its_key_and_to_execute_and_404_to_look_up(swept, sql):
    payee, uuid = swept

    assert (410, "QuoteExpiredError") == (await payee.reserve(key="one")).outcome
    assert (410, "QuoteExpiredError") == (await payee.execute(uuid)).outcome
    assert (404, "QuoteNotFoundError") == (await payee.look_up(uuid)).outcome
    assert (404, "QuoteNotFoundError") == (await payee.execute(uuid, authorization=OTHER)).outcome
    assert (1, 1) == (await rows(sql), await stubs(sql))


async def test_a_stub_still_refuses_another_body_or_operation(swept):
    payee, _ = swept

    assert (422, "IdempotencyKeyReusedError") == (
        await payee.reserve({**QUOTE, "amount": "1.00"}, "one")
    ).outcome
    assert (422, "IdempotencyKeyReusedError") == (
        await payee.reserve(key="one", path=RESERVE_DESTINATION)
    ).outcome


@pytest.mark.parametrize("fees", [FIVE_PER_CENT, NO_FEES])
async def test_the_key_of_a_stub_never_gets_a_quote_at_new_fees(swept, start, sql, tmp_path, fees):
    """Without the stub the key would make the same uuid again, with other terms."""
    _, uuid = swept
    (tmp_path / "fees.toml").write_text(fees)
    after = await start(fee_schedule=tmp_path / "fees.toml")

    assert (410, "QuoteExpiredError") == (await after.reserve(key="one")).outcome
    assert (410, "QuoteExpiredError") == (await after.execute(uuid)).outcome
    assert (1, 1) == (await rows(sql), await stubs(sql))


async def test_only_expired_never_executed_quotes_lose_their_terms(clock, repository, sql):
    """By the database's clock, and not before the time of retention has passed."""
    items = [new(str(number)) for number in range(6)]
    quotes = await repository.reserve(items)
    await repository.execute([payment(item) for item in items[:2]])
    end = next(iter(quotes.values())).expires
    await sql.execute(
        "UPDATE quote SET expires = expires + interval '1 ms' WHERE uuid = ANY($1)",
        [item.uuid for item in items[2:4]],
    )
    before = {row["uuid"]: row for row in await sql.fetch("SELECT * FROM quote")}
    await clock.set(end.isoformat(), plus="1 hour 1 ms")
    await sweep_all(repository)
    after = {row["uuid"]: row for row in await sql.fetch("SELECT * FROM quote")}

    assert {item.uuid for item in items[4:]} == {
        uuid for uuid, row in after.items() if row["request"] is None
    }
    for item in items[:4]:
        assert before[item.uuid] == after[item.uuid]
    for item in items[4:]:
        kept = {**before[item.uuid], "request": None, "source_amount": None, "destination_amount": None}
        assert kept == dict(after[item.uuid])


async def test_many_quotes_are_swept_in_small_batches(clock, repository, sql):
    count = 2 * SWEEP_ROWS + 3
    await repository.reserve([new(str(number)) for number in range(count)])
    await clock.set("now", plus="3 hours")
    sizes = await sweep_all(repository)

    assert [SWEEP_ROWS, SWEEP_ROWS, 3] == [size for size in sizes if size]
    assert count == await stubs(sql)
    assert [] == await sweep_all(repository)


async def test_a_quote_at_the_border_of_two_slices_is_swept(clock, repository, sql):
    """At the end of each slice of a day, a microsecond before it and a microsecond after it."""
    begin = await sql.fetchval("SELECT swept_until FROM retention")
    items = [new(str(number)) for number in range(75)]
    await repository.reserve(items)
    for number, item in enumerate(items):
        border = begin + SWEEP_SLICE * (number // 3) + timedelta(microseconds=number % 3 - 1)
        await sql.execute(
            "UPDATE quote SET expires = $2 WHERE uuid = $1",
            item.uuid,
            border,
        )
    await clock.set(begin.isoformat(), plus="25 hours")
    await sweep_all(repository)
    whole = [row["expires"] for row in await sql.fetch("SELECT expires FROM quote WHERE request IS NOT NULL")]

    # one expired before the sweep began, the others less than an hour ago
    end = begin + timedelta(hours=24)
    assert {begin - timedelta(microseconds=1), end, end + timedelta(microseconds=1)} == set(whole)


async def test_sweeping_ends_when_nothing_is_due(repository, sql):
    """Neither a quote that can be executed nor one that has just expired is due."""
    await repository.reserve([new("one"), new("two")])
    await sql.execute("UPDATE quote SET expires = clock_timestamp() WHERE uuid = $1", new("two").uuid)

    assert await repository.sweep(HOUR) is None
    assert await repository.sweep(HOUR) is None
    assert 0 == await stubs(sql)
    # also while the clock runs on, and more time can be swept
    assert 1 == await repository.sweep(timedelta(0))
    assert await repository.sweep(timedelta(0)) is None


async def test_two_processes_can_sweep_at_the_same_time(clock, database_url, repository, sql):
    await repository.reserve([new(str(number)) for number in range(3 * SWEEP_ROWS)])
    await clock.set("now", plus="3 hours")
    async with database(database_url) as other:
        both = await asyncio.gather(sweep_all(repository), sweep_all(Repository(other, HOUR)))
        rest = await sweep_all(repository)

    assert 3 * SWEEP_ROWS == sum(map(sum, both)) + sum(rest) == await stubs(sql)


async def test_a_process_that_finds_another_one_sweeping_does_nothing(clock, repository, sql):
    await repository.reserve([new("one")])
    await clock.set("now", plus="3 hours")
    other = sql.transaction()
    await other.start()
    await sql.execute("SELECT FROM retention FOR UPDATE")

    assert await repository.sweep(HOUR) is None
    await other.rollback()
    assert [1] == [size for size in await sweep_all(repository) if size]


async def test_a_quote_executed_during_a_sweep_keeps_its_terms_and_the_sweep_goes_on(clock, repository, sql):
    """A batch that an execution makes smaller is not the last one."""
    count = SWEEP_ROWS + 5
    await repository.reserve([new(str(number)) for number in range(count)])
    await clock.set("now", plus="3 hours")
    other = sql.transaction()
    await other.start()
    paid = await sql.fetchval(
        "UPDATE quote SET executed = expires - interval '1 ms'"
        " WHERE uuid = (SELECT uuid FROM quote LIMIT 1) RETURNING uuid"
    )
    sweeping = asyncio.create_task(sweep_all(repository))
    await waiting_for_lock(sql)
    await other.commit()
    await sweeping

    assert count - 1 == await stubs(sql)
    assert (await repository.find([LookUp(paid, "test")]))[paid].request == QUOTE


async def test_retention_goes_on_after_a_fault(start, clock, sql):
    """A failed statement is repeated at the next time."""
    payee = await start(retention_days=0, retention_every_seconds=0.05)
    reply = (await payee.reserve()).json
    await sql.execute(
        "CREATE SEQUENCE refused;"
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('refused'); RAISE EXCEPTION 'no'; END $$;"
        "CREATE TRIGGER refuse BEFORE UPDATE ON quote FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    await clock.set(reply["expires"], plus="1 ms")

    async def refused_twice() -> bool:
        return (await sql.fetchval("SELECT last_value FROM refused")) >= 2

    async def is_stub() -> bool:
        return 1 == await stubs(sql)

    await until(refused_twice)
    assert 200 == (await payee.reserve()).status
    await sql.execute("DROP TRIGGER refuse ON quote")
    await until(is_stub)
