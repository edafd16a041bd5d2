"""Every committed event of a quote becomes exactly one leaf of the audit log, whatever fails in between."""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from datetime import timedelta

import asyncpg
import orjson
import pytest

from chassis.errors import UnavailableError
from dfsp_api.audit import outbox
from dfsp_api.audit import repository as statements
from dfsp_api.audit.checkpoint import open_checkpoint
from dfsp_api.audit.keys import audit_keys
from dfsp_api.audit.sequencer import LATE, LOST, MISSING
from dfsp_api.distributed_exposure_repository import LimitedDistributedRepository
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.exposure_limits import ExposureLimit, ExposureLimits
from dfsp_api.exposure_repository import LimitedRepository
from dfsp_api.repository import MIGRATIONS, ReleaseOrder, Repository
from support.audit import (
    KEY,
    KEYS,
    OTHER_KEY,
    MortalDatabase,
    ProcessEndedError,
    ServiceOfSequencer,
    exported,
    good_export,
    run,
    sequencer,
    verified,
)
from support.payee import TTL, database, new, payment, until


@pytest.fixture
async def opened(database_url):
    async with database(database_url, 16) as opened:
        yield opened


KINDS = {
    "postgres": Repository,
    "distributed": DistributedRepository,
    "postgres with limits": LimitedRepository,
    "distributed with limits": LimitedDistributedRepository,
}
LIMITS = ExposureLimits({("test", "USD"): ExposureLimit(None, 1_000)})


@pytest.fixture(params=KINDS)
async def quotes(request, opened):
    """The statements of each kind, for a payee with the audit log."""
    made = KINDS[request.param](opened, TTL, is_audited=True)
    if not hasattr(made, "exposures"):
        yield made
        return
    made.exposures.use(LIMITS)
    yield made
    await made.exposures.close()


def kind_of(quotes):
    return "distributed" if isinstance(quotes, DistributedRepository) else "postgres"


def release(quote):
    return ReleaseOrder(quote.uuid, quote.caller)


async def events(sql):
    """Return the events of each leaf of a good log, by quote."""
    found = {}
    for leaf in await good_export(sql):
        content = orjson.loads(leaf.content)
        found.setdefault(content["uuid"], []).append(content["event"])
    return found


async def age(sql, seconds=11):
    """Make everything in the database older."""
    await sql.execute(
        "UPDATE quote SET created = created - $1::interval, executed = executed - $1::interval,"
        " released = released - $1::interval",
        timedelta(seconds=seconds),
    )


async def test_each_event_becomes_one_leaf(quotes, opened, sql):
    paid, left, given_back = new("paid"), new("left"), new("given back")
    await quotes.reserve([paid, left, given_back])
    for _ in range(2):
        await quotes.execute([payment(paid)])
        await quotes.release([release(given_back)])
        await quotes.reserve([paid, left])
    await run(sequencer(opened, kind=kind_of(quotes)))

    assert {
        str(paid.uuid): ["RESERVED", "EXECUTED"],
        str(given_back.uuid): ["RESERVED", "RELEASED"],
        str(left.uuid): ["RESERVED"],
    } == await events(sql)
    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_pending")


async def test_a_payee_without_the_log_writes_no_events(opened, sql):
    for kind in (Repository, DistributedRepository):
        quote = new(kind.__name__)
        await kind(opened, TTL).reserve([quote])
        await kind(opened, TTL).execute([payment(quote)])

    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_pending")


async def test_an_event_is_rolled_back_with_its_quote(quotes, opened, sql):
    await sql.execute("ALTER TABLE audit_pending ADD CHECK (event <> 1)")
    quote = new("one")
    await quotes.reserve([quote])
    with pytest.raises(asyncpg.CheckViolationError):
        await quotes.execute([payment(quote)])

    assert await sql.fetchval("SELECT executed IS NULL FROM quote")


async def test_a_leaf_has_the_terms(quotes, opened, sql):
    quote = new("one")
    await quotes.reserve([quote])
    await quotes.execute([payment(quote)])
    await run(sequencer(opened, kind=kind_of(quotes)))
    reserved, executed = (orjson.loads(leaf.content) for leaf in await good_export(sql))

    assert quote.request == reserved["request"] == executed["request"]
    assert ("13.75", "12.50", "test") == tuple(
        executed[name] for name in ("sourceAmount", "destinationAmount", "caller")
    )
    assert {*executed} - {*reserved} == {"executed"}


