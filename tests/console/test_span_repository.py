"""Spans in a real Postgres: stored once, found by trace and quote, deleted by age and by number."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from chassis.database import Database
from console.app import MIGRATIONS
from console.traces import span_repository
from console.traces.span import Span
from console.traces.span_repository import FailedRequest, SpanRepository, TraceSummary
from support.payee import until

HOUR_SECONDS = 3_600


def span(
    number: int, trace: str = "order-1", *, service: str = "dfsp-api", error: str | None = None, **more
) -> Span:
    attributes = {"l1p.trace_id": trace, "enduser.id": "test", **more}
    if error is not None:
        attributes |= {"error.type": error, "http.response.status_code": 410}
    return Span(
        f"{number // 100:032x}",
        f"{number:016x}",
        None,
        service,
        "POST /x",
        number * 1_000,
        500,
        error is not None,
        attributes,
    )


@pytest.fixture
async def database(database_url) -> AsyncIterator[Database]:
    made = Database(database_url, 2, MIGRATIONS)
    await made.open(pytest.fail)

    async def is_ready() -> bool:
        return not await made.missing()

    await until(is_ready)
    yield made
    await made.close()


@pytest.fixture
def repository(database) -> SpanRepository:
    return SpanRepository(database, HOUR_SECONDS, 1_000)


async def count(database: Database) -> int:
    return (await database.fetch("SELECT count(*) AS n FROM span"))[0]["n"]


async def test_a_span_comes_back_as_it_was_stored(repository):
    made = span(1, **{"quote.uuid": "u-1", "share": 0.5, "yes": True, "many": "ä'\"\\"})
    await repository.insert([made])

    assert [made] == await repository.of_trace("order-1")
    assert [made] == await repository.of_trace(made.trace_id)
    assert [] == await repository.of_trace("order-2")


async def test_a_span_that_is_sent_again_is_stored_once(repository, database):
    await repository.insert([span(1), span(2)])
    await asyncio.gather(*(repository.insert([span(2), span(3)]) for _ in range(4)))

    assert 3 == await count(database)


async def test_no_spans_need_no_statement(repository):
    await repository.insert([])


async def test_the_traces_of_a_quote_are_found_by_its_uuid(repository):
    await repository.insert(
        [
            span(5, "pay", **{"quote.uuid": "u-1"}),
            span(2, "reserve", **{"quote.uuid": "u-1"}),
            span(3, "reserve"),
            span(4),
        ]
    )

    assert [TraceSummary("reserve", 2_000), TraceSummary("pay", 5_000)] == await repository.traces_of_quote(
        "u-1"
    )
    assert [] == await repository.traces_of_quote("u-2")


async def test_failed_requests_are_listed_once_each_with_the_hop_of_the_error(repository):
    await repository.insert(
        [
            span(1, "a", service="dfsp-api-payer", error="QuoteExpiredError"),
            span(2, "a", service="dfsp-api", error="QuoteExpiredError"),
            span(3, "b", service="dfsp-api-payer", error="UnauthorizedError"),
            span(4, "c", service="dfsp-api-payer"),
        ]
    )
    expired = FailedRequest("a", "dfsp-api", "POST /x", 2_000, "QuoteExpiredError", "test", 410)
    refused = FailedRequest("b", "dfsp-api-payer", "POST /x", 3_000, "UnauthorizedError", "test", 410)

    assert [refused, expired] == await repository.failed(None, None, 10)
    assert [refused] == await repository.failed(None, None, 1)
    assert [expired] == await repository.failed("QuoteExpiredError", "test", 10)
    assert [] == await repository.failed(None, "other", 10)


async def test_old_spans_are_deleted(repository, database):
    await repository.insert([span(number) for number in range(1, 5)])
    await database.fetch("UPDATE span SET received = received - interval '61 minutes' WHERE id <= 3")

    assert not await repository.delete_old()
    assert [span(4)] == await repository.of_trace("order-1")


async def test_only_the_newest_rows_stay(repository, database, monkeypatch):
    monkeypatch.setattr(span_repository, "MAX_DELETED", 100)
    for start in range(0, 1_500, 500):
        await repository.insert([span(number, f"t{number}") for number in range(start, start + 500)])
    steps = 1
    while await repository.delete_old():
        steps += 1

    assert 6 == steps
    assert 1_000 == await count(database)
    assert [] == await repository.of_trace("t499")
    assert [span(500, "t500")] == await repository.of_trace("t500")


async def test_a_timeline_has_a_limited_number_of_spans(repository):
    await repository.insert([span(number) for number in range(span_repository.MAX_SPANS + 1)])

    found = await repository.of_trace("order-1")
    assert span_repository.MAX_SPANS == len(found)
    assert span(0) == found[0]


async def test_searches_by_trace_quote_and_failure_use_an_index(repository, database):
    await repository.insert(
        [span(number, f"t{number}", **{"quote.uuid": f"u{number}"}) for number in range(4_000)]
    )
    await database.fetch("ANALYZE span")
    for statement, arguments in (
        (span_repository._OF_TRACE, ("t5", 10)),
        (span_repository._TRACES_OF_QUOTE, ("u5", 10)),
        (span_repository._FAILED, (None, None, 10, 10)),
        (span_repository._DELETE_OLD, (60.0, 5_000, 10)),
    ):
        plan = "\n".join(row[0] for row in await database.fetch(f"EXPLAIN {statement}", *arguments))

        assert "Seq Scan on span" not in plan, plan
