"""Many items in one statement: each gets its own quote or its own failure, in its own time."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest
from msgspec.structs import replace

from chassis.database import Database
from chassis.errors import IdempotencyKeyReusedError, QuotingError, UnavailableError, UpstreamTimeoutError
from dfsp_api.idempotency import require_same_request
from dfsp_api.repository import NewQuote, Repository
from dfsp_api.statement_batcher import Together
from dfsp_api.stored_quote import OPERATIONS, StoredQuote
from quoting.call import Operation
from support.payee import TTL, database, new, payment, rows, waiting_for_lock


def soon(seconds: float = 60) -> float:
    return time.monotonic() + seconds


@pytest.fixture
async def opened(database_url) -> AsyncIterator[Database]:
    async with database(database_url) as made:
        yield made


@pytest.fixture
async def together(opened) -> AsyncIterator[Together]:
    made = Together(Repository(opened, TTL), opened, 4)
    yield made
    await made.close()


async def ends_of(*asked) -> list[object]:
    async with asyncio.timeout(30):
        return await asyncio.gather(*asked, return_exceptions=True)


async def test_what_comes_at_once_is_one_commit(together, sql):
    items = [new(f"key-{number}") for number in range(50)]
    quotes = await ends_of(*(together.reserve(item, soon()) for item in items))

    assert [item.uuid for item in items] == [quote.uuid for quote in quotes]
    assert 1 == await sql.fetchval("SELECT count(DISTINCT xmin::text) FROM quote")


async def test_one_items_bad_data_fails_alone(together, sql):
    """What Postgres refuses of one fails the whole statement; nothing of it is done, and each goes again."""
    items = [new(f"key-{number}") for number in range(10)]
    items[4] = replace(items[4], caller="\0")
    items[7] = replace(items[7], fingerprint=None)
    quotes = await ends_of(*(together.reserve(item, soon()) for item in items))

    assert [UnavailableError] * 2 == [type(quotes[4]), type(quotes[7])]
    good = [quote for quote in quotes if isinstance(quote, StoredQuote)]
    assert [item.uuid for number, item in enumerate(items) if number not in (4, 7)] == [q.uuid for q in good]
    assert 8 == await rows(sql)


async def test_a_key_used_twice_at_once_is_one_quote_and_the_other_request_is_refused(together, sql):
    one, other = new("key"), new("key", amount="12.51")
    quotes = await ends_of(*(together.reserve(item, soon()) for item in [one, new("beside"), other, one]))

    assert 2 == await rows(sql)
    assert quotes[0] == quotes[2] == quotes[3]
    require_same_request(quotes[0], Operation.QUOTE_SOURCE_AMOUNT, one.fingerprint)
    with pytest.raises(IdempotencyKeyReusedError):
        require_same_request(quotes[2], Operation.QUOTE_SOURCE_AMOUNT, other.fingerprint)


async def test_payments_and_look_ups_at_once_each_get_their_own(together, sql):
    items = [new(f"key-{number}") for number in range(6)]
    await ends_of(*(together.reserve(item, soon()) for item in items[:-1]))
    paid, found = await asyncio.gather(
        ends_of(*(together.execute(payment(item), soon()) for item in [*items[:2], items[0], items[-1]])),
        ends_of(*(together.find(item.uuid, soon()) for item in items[2:])),
    )

    assert [items[0].uuid, items[1].uuid, items[0].uuid] == [quote.uuid for quote in paid[:3]]
    assert paid[0] == paid[2]
    assert all(quote.executed for quote in paid[:3])
    assert [item.uuid for item in items[2:-1]] == [quote.uuid for quote in found[:-1]]
    assert [None, None] == [paid[-1], found[-1]]


async def test_a_caller_who_gives_up_neither_stops_nor_undoes_what_the_others_wait_for(together, sql):
    items = [new(f"key-{number}") for number in range(4)]
    await ends_of(*(together.reserve(item, soon()) for item in items))
    rival = sql.transaction()
    await rival.start()
    await sql.execute("SELECT FROM quote WHERE uuid = $1 FOR UPDATE", items[2].uuid)
    paying = [asyncio.ensure_future(together.execute(payment(item), soon())) for item in items]
    await waiting_for_lock(sql)
    paying[0].cancel()
    await rival.rollback()
    paid = await ends_of(*paying)

    assert isinstance(paid[0], asyncio.CancelledError)
    assert all(quote.executed for quote in paid[1:])
    # it had been begun: whoever asks again is told so
    assert (await together.find(items[0].uuid, soon())).executed


@dataclass
class Scripted:
    """Statements that take their time and refuse items of a caller named "bad"."""

    seconds: float = 0.0
    begun: list[list[str]] = field(default_factory=list)

    async def connected(self) -> None:
        await asyncio.sleep(self.seconds)

    async def reserve(self, items: Sequence[NewQuote]) -> dict[UUID, StoredQuote]:
        self.begun.append([item.caller for item in items])
        await asyncio.sleep(self.seconds)
        if any(item.caller == "bad" for item in items):
            raise asyncpg.DataError("bad")
        return {item.uuid: _quote(item) for item in items}

    execute = find = reserve


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


async def test_nothing_is_begun_for_whoever_has_no_more_time():
    """He is told that his time was up, not that the service failed."""
    scripted = Scripted(seconds=0.2)
    together = Together(scripted, scripted, 1)
    ends = await ends_of(
        together.reserve(named("short"), soon(0.1)), together.reserve(named("long"), soon(30))
    )

    assert [["long"]] == scripted.begun
    assert isinstance(ends[0], UpstreamTimeoutError)
    assert "long" == ends[1].caller


async def test_nothing_is_begun_again_for_whoever_has_no_more_time():
    scripted = Scripted(seconds=0.2)
    together = Together(scripted, scripted, 1)
    ends = await ends_of(
        together.reserve(named("bad"), soon(30)),
        together.reserve(named("short"), soon(0.3)),
        together.reserve(named("long"), soon(30)),
    )

    assert [["bad", "short", "long"], ["bad"], ["long"]] == scripted.begun
    assert [UnavailableError, UpstreamTimeoutError] == [type(end) for end in ends[:2]]
    assert "long" == ends[2].caller


async def test_at_the_end_everybody_is_told():
    scripted = Scripted(seconds=30)
    together = Together(scripted, scripted, 1)
    asked = [asyncio.ensure_future(together.reserve(named(str(each)), soon())) for each in range(200)]
    await asyncio.sleep(0.05)
    await together.close()

    assert all(isinstance(end, QuotingError) for end in await ends_of(*asked))
