"""Exposure limits: how much a caller may have reserved in one currency (wire.md §9)."""

import asyncio
import json
import random
import re
from decimal import Decimal
from typing import Final, Self

import asyncpg
import msgspec
import pytest

from dfsp_api import distributed_exposure_repository
from dfsp_api.distributed_exposure_repository import LimitedDistributedRepository
from dfsp_api.exposure_limits import Exposure, ExposureLimit, ExposureLimits, ExposureRefusal
from dfsp_api.exposure_repository import INSERT_WITHIN_LIMITS, LimitedRepository
from dfsp_api.repository import INSERT
from dfsp_api.stored_quote import StoredQuote
from support.messages import LOOK_UP_QUERY, OTHER, QUOTE, basic
from support.payee import (
    TTL,
    Caller,
    PayeeResponse,
    database,
    new,
    payment,
    waiting_for_lock,
)

ADMIN = basic("admin", "admin")
PATIENT = {"X_Request_Timeout_Ms": "60000"}
KINDS = {"postgres": LimitedRepository, "distributed": LimitedDistributedRepository}
# a quote of the sample request has the source amount 13.75
TWO_QUOTES = """
[[limit]]
caller = "test"
currencyCode = "USD"
sumLimit = "30.00"
"""
LIMIT = ExposureLimits({("test", "USD"): ExposureLimit(Decimal("30.00"), None)})
TRUTH = """
SELECT coalesce(sum(source_amount), 0), count(*) FROM quote
WHERE caller = 'test' AND executed IS NULL AND released IS NULL AND expires > clock_timestamp()
"""


@pytest.fixture
def limits_file(tmp_path):
    file = tmp_path / "limits.toml"
    file.write_text(TWO_QUOTES)
    return file


@pytest.fixture(params=["postgres", "distributed"])
def start(request, start, limits_file):
    """Starts a payee of each kind, with limits, on the test's database."""

    async def start_kind(**settings: object) -> Caller:
        limited = {"exposure_limits_file": limits_file, "operators": "admin"}
        return await start(database_kind=request.param, **{**limited, **settings})

    return start_kind


@pytest.fixture(params=sorted(KINDS))
async def repository(request, database_url):
    async with database(database_url) as opened:
        made = KINDS[request.param](opened, TTL)
        made.exposures.use(LIMIT)
        yield made
        await made.exposures.close()


async def exposures(payee: Caller) -> list[dict[str, object]]:
    answer = await payee.send("GET", "/v1/exposures", authorization=ADMIN)
    assert 200 == answer.status, answer.body
    found: list[dict[str, object]] = answer.json["exposures"]
    return found


async def release(payee: Caller, uuid: str) -> PayeeResponse:
    return await payee.send("DELETE", f"/v1/quote/{uuid}?{LOOK_UP_QUERY}", **PATIENT)


async def test_a_quote_beyond_the_limit_is_refused_with_limit_exposure_and_request(start, sql):
    payee = await start()
    for key in ("one", "two"):
        await payee.reserved(key=key)

    answer = await payee.reserve(key="three")

    assert (422, "ExposureLimitError") == answer.outcome
    (fault,) = answer.json["validationErrors"]
    assert {
        "key": "amount",
        "value": "12.50",
        "limit": "30.00",
        "exposure": "27.50",
        "requested": "13.75",
    } == fault["params"]
    assert 2 == await sql.fetchval("SELECT count(*) FROM quote")
    assert 2 == await sql.fetchval("SELECT count(*) FROM exposure_entry")
    assert [
        {
            "caller": "test",
            "currencyCode": "USD",
            "sum": "27.50",
            "count": 2,
            "sumLimit": "30.00",
            "countLimit": None,
        }
    ] == await exposures(payee)


async def test_a_smaller_quote_that_fits_is_reserved_to_the_last_cent(start):
    payee = await start()
    for key in ("one", "two"):
        await payee.reserved(key=key)
    path = "/v1/quoteDestinationAmount"

    assert 422 == (await payee.reserve({**QUOTE, "amount": "2.51"}, path=path)).status
    assert 200 == (await payee.reserve({**QUOTE, "amount": "2.50"}, path=path)).status
    assert "30.00" == (await exposures(payee))[0]["sum"]


