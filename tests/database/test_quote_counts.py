"""The numbers of quotes by state: counted in the database, the same for every payee, at no cost for requests."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from chassis.database import Database
from chassis.errors import UnavailableError
from dfsp_api import quote_counts
from dfsp_api.quote_counts import STATEMENTS, QuoteCounts
from dfsp_api.repository import MIGRATIONS, ReleaseOrder, Repository
from support.payee import TTL, database, new, payment, until

RETENTION = timedelta(days=30)
OLD_QUOTES = """
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount, created, expires,
    executed)
SELECT gen_random_uuid(), 'test', 'quoteSourceAmount', '', '{}', 2, 1, at, at + interval '5 min',
    CASE WHEN n % 5 > 0 THEN at + interval '4 s' END
FROM (SELECT n, $2::text::timestamptz - n * interval '1 min' AS at FROM generate_series(1, $1::integer) n)
"""


class Shown:
    """Reads from `/metrics` of one payee how many quotes it shows."""

    def __init__(self, opened: Database) -> None:
        self.counts = QuoteCounts(opened, RETENTION)
        self._registry = CollectorRegistry()
        self._registry.register(self.counts)

    async def quotes(self) -> dict[str, float]:
        await self.counts.measure()
        return {
            sample.labels["state"]: sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
            if sample.name == "quotes"
        }

    async def value(self, name: str) -> float | None:
        await self.counts.measure()
        return self._registry.get_sample_value(name)

    async def count(self) -> None:
        """Count until nothing more is due. On a busy machine a step may fail; a later one then makes up for it."""

        async def is_counted() -> bool:
            while await self.counts.step():
                pass
            await self.counts.measure()
            return bool(await self.quotes())

        await until(is_counted)


@pytest.fixture
async def opened(database_url) -> AsyncIterator[Database]:
    async with database(database_url) as made:
        yield made


@pytest.fixture
def shown(opened) -> Shown:
    return Shown(opened)


@pytest.fixture
def repository(opened) -> Repository:
    return Repository(opened, TTL)


async def reserve(repository: Repository, *keys: str) -> None:
    await repository.reserve([new(key) for key in keys])


async def now(sql) -> str:
    return str((await sql.fetchval("SELECT at FROM public.fake_clock")).isoformat())


async def test_quotes_are_counted_by_state(clock, repository, shown, sql):
    await reserve(repository, "paid", "late", "later")
    await repository.execute([payment(new("paid"))])
    began = await now(sql)
    await shown.count()
    assert {"reserved": 2, "executed": 1, "released": 0, "expired": 0} == await shown.quotes()

    await clock.set(began, plus="5 min")
    await reserve(repository, "new")
    await shown.count()
    assert {"reserved": 1, "executed": 1, "released": 0, "expired": 2} == await shown.quotes()
    assert datetime.fromisoformat(began).timestamp() + 300 == await shown.value(
        "quotes_counted_timestamp_seconds"
    )


async def test_a_released_quote_is_counted_as_released_for_ever(clock, repository, shown, sql):
    await reserve(repository, "released", "late")
    await repository.release([ReleaseOrder(new("released").uuid, "test")])
    began = await now(sql)
    for plus, expected in (("0", (1, 0)), ("5 min", (0, 1)), ("10 min", (0, 1))):
        await clock.set(began, plus=plus)
        await shown.count()
        reserved, expired = expected
        assert {
            "reserved": reserved,
            "executed": 0,
            "released": 1,
            "expired": expired,
        } == await shown.quotes()


async def test_quotes_that_cannot_change_are_counted_once(clock, repository, shown, sql):
    await reserve(repository, "paid", "never paid")
    await repository.execute([payment(new("paid"))])
    began = await now(sql)
    for minutes in (10, 20, 60 * 24 * 400):
        await clock.set(began, plus=f"{minutes} min")
        await shown.count()
        assert {"reserved": 0, "executed": 1, "released": 0, "expired": 1} == await shown.quotes()

    # nothing is left that the next count would read
    (later,) = await shown.counts._database.fetch(
        quote_counts.LATER,
        await sql.fetchval("SELECT settled_until FROM quote_count"),
        datetime.fromisoformat(began),
    )
    assert [0, 0, 0, 0] == list(later)


async def test_a_quote_that_is_executed_in_its_last_moment_is_settled_as_executed(
    clock, repository, shown, sql
):
    await reserve(repository, "late")
    began = await now(sql)
    await clock.set(began, plus="299 s")
    async with sql.transaction():
        await sql.execute("SELECT FROM quote FOR UPDATE")
        paying = asyncio.create_task(repository.execute([payment(new("late"))]))
        await shown.count()
    await paying
    await clock.set(began, plus="10 min")
    await shown.count()

    assert {"reserved": 0, "executed": 1, "released": 0, "expired": 0} == await shown.quotes()


async def test_stubs_are_expired_quotes(clock, repository, shown, sql):
    await reserve(repository, "never paid")
    await clock.set(await now(sql), plus="2 days")
    while await repository.sweep(timedelta(days=1)) is not None:
        pass
    await shown.count()

    assert {"reserved": 0, "executed": 0, "released": 0, "expired": 1} == await shown.quotes()


async def test_every_payee_shows_the_same_numbers_and_one_of_them_counts(
    clock, repository, shown, opened, sql
):
    other = Shown(opened)
    await reserve(repository, "one")
    await shown.count()
    counted = await sql.fetchval("SELECT counted FROM quote_count")
    await reserve(repository, "two")
    await other.count()

    assert (
        {"reserved": 1, "executed": 0, "released": 0, "expired": 0}
        == await shown.quotes()
        == await other.quotes()
    )
    assert counted == await sql.fetchval("SELECT counted FROM quote_count")

    await clock.set(await now(sql), plus="2 s")
    await other.count()
    assert (
        {"reserved": 2, "executed": 0, "released": 0, "expired": 0}
        == await shown.quotes()
        == await other.quotes()
    )


async def test_two_payees_that_count_at_once_count_each_quote_once(clock, shown, opened, sql):
    await sql.execute(OLD_QUOTES, 1_000, await now(sql))
    await sql.execute("UPDATE quote_count SET settled_until = '2000-01-01'")
    others = [Shown(opened) for _ in range(3)]
    await asyncio.gather(shown.count(), *(other.count() for other in others))
    await clock.set(await now(sql), plus="1 hour")
    await shown.count()

    assert {"reserved": 0, "executed": 800, "released": 0, "expired": 200} == await shown.quotes()


async def test_many_quotes_with_an_earlier_expiry_are_counted_after_the_table_was_analysed(clock, shown, sql):
    await shown.count()
    assert {"reserved": 0, "executed": 0, "released": 0, "expired": 0} == await shown.quotes()

    await sql.execute(OLD_QUOTES, 2_000, await now(sql))
    await sql.execute("ANALYZE quote")
    for seconds in (2, 4):
        await clock.set(await now(sql), plus=f"{seconds} s")
        await shown.count()
    await clock.set(await now(sql), plus="1 hour")
    await shown.count()

    assert {"reserved": 0, "executed": 1_600, "released": 0, "expired": 400} == await shown.quotes()


async def test_a_long_count_makes_the_next_one_wait(clock, repository, shown, sql):
    await shown.count()
    await sql.execute("UPDATE quote_count SET seconds = 1")
    await reserve(repository, "one")
    await clock.set(await now(sql), plus="99 s")
    await shown.count()
    assert 0 == (await shown.quotes())["reserved"]

    await clock.set(await now(sql), plus="1 s")
    await shown.count()
    assert 1 == (await shown.quotes())["reserved"]


async def test_retention_that_is_behind_is_shown(clock, shown, sql):
    await clock.set(await now(sql), plus="31 days")
    swept = await sql.fetchval("SELECT swept_until FROM retention")
    at = datetime.fromisoformat(await now(sql))

    assert (at - RETENTION - swept).total_seconds() == await shown.value("retention_lag_seconds")
    assert swept.timestamp() == await shown.value("retention_swept_until_timestamp_seconds")


async def test_without_its_row_nothing_is_counted_or_shown(shown, sql):
    assert {"reserved": 0, "executed": 0, "released": 0, "expired": 0} == await shown.quotes()

    await sql.execute("DELETE FROM quote_count")
    assert not await shown.counts.step()
    with pytest.raises(UnavailableError) as caught:
        await shown.counts.measure()
    assert "quote_count" in str(caught.value.cause)


async def test_a_count_that_takes_long_goes_on_and_is_shown_later(repository, shown, sql, monkeypatch):
    await reserve(repository, "one")
    monkeypatch.setattr(quote_counts, "WAIT_SECONDS", 0.01)
    async with sql.transaction():
        await sql.execute("LOCK TABLE quote")
        assert {} == await shown.quotes()

    async def is_counted() -> bool:
        return (await shown.quotes()).get("reserved") == 1

    await until(is_counted)
    await shown.counts.close()


async def test_quotes_that_were_there_before_the_first_count_are_counted(clock, shown, sql):
    await sql.execute(OLD_QUOTES, 100, await now(sql))
    await sql.execute(
        "DROP TABLE quote_count; DELETE FROM schema_migration WHERE name LIKE '%quote_counts.sql'"
    )
    await MIGRATIONS.apply(sql)
    for column in ("settled_released", "released"):  # a later migration added them
        await sql.execute(f"ALTER TABLE quote_count ADD COLUMN {column} bigint NOT NULL DEFAULT 0")
    await shown.count()

    assert {"reserved": 0, "executed": 80, "released": 0, "expired": 20} == await shown.quotes()


@pytest.mark.parametrize("kind", ["postgres", "distributed"])
async def test_a_payee_counts_and_shows_quotes(start, kind):
    payee = await start(database_kind=kind)
    await payee.execute(await payee.reserved())
    await payee.reserved()
    metrics = ""
    async with asyncio.timeout(60):
        while 'quotes{state="reserved"} 1.0' not in metrics:
            metrics = (await payee.send("GET", "/metrics")).body.decode()

    assert 'quotes{state="executed"} 1.0' in metrics
    assert 'statement="count_later"' in metrics


def test_the_statements_work_on_a_distributed_table():
    for name, statement in (
        (name, statement) for statement, name in STATEMENTS.items() if statement != quote_counts.STATE
    ):
        assert not re.search(r"clock_timestamp|now\(\)|FOR UPDATE|FOR SHARE|LOCK", statement), name
    assert "quote " not in quote_counts.STATE.replace("quote_count", "")