async def test_an_event_that_waits_twice_becomes_one_leaf(quotes, opened, sql):
    await quotes.reserve([new("one"), new("two")])
    await sql.execute("INSERT INTO audit_pending SELECT uuid, event, at - interval '1 s' FROM audit_pending")
    await run(sequencer(opened, kind=kind_of(quotes)))

    assert [["RESERVED"]] * 2 == [*(await events(sql)).values()]


async def test_an_event_with_a_leaf_gets_no_second_one(quotes, opened, sql):
    one, two = new("one"), new("two")
    await quotes.reserve([one])
    await run(each := sequencer(opened, kind=kind_of(quotes)))
    await quotes.reserve([two])
    await sql.execute("INSERT INTO audit_pending VALUES ($1, 0, '2026-01-01Z')", one.uuid)
    await run(each)

    assert {str(one.uuid): ["RESERVED"], str(two.uuid): ["RESERVED"]} == await events(sql)
    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_pending")


async def test_an_event_without_a_quote_is_reported_and_does_not_wait_any_more(quotes, opened, sql):
    service, lost, kept, logged = ServiceOfSequencer(), new("lost"), new("kept"), new("logged")
    each = sequencer(opened, kind=kind_of(quotes), service=service)
    await quotes.reserve([logged])
    await run(each)
    await quotes.reserve([lost, kept])
    await sql.execute("INSERT INTO audit_pending VALUES ($1, 0, '2026-01-01Z')", logged.uuid)
    await sql.execute("DELETE FROM quote WHERE uuid = ANY($1)", [lost.uuid, logged.uuid])
    await run(each)

    assert (LOST, {"count": 1, "first": str(lost.uuid)}) in service.reports
    assert 2 == await sql.fetchval("SELECT count(*) FROM audit_leaf")
    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_pending")


async def test_leaves_are_in_the_order_in_which_the_events_happened(quotes, opened, sql):
    batch = [new(str(number)) for number in range(50)]
    await quotes.reserve(batch)
    await sql.execute(
        "UPDATE audit_pending SET at = '2026-01-01Z'::timestamptz + ascii(uuid::text) % 3 * interval '1 s'"
    )
    expected = await sql.fetch("SELECT uuid FROM audit_pending ORDER BY at, event, uuid")
    await run(sequencer(opened, kind=kind_of(quotes)))

    assert expected == await sql.fetch("SELECT uuid FROM audit_leaf ORDER BY position")


async def test_an_empty_log_has_a_checkpoint(opened, sql):
    await run(sequencer(opened))

    assert [] == await good_export(sql)


async def test_more_events_than_fit_into_one_transaction(quotes, opened, sql, monkeypatch):
    monkeypatch.setattr(outbox, "MAX_LEAVES", 7)
    monkeypatch.setattr(outbox, "MAX_LEAVES_IN_STEPS", 7)
    batch = [new(str(number)) for number in range(60)]
    await quotes.reserve(batch)
    await quotes.execute([payment(each) for each in batch])
    await run(sequencer(opened, kind=kind_of(quotes)))

    assert Counter({("RESERVED", "EXECUTED"): 60}) == Counter(map(tuple, (await events(sql)).values()))


async def test_random_appends_prove_themselves(opened, sql):
    chance = random.Random(18)
    quotes, each, number = Repository(opened, TTL, is_audited=True), sequencer(opened), itertools.count()
    for _ in range(12):
        batch = [new(str(next(number))) for _ in range(chance.choice([0, 1, 3, 60, 255]))]
        if batch:
            await quotes.reserve(batch)
            await quotes.execute([payment(one) for one in batch if chance.random() < 0.5])
        await run(each)
        await sql.execute("UPDATE audit_log SET kept = '2000-01-01Z'")
    rows = await exported(sql)

    assert verified(rows).is_good
    assert verified(rows).checkpoints >= 3


async def test_two_sequencers_add_each_event_once(quotes, opened, database_url, sql):
    """Two sequencers act as the holder of the lease at the same time, again and again."""
    batches = [[new(f"{number} {each}") for each in range(5)] for number in range(20)]
    async with database(database_url, 4) as other:
        rivals = [sequencer(opened, kind=kind_of(quotes)), sequencer(other, kind=kind_of(quotes))]
        stop = asyncio.Event()

        async def rival(each):
            while not stop.is_set():
                await each.step()
                await sql_of_rivals.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")

        sql_of_rivals = await asyncpg.create_pool(database_url, min_size=1, max_size=2)
        running = [asyncio.create_task(rival(each)) for each in rivals]
        for batch in batches:
            await quotes.reserve(batch)
            await quotes.execute([payment(each) for each in batch])
        stop.set()
        await asyncio.gather(*running)
        await sql_of_rivals.close()
        await run(rivals[0])

    assert [("RESERVED", "EXECUTED")] * 100 == [tuple(each) for each in (await events(sql)).values()]