async def test_the_number_of_quotes_has_a_limit_too(start, limits_file):
    limits_file.write_text(TWO_QUOTES.replace('sumLimit = "30.00"', "countLimit = 1"))
    payee = await start()
    await payee.reserved()

    answer = await payee.reserve()

    assert (422, "ExposureLimitError") == answer.outcome
    (fault,) = answer.json["validationErrors"]
    assert {"key": "currencyCode", "value": "USD", "limit": "1", "exposure": "1", "requested": "1"} == fault[
        "params"
    ]


async def test_other_callers_and_currencies_have_no_limit(start):
    payee = await start()
    for key in ("one", "two"):
        await payee.reserved(key=key)

    assert 422 == (await payee.reserve()).status
    assert 200 == (await payee.reserve(authorization=OTHER)).status
    assert 200 == (await payee.reserve({**QUOTE, "currencyCode": "EUR"})).status


async def test_a_repetition_gets_its_quote_also_at_the_limit(start):
    payee = await start()
    first = await payee.reserve(key="one")
    await payee.reserved(key="two")

    assert first.body == (await payee.reserve(key="one")).body
    assert (422, "IdempotencyKeyReusedError") == (
        await payee.reserve({**QUOTE, "amount": "1.00"}, "one")
    ).outcome


async def test_a_refused_key_reserves_a_quote_later(start):
    payee = await start()
    uuid = await payee.reserved(key="one")
    await payee.reserved(key="two")
    assert 422 == (await payee.reserve(key="three")).status
    await release(payee, uuid)

    assert 200 == (await payee.reserve(key="three")).status


@pytest.mark.parametrize("end", ["execute", "release", "expire"])
async def test_the_end_of_a_quote_frees_its_exposure_at_once(start, clock, end):
    payee = await start()
    quote = (await payee.reserve(key="one", X_Quote_Lifetime_Ms="1000")).json
    await payee.reserved(key="two")
    assert 422 == (await payee.reserve(key="three")).status
    if end == "expire":
        await clock.set(quote["expires"], plus="-1 us")
        assert 422 == (await payee.reserve(key="three")).status
        await clock.set(quote["expires"])
    else:
        ended = await (payee.execute(quote["uuid"]) if end == "execute" else release(payee, quote["uuid"]))
        assert 200 == ended.status

    assert {"sum": "13.75", "count": 1}.items() <= (await exposures(payee))[0].items()
    assert 200 == (await payee.reserve(key="three")).status
    assert 422 == (await payee.reserve(key="four")).status


async def test_only_operators_get_exposures(start):
    payee = await start()

    answer = await payee.send("GET", "/v1/exposures")

    assert (403, "ForbiddenError") == answer.outcome
    assert (400, "InvalidQueryParameterError") == (
        await payee.send("GET", "/v1/exposures?caller=test", authorization=ADMIN)
    ).outcome


async def test_a_payee_without_limits_has_no_exposures(payee, start):
    payee = await start(exposure_limits_file="")

    assert [] == await exposures(payee)


async def test_quotes_that_were_reserved_without_the_limit_count(start):
    unlimited = await start(exposure_limits_file="")
    kept, executed, released = [await unlimited.reserved(key=key) for key in ("one", "two", "three")]
    await unlimited.execute(executed)
    await release(unlimited, released)
    await unlimited.reserved(key="other", authorization=OTHER)
    limited = await start()

    assert {"sum": "13.75", "count": 1}.items() <= (await exposures(limited))[0].items()
    assert 200 == (await limited.reserve(key="four")).status
    assert 422 == (await limited.reserve(key="five")).status
    assert 200 == (await limited.execute(kept)).status
    assert 200 == (await limited.reserve(key="five")).status


async def test_the_metric_is_exposure_by_limit(start, limits_file):
    limits_file.write_text(TWO_QUOTES + "countLimit = 4\n" + TWO_QUOTES.replace("USD", "EUR"))
    payee = await start(metrics_callers="1")
    await payee.reserved()

    async with payee.client.get(payee.url + "/metrics") as reply:
        lines = [line for line in (await reply.text()).splitlines() if line.startswith("exposure_ratio{")]

    assert [
        'exposure_ratio{caller="test",currency="EUR",limit="sum"} 0.0',
        'exposure_ratio{caller="other",currency="other",limit="sum"} 0.4583333333333333',
        'exposure_ratio{caller="other",currency="other",limit="count"} 0.25',
    ] == lines


