"""Many items in one statement: each gets its own quote or its own error, before its own deadline."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from chassis.batching import FutureItem
from chassis.database import Database
from chassis.database_metrics import DatabaseMetrics
from chassis.errors import IdempotencyKeyReusedError, QuotingError, UnavailableError, UpstreamTimeoutError
from dfsp_api.idempotency import require_same_request
from dfsp_api.repository import NewQuote, Repository
from dfsp_api.statement_batcher import StatementBatcher
from dfsp_api.stored_quote import OPERATIONS, StoredQuote
from quoting.call import Operation
from support.payee import TTL, database, new, payment, rows, waiting_for_lock


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


def result_of(add, value, deadline: float) -> asyncio.Future:
    item = FutureItem(value, deadline)
    add(item)
    return item.result


@pytest.fixture
async def opened(database_url) -> AsyncIterator[Database]:
    async with database(database_url) as made:
        yield made


@pytest.fixture
async def batcher(opened) -> AsyncIterator[StatementBatcher]:
    made = StatementBatcher(Repository(opened, TTL), opened, 4)
    yield made
    await made.close()


async def ends_of(*asked) -> list[object]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*asked, return_exceptions=True)


async def test_items_that_arrive_together_are_one_commit(batcher, sql):
    items = [new(f"key-{number}") for number in range(50)]
    quotes = await ends_of(*(result_of(batcher.reserve, item, soon()) for item in items))

    assert [item.uuid for item in items] == [quote.uuid for quote in quotes]
    assert 1 == await sql.fetchval("SELECT count(DISTINCT xmin::text) FROM quote")


async def test_one_items_bad_data_fails_alone(batcher, sql):
    """Postgres refuses the whole statement and does nothing of it; each item is sent again alone."""
    items = [new(f"key-{number}") for number in range(10)]
    items[4] = replace(items[4], caller="\0")
    items[7] = replace(items[7], fingerprint=None)
    quotes = await ends_of(*(result_of(batcher.reserve, item, soon()) for item in items))

    assert [UnavailableError] * 2 == [type(quotes[4]), type(quotes[7])]
    good = [quote for quote in quotes if isinstance(quote, StoredQuote)]
    assert [item.uuid for number, item in enumerate(items) if number not in (4, 7)] == [q.uuid for q in good]
    assert 8 == await rows(sql)


async def test_a_key_used_twice_at_once_is_one_quote_and_the_other_request_is_refused(batcher, sql):
    one, other = new("key"), new("key", amount="12.51")
    quotes = await ends_of(
        *(result_of(batcher.reserve, item, soon()) for item in [one, new("beside"), other, one])
    )

    assert 2 == await rows(sql)
    assert quotes[0] == quotes[2] == quotes[3]
    require_same_request(quotes[0], Operation.QUOTE_SOURCE_AMOUNT, one.fingerprint)
    with pytest.raises(IdempotencyKeyReusedError):
        require_same_request(quotes[2], Operation.QUOTE_SOURCE_AMOUNT, other.fingerprint)


async def test_payments_and_look_ups_at_once_each_get_their_own_quote(batcher, sql):
    items = [new(f"key-{number}") for number in range(6)]
    await ends_of(*(result_of(batcher.reserve, item, soon()) for item in items[:-1]))
    paid, found = await asyncio.gather(
        ends_of(
            *(result_of(batcher.execute, payment(item), soon()) for item in [*items[:2], items[0], items[-1]])
        ),
        ends_of(*(result_of(batcher.find, item, soon()) for item in items[2:])),
    )

    assert [items[0].uuid, items[1].uuid, items[0].uuid] == [quote.uuid for quote in paid[:3]]
    assert paid[0] == paid[2]
    assert all(quote.executed for quote in paid[:3])
    assert [item.uuid for item in items[2:-1]] == [quote.uuid for quote in found[:-1]]
    assert [None, None] == [paid[-1], found[-1]]


async def test_a_caller_that_gives_up_neither_stops_nor_undoes_the_payments_of_others(batcher, sql):
    items = [new(f"key-{number}") for number in range(4)]
    await ends_of(*(result_of(batcher.reserve, item, soon()) for item in items))
    rival = sql.transaction()
    await rival.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", items[2].uuid)
    paying = [asyncio.ensure_future(result_of(batcher.execute, payment(item), soon())) for item in items]
    await waiting_for_lock(sql)
    paying[0].cancel()
    await rival.rollback()
    paid = await ends_of(*paying)

    assert isinstance(paid[0], asyncio.CancelledError)
    assert all(quote.executed for quote in paid[1:])
    # its statement had begun
    assert (await result_of(batcher.find, items[0], soon())).executed


@dataclass
class Scripted:
    """Slow statements that refuse items of a caller named "bad"."""

    seconds: float = 0.0
    until: float = 0.0
    """Time at which the statements end at the earliest, on the monotonic clock."""
    begun: list[list[str]] = field(default_factory=list)
    metrics: DatabaseMetrics = field(default_factory=lambda: DatabaseMetrics(1, lambda: (0, 0), {}))

    async def connected(self, *, deadline: float) -> None:
        await asyncio.sleep(self.seconds)

    async def reserve(self, items: Sequence[NewQuote], deadline: float) -> dict[UUID, StoredQuote]:
        self.begun.append([item.caller for item in items])
        await asyncio.sleep(max(self.seconds, self.until - time.monotonic()))
        if any(item.caller == "bad" for item in items):
            raise asyncpg.DataError("bad")
        return {item.uuid: _quote(item) for item in items}

    execute = release = find = reserve


def _quote(item: NewQuote) -> StoredQuote:
    known = {
        "uuid": item.uuid,
        "caller": item.caller,
        "operation": OPERATIONS[Operation.QUOTE_SOURCE_AMOUNT],
        "fingerprint": item.fingerprint,
        "request": item.request,
    }
    return StoredQuote(**{name: known.get(name) for name in StoredQuote.__struct_fields__})


def named(caller: str) -> NewQuote:
    return replace(new(caller), caller=caller)


async def test_no_statement_begins_for_an_item_whose_deadline_has_passed():
    """It fails with a timeout, not as if the service had failed."""
    scripted = Scripted(seconds=0.2)
    batcher = StatementBatcher(scripted, scripted, 1)
    ends = await ends_of(
        result_of(batcher.reserve, named("short"), soon(0.1)),
        result_of(batcher.reserve, named("long"), soon(30)),
    )

    assert [["long"]] == scripted.begun
    assert isinstance(ends[0], UpstreamTimeoutError)
    assert "long" == ends[1].caller


async def test_no_statement_is_repeated_for_an_item_whose_deadline_has_passed():
    deadline = soon(1)
    scripted = Scripted(until=deadline + 0.01)
    batcher = StatementBatcher(scripted, scripted, 1)
    ends = await ends_of(
        result_of(batcher.reserve, named("bad"), soon(30)),
        result_of(batcher.reserve, named("short"), deadline),
        result_of(batcher.reserve, named("long"), soon(30)),
    )

    assert [["bad", "short", "long"], ["bad"], ["long"]] == scripted.begun
    assert [UnavailableError, UpstreamTimeoutError] == [type(end) for end in ends[:2]]
    assert "long" == ends[2].caller


async def test_every_item_has_a_result_when_the_batcher_closes():
    scripted = Scripted(seconds=30)
    batcher = StatementBatcher(scripted, scripted, 1)
    asked = [
        asyncio.ensure_future(result_of(batcher.reserve, named(str(each)), soon())) for each in range(200)
    ]
    await asyncio.sleep(0.05)
    await batcher.close()

    assert all(isinstance(end, QuotingError) for end in await ends_of(*asked))