async def test_a_second_sequencer_waits_for_the_end_of_the_lease(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    first, second = sequencer(opened), sequencer(opened)
    await run(first)
    await quotes.reserve([new("one")])
    await run(second)
    assert 0 == await sql.fetchval("SELECT count(*) FROM audit_leaf")

    await sql.execute("UPDATE audit_log SET leased_until = clock_timestamp()")
    await run(second)
    await quotes.reserve([new("two")])
    await run(first)
    assert 1 == await sql.fetchval("SELECT count(*) FROM audit_leaf")
    await run(second)

    assert 2 == len(await events(sql))


async def test_a_lease_from_before_the_clock_was_set_back_counts_as_ended(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    await run(sequencer(opened))
    await sql.execute(
        "UPDATE audit_log SET leased_until = leased_until + interval '1 hour', kept = kept + interval '1 hour'"
    )
    await quotes.reserve([new("one")])
    await run(sequencer(opened))
    await quotes.reserve([new("two")])
    await sql.execute("UPDATE audit_log SET leased_until = clock_timestamp()")
    await run(sequencer(opened))

    assert 2 == len(await events(sql))
    assert [0, 1, 2] == [
        row["size"] for row in await sql.fetch("SELECT size FROM audit_checkpoint ORDER BY size")
    ]


async def test_a_sequencer_that_ends_between_any_two_statements_leaves_the_log_consistent(
    opened, database_url, sql
):
    """The process ends before its first statement, its second one, and so on, until a run gets through."""
    quotes, mortal = Repository(opened, TTL, is_audited=True), MortalDatabase(database_url, 4, MIGRATIONS)
    await mortal.open(print)
    await until(lambda: is_prepared(mortal))
    for number in itertools.count():
        quote = new(str(number))
        await quotes.reserve([quote])
        await quotes.execute([payment(quote)])
        await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
        mortal.statements_left = number
        with contextlib.suppress(ProcessEndedError):
            await run(sequencer(mortal))
            break
        if await sql.fetchval("SELECT count(*) FROM audit_checkpoint"):
            await good_export_so_far(sql)
    await mortal.close()

    assert number > 10
    assert [("RESERVED", "EXECUTED")] * (number + 1) == [tuple(each) for each in (await events(sql)).values()]


async def good_export_so_far(sql):
    """Verify the log while events wait."""
    assert {("RESERVED", "EXECUTED")} >= {tuple(each) for each in (await events(sql)).values()}


async def is_prepared(opened):
    return not await opened.missing()


async def test_quotes_from_before_the_log_are_added(opened, sql):
    before = Repository(opened, TTL)
    batch = [new(str(number)) for number in range(3)]
    await before.reserve(batch)
    await before.execute([payment(batch[0])])
    await age(sql)
    service = ServiceOfSequencer()
    await run(sequencer(opened, service=service))
    await run(each := sequencer(opened, service=service))
    await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
    await run(each)

    found = await events(sql)
    assert ["RESERVED", "EXECUTED"] == found[str(batch[0].uuid)]
    assert 3 == len(found)
    assert [] == service.events


async def test_quotes_of_a_payee_without_the_key_are_found_reported_and_added(opened, sql):
    service = ServiceOfSequencer()
    each = sequencer(opened, service=service)
    await run(each)
    await sql.execute("UPDATE audit_log SET began = began - interval '1 hour'")
    await Repository(opened, TTL).reserve([new("one"), new("two")])
    await run(each)
    assert [] == [event for event in service.events if event == MISSING]
    await age(sql)
    await run(each)
    await run(each)

    assert 2 == len(await events(sql))
    assert MISSING in service.events
    assert (
        2
        == next(metric for metric in each.collect() if metric.name == "audit_missing_found").samples[0].value
    )


async def test_an_execution_by_a_payee_without_the_key_is_found_when_the_quote_is_settled(opened, sql):
    quotes, each = (
        Repository(opened, TTL, is_audited=True),
        sequencer(opened, longest_lifetime=timedelta(seconds=60)),
    )
    quote = new("one")
    await quotes.reserve([quote])
    await run(each)
    await Repository(opened, TTL).execute([payment(quote)])
    await sql.execute(
        "UPDATE quote SET created = created - interval '80 s', executed = executed - interval '70 s'"
    )
    await run(each)
    await run(each)

    assert {"EXECUTED", "RESERVED"} == {
        orjson.loads(row.content)["event"] for row in await exported(sql) if hasattr(row, "position")
    }


async def test_an_event_that_waits_too_long_is_a_warning_until_it_is_added(opened, sql):
    quotes, service = Repository(opened, TTL, is_audited=True), ServiceOfSequencer()
    await quotes.reserve([new("one")])
    await sql.execute("UPDATE audit_pending SET at = at - interval '11 s'")
    each = sequencer(opened, service=service)
    await each.measure()
    waiting = next(each.collect()).samples[0].value

    assert waiting > 10
    assert LATE == service.warnings["audit"]
    await run(each)
    await each.measure()
    assert {} == service.warnings
    assert 0 == next(each.collect()).samples[0].value


async def test_a_row_that_was_changed_by_hand_is_named(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    one, two, three = (new(name) for name in ("one", "two", "three"))
    await quotes.reserve([one, two, three])
    await quotes.execute([payment(one)])
    await run(sequencer(opened))
    await sql.execute("UPDATE quote SET source_amount = 13.76 WHERE uuid = $1", one.uuid)
    await sql.execute("DELETE FROM quote WHERE uuid = $1", two.uuid)
    await sql.execute("UPDATE quote SET executed = created WHERE uuid = $1", three.uuid)
    await age(sql, 0)
    texts = "\n".join(map(str, verified(await exported(sql)).findings))

    assert f"RESERVED of quote {one.uuid}): the table has another sourceAmount" in texts
    assert f"EXECUTED of quote {one.uuid}): the table has another sourceAmount" in texts
    assert f"RESERVED of quote {two.uuid}): the quote is no longer in the table" in texts


@pytest.mark.parametrize(
    "request_",
    [
        "[]",
        '"text"',
        "{}",
        "7",
        '{"account":[1]}',
        r'{"\u0000":1}',
        r'{"\ud800":"\u0000"}',
        '{"amount" : "1"}',
    ],
)
async def test_a_request_that_was_changed_by_hand_is_named(opened, sql, request_):
    """Also one that the database cannot take apart."""
    quote = new("one")
    await Repository(opened, TTL, is_audited=True).reserve([quote])
    await run(sequencer(opened))
    await sql.execute("UPDATE quote SET request = $1", request_)
    (finding,) = verified(await exported(sql)).findings

    assert f"RESERVED of quote {quote.uuid}): the table has another " in finding.text


async def test_an_event_without_a_leaf_is_named(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    quote = new("one")
    await quotes.reserve([quote])
    await run(sequencer(opened))
    await Repository(opened, TTL).reserve([new("two")])
    await sql.execute("UPDATE quote SET executed = created WHERE uuid = $1", quote.uuid)
    await sql.execute(
        "UPDATE quote SET created = created - interval '20 s', executed = executed - interval '20 s'"
    )
    texts = "\n".join(map(str, verified(await exported(sql)).findings))

    assert f"the log has no leaf for EXECUTED of quote {quote.uuid}" in texts
    assert f"the log has no leaf for RESERVED of quote {new('two').uuid}" in texts


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        ("UPDATE audit_leaf SET content = replace(content, '13.75', '13.70') WHERE position = 3", "leaf 3 "),
        ("DELETE FROM audit_leaf WHERE position = 3", "leaf 3 missing"),
        ("UPDATE audit_leaf SET position = 7 - position WHERE position IN (3, 4)", "leaf 3 "),
        (
            "UPDATE audit_tile SET hashes = set_byte(hashes, 3 * 32, 1 + get_byte(hashes, 3 * 32) % 255)",
            "leaf 3 ",
        ),
        ("DELETE FROM audit_checkpoint WHERE size > 0", "there is no checkpoint"),
        (
            "UPDATE audit_checkpoint SET note = replace(note, '— example', '— exomple')",
            "no signature of a key that is trusted",
        ),
    ],
)
async def test_whatever_is_changed_in_the_log_is_named(opened, sql, statement, text):
    quotes = Repository(opened, TTL, is_audited=True)
    await quotes.reserve([new(str(number)) for number in range(6)])
    await run(sequencer(opened))
    await sql.execute("INSERT INTO audit_checkpoint SELECT -1, signed, true, note FROM audit_checkpoint")
    await sql.execute(statement)
    try:
        found = verified(await exported(sql))
    finally:
        await sql.execute("DELETE FROM audit_checkpoint WHERE size = -1")

    assert any(text in str(each) for each in found.findings), [str(each) for each in found.findings]


async def test_nothing_is_signed_on_a_tree_that_was_changed(opened, sql):
    quotes, each = Repository(opened, TTL, is_audited=True), sequencer(opened)
    await quotes.reserve([new("one")])
    await run(each)
    await sql.execute("UPDATE audit_tile SET hashes = sha256('another')")
    await quotes.reserve([new("two")])

    with pytest.raises(UnavailableError) as raised:
        await run(each)
    assert "not the one that was signed last" in str(raised.value.cause)
    assert 1 == await sql.fetchval("SELECT max(size) FROM audit_checkpoint")


async def test_a_new_key_goes_on_where_the_old_one_ended(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    await quotes.reserve([new("one")])
    await run(sequencer(opened))
    await quotes.reserve([new("two")])
    await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
    with pytest.raises(UnavailableError):
        await run(sequencer(opened, audit_keys(OTHER_KEY.secret_text)))
    both = audit_keys(f"{OTHER_KEY.secret_text}\n{KEY.verifier}")
    await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
    await run(sequencer(opened, both))
    rows = await exported(sql)

    assert verified(rows, keys=both).is_good
    assert not verified(rows, keys=KEYS).is_good


async def test_a_restored_backup_is_seen_by_a_checkpoint_that_was_kept_outside(opened, sql):
    quotes, each = Repository(opened, TTL, is_audited=True), sequencer(opened)
    await quotes.reserve([new("one")])
    await run(each)
    tables = ["quote", "audit_leaf", "audit_tile", "audit_checkpoint", "audit_pending"]
    for table in tables:
        await sql.execute(f"CREATE TEMPORARY TABLE saved_{table} AS SELECT * FROM {table}")
    await quotes.reserve([new("two")])
    await run(each)
    kept = [
        open_checkpoint(
            await sql.fetchval("SELECT note FROM audit_checkpoint WHERE size = 2"), KEYS.verifiers
        )
    ]
    for table in tables:
        await sql.execute(f"TRUNCATE {table}")
        await sql.execute(f"INSERT INTO {table} SELECT * FROM saved_{table}")
    await quotes.reserve([new("three")])
    await run(each)

    assert 2 == len(await events(sql))
    (finding,) = verified(await exported(sql), kept).findings
    assert "the history was rewritten" in finding.text


async def test_old_leaves_lose_their_content_and_still_verify(opened, sql):
    quotes = Repository(opened, TTL, is_audited=True)
    await quotes.reserve([new("one"), new("two")])
    await run(sequencer(opened))
    await sql.execute("UPDATE audit_checkpoint SET signed = signed - interval '2 days', is_kept = true")
    await sql.execute("UPDATE audit_log SET leased_until = '2000-01-01Z'")
    await quotes.reserve([new("three")])
    await run(sequencer(opened, content_for=timedelta(days=1)))
    leaves = await good_export(sql)

    assert [True, True, False] == [leaf.content is None for leaf in leaves]


async def test_stubs_do_not_change_the_log(opened, sql):
    quotes = Repository(opened, timedelta(milliseconds=1), is_audited=True)
    await quotes.reserve([new("one")])
    await run(sequencer(opened))
    await sql.execute("SELECT pg_sleep(0.01)")
    await sql.execute("UPDATE retention SET swept_until = now() - interval '1 day'")
    while await quotes.sweep(timedelta()) is not None:
        pass
    (leaf,) = await good_export(sql)

    assert "stub" == leaf.table
    assert "13.75" in leaf.content


async def test_checkpoints_of_each_minute_stay(opened, sql):
    quotes, each = Repository(opened, TTL, is_audited=True), sequencer(opened)
    for number in range(6):
        await quotes.reserve([new(str(number))])
        if number == 3:
            await sql.execute("UPDATE audit_log SET kept = kept - interval '1 minute'")
        await run(each)

    assert [1, 4, 6] == [
        row["size"] for row in await sql.fetch("SELECT size FROM audit_checkpoint ORDER BY size")
    ]
    await good_export(sql)


def test_no_statement_that_writes_calls_a_volatile_function_or_locks_rows():
    """On Citus they fail."""
    for statement in {**statements.STATEMENTS, **outbox.DISTRIBUTED_STATEMENTS}:
        writes = any(word in statement for word in ("INSERT", "UPDATE", "DELETE"))
        assert not (writes and ("clock_timestamp" in statement or "set_config" in statement)), statement
        assert "FOR UPDATE" not in statement
        assert "advisory" not in statement