async def test_the_quotes_of_a_batch_are_decided_in_order(repository):
    small = msgspec.structs.replace(
        new("small"), terms=msgspec.structs.replace(new("small").terms, source_amount=Decimal("12.50"))
    )
    batch = [new("a"), new("b"), new("c"), small, new("a")]
    batch[1] = msgspec.structs.replace(
        batch[1], terms=msgspec.structs.replace(batch[1].terms, source_amount=Decimal("16.26"))
    )

    outcomes = await repository.reserve(batch)

    refused = {uuid: each for uuid, each in outcomes.items() if isinstance(each, ExposureRefusal)}
    assert {
        batch[1].uuid: Exposure(Decimal("13.75"), 1),
        small.uuid: Exposure(Decimal("27.50"), 2),
    } == {uuid: each.exposure for uuid, each in refused.items()}
    assert {batch[0].uuid, batch[2].uuid} == set(outcomes) - set(refused)
    assert Exposure(Decimal("27.50"), 2) == (await repository.exposures_now())["test", "USD"]


async def test_limits_that_come_back_count_the_quotes_reserved_meanwhile(repository):
    await repository.reserve([new("one")])
    repository.exposures.use(ExposureLimits())
    await repository.reserve([new("two")])
    await repository.execute([payment(new("one"))])
    await repository.reserve([new("three")])
    repository.exposures.use(LIMIT)

    (outcome,) = (await repository.reserve([new("four")])).values()

    assert isinstance(outcome, ExposureRefusal)
    assert Exposure(Decimal("27.50"), 2) == outcome.exposure


async def test_an_e_mail_address_that_the_file_writes_otherwise_is_counted_by_the_last_payee_too(
    repository, database_url
):
    """The other payee has reserved a quote without the limit when the repository has counted the caller already."""
    repository.exposures.use(ExposureLimits({("Alice@Example.com", "USD"): LIMIT.by_pair["test", "USD"]}))
    quotes = [msgspec.structs.replace(new(key), caller="alice@example.com") for key in ("a", "b", "c")]
    await repository.reserve(quotes[:1])
    async with database(database_url) as opened:
        other = type(repository)(opened, TTL)
        await other.reserve(quotes[1:2])
        other.exposures.use(repository.exposures.limits)
        await other.exposures.count(other.exposures.limits.by_pair)
        await other.exposures.close()

    (outcome,) = (await repository.reserve(quotes[2:])).values()

    assert isinstance(outcome, ExposureRefusal)
    assert Exposure(Decimal("27.50"), 2) == outcome.exposure


async def test_a_limit_that_goes_while_its_quotes_are_counted_limits_nothing(repository, sql):
    repository.exposures.use(ExposureLimits({("test", "USD"): ExposureLimit(None, 0)}))
    async with sql.transaction():
        await sql.execute("LOCK TABLE exposure")
        begun = asyncio.create_task(repository.reserve([new("one")]))
        await waiting_for_lock(sql)
        repository.exposures.use(ExposureLimits())

    assert [StoredQuote] == [type(each) for each in (await begun).values()]


STORE: Final = """
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount, created, expires)
VALUES ($1, 'test', 'quoteSourceAmount', $2, $3, 13.75, 12.50, now(), now() + interval '5 min')
"""


async def test_a_statement_that_began_without_the_limit_is_counted(repository, sql):
    """The limit comes while the statement waits for another transaction. An earlier statement has ended before."""
    repository.exposures.use(ExposureLimits())
    await repository.execute([payment(new("none"))])
    other = sql.transaction()
    await other.start()
    await sql.execute(STORE, new("one").uuid, new("one").fingerprint, json.dumps(new("one").request))
    begun = asyncio.create_task(repository.reserve([new("one"), new("two")]))
    await waiting_for_lock(sql)
    repository.exposures.use(LIMIT)
    later = asyncio.create_task(repository.reserve([new("three")]))
    # a count that did not wait would have ended by now
    await asyncio.wait([later], timeout=0.3)
    await other.rollback()
    await begun

    assert [ExposureRefusal] == [type(each) for each in (await later).values()]


async def test_a_key_that_another_payee_stores_at_the_same_moment_gives_its_quote(repository, sql):
    """The other payee has no limits file. Its transaction ends while the reservation waits for it."""
    await repository.reserve([new("one")])
    async with sql.transaction():
        await sql.execute(STORE, new("two").uuid, new("two").fingerprint, json.dumps(new("two").request))
        begun = asyncio.create_task(repository.reserve([new("two"), new("three")]))
        await waiting_for_lock(sql)
    outcomes = await begun

    assert isinstance(outcomes[new("two").uuid], StoredQuote)
    assert isinstance(outcomes[new("three").uuid], StoredQuote | ExposureRefusal)
    repository.exposures.forget()
    await repository.exposures.count(LIMIT.by_pair)
    truth = await sql.fetchrow(TRUTH)
    assert Exposure(*truth) == (await repository.exposures_now())["test", "USD"]


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_quotes_without_a_limit_have_the_statement_of_a_payee_without_limits(repository, sql):
    other = msgspec.structs.replace(new("one"), caller="other")
    sent = []

    async with repository._database._connection() as connection:
        connection.add_query_logger(lambda record: sent.append(record.query))
    await repository.reserve([other])
    await repository.reserve([new("two")])

    assert [INSERT] == [each for each in sent if "INSERT INTO quote" in each][:1]
    assert INSERT_WITHIN_LIMITS in sent
    assert 1 == await sql.fetchval("SELECT count(*) FROM exposure_entry")


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_the_cost_of_a_reservation_does_not_grow_with_the_open_quotes(repository, sql):
    repository.exposures.use(ExposureLimits({("test", "USD"): ExposureLimit(Decimal(10**9), None)}))
    await repository.reserve([new("one")])
    await sql.execute(
        "INSERT INTO exposure_entry SELECT 'test', 'USD', now() + interval '1 hour', gen_random_uuid(), 1"
        " FROM generate_series(1, 20000)"
    )
    arguments: list[object] = []
    fetch = repository._database.fetch

    async def note(statement: str, *given: object, **more: object) -> object:
        if statement == INSERT_WITHIN_LIMITS:
            arguments[:] = given
        return await fetch(statement, *given, **more)

    repository._database.fetch = note
    await repository.reserve([new("two")])
    arguments[5] = [new("three").uuid]
    async with sql.transaction():
        await sql.fetch(INSERT_WITHIN_LIMITS, *arguments)
        read = await sql.fetchval(
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_xact_user_tables"
            " WHERE relname = 'exposure_entry'"
        )

    assert read < 10


@pytest.mark.parametrize("repository", ["postgres"], indirect=True)
async def test_quotes_that_ended_at_once_are_off_after_few_batches(repository, sql):
    """Each batch reads the entries that the ones before it have left."""
    await repository.reserve([new("one")])
    await sql.execute(
        "INSERT INTO exposure_entry SELECT 'test', 'USD', now() - interval '1 ms' * n, gen_random_uuid(), 1"
        " FROM generate_series(1, 30000) AS n"
    )
    await sql.execute(
        "UPDATE exposure SET sum = sum + 30000, count = count + 30000, swept_until = '-infinity'"
    )

    for key in ("two", "three"):
        (outcome,) = (await repository.reserve([new(key)])).values()

    assert isinstance(outcome, ExposureRefusal)
    assert Exposure(Decimal("27.50"), 2) == outcome.exposure
    assert 2 == await sql.fetchval("SELECT count(*) FROM exposure_entry")


async def test_the_entries_of_ended_quotes_are_removed_without_a_reservation(repository, sql, clock):
    batch = [new("one"), new("two")]
    await repository.reserve(batch)
    await repository.execute([payment(batch[0])])
    await sql.execute("UPDATE public.fake_clock SET at = at + interval '1 day'")

    await repository.tidy()

    assert 0 == await sql.fetchval("SELECT count(*) FROM exposure_entry")
    assert (0, 0) == tuple(await sql.fetchrow("SELECT sum, count FROM exposure"))


@pytest.mark.parametrize("is_first", [True, False], ids=["execution first", "count first"])
async def test_an_execution_that_waits_while_its_quote_is_counted_frees_it(
    repository, sql, database_url, is_first
):
    """The quote was reserved without the limit. It is counted while the execution waits for its row."""
    repository.exposures.use(ExposureLimits())
    await repository.reserve([new("one")])
    repository.exposures.use(LIMIT)
    # a transaction sees the activity of its beginning, so another connection holds the lock
    holder = await asyncpg.connect(database_url)
    calls = [repository.execute([payment(new("one"))]), repository.exposures.count(LIMIT.by_pair)]
    waiting = []
    async with holder.transaction():
        await holder.execute("SELECT FROM quote FOR UPDATE")
        for call in calls if is_first else reversed(calls):
            waiting.append(asyncio.create_task(call))
            await waiting_for_lock(sql, count=len(waiting))
    await asyncio.gather(*waiting)
    await holder.close()

    assert Exposure() == (await repository.exposures_now())["test", "USD"]


def test_a_distributed_statement_works_on_one_pair_and_locks_one_row():
    for statement, name in distributed_exposure_repository.STATEMENTS.items():
        assert "caller = $1" in statement or "VALUES ($1" in statement or name == "exposures", statement
        assert "FOR UPDATE" not in statement or name == "exposure_lock"
        assert not re.search(r"FOR (NO KEY|SHARE|KEY)|SKIP LOCKED|advisory|clock_timestamp|now\(", statement)


@pytest.fixture
def payee_environment(limits_file):
    limits_file.write_text(TWO_QUOTES.replace("30.00", "137.50"))
    return {"QUOTES_EXPOSURE_LIMITS_FILE": str(limits_file), "QUOTES_OPERATORS": "admin"}


@pytest.mark.parametrize("two_processes", ["postgres", "distributed"], indirect=True)
async def test_rivals_over_two_payees_never_exceed_the_limit_and_use_it_up(two_processes, sql, database_url):
    """The limit is ten quotes. Reservations, executions and releases arrive at once at both payees."""
    async with Watch(database_url) as watch:
        first = await asyncio.gather(
            *(two_processes[n % 2].reserve(key=f"first-{n}", **PATIENT) for n in range(60)),
        )
        uuids = [each.json["uuid"] for each in first if each.status == 200]

        assert {(200, None), (422, "ExposureLimitError")} == {each.outcome for each in first}
        assert 10 == len(uuids)
        for turn in range(3):
            ends = [
                (two_processes[n % 2].execute if n % 3 else release_at(two_processes[n % 2]))(uuid, **PATIENT)
                for n, uuid in enumerate(uuids)
            ]
            calls = [
                *ends,
                *(two_processes[n % 2].reserve(key=f"{turn}-{n}", **PATIENT) for n in range(40)),
                *(two_processes[n % 2].reserve(authorization=OTHER, **PATIENT) for n in range(5)),
            ]
            random.Random(turn).shuffle(calls)
            answers = await asyncio.gather(*calls)
            # what has become free meanwhile is reserved by these
            more = [await two_processes[n % 2].reserve(key=f"{turn}-more-{n}", **PATIENT) for n in range(11)]
            assert {(200, None), (422, "ExposureLimitError")} == {each.outcome for each in answers}
            assert (422, "ExposureLimitError") == more[-1].outcome
            assert "137.50" == more[-1].json["validationErrors"][0]["params"]["exposure"]
            assert (Decimal("137.50"), 10) == tuple(await sql.fetchrow(TRUTH))
            uuids = [str(row["uuid"]) for row in await sql.fetch(OPEN)]
    assert watch.looks > 10
    assert watch.highest <= Decimal("137.50")


OPEN = "SELECT uuid FROM quote WHERE caller = 'test' AND executed IS NULL AND released IS NULL"


def release_at(payee: Caller):
    async def send(uuid: str, **more: str) -> PayeeResponse:
        return await payee.send("DELETE", f"/v1/quote/{uuid}?{LOOK_UP_QUERY}", **more)

    return send


class Watch:
    """Adds up the open quotes again and again, in the table of quotes alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.highest = Decimal(0)
        self.looks = 0

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self.url)
        self._task = asyncio.create_task(self._look())
        return self

    async def _look(self) -> None:
        while True:
            self.highest = max(self.highest, await self._connection.fetchval(TRUTH))
            self.looks += 1

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._connection.close()
