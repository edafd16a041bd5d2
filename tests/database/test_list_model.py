"""A list of quotes equals that of a model, for all quotes, filters and page sizes that hypothesis tries."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfsp_api import repository as statements
from dfsp_api.distributed_repository import DistributedRepository
from dfsp_api.quote_filter import EARLIEST, LATEST, Position, QuoteFilter, position_of
from dfsp_api.repository import Repository
from support.messages import QUOTE
from support.payee import TTL, database

NOW = datetime(2030, 1, 1, tzinfo=UTC)
"""The time of the database's clock."""
MAX_SCANNED = 5
CALLERS = ("test", "other", "third")
ADD = """
INSERT INTO quote (uuid, caller, operation, fingerprint, request, source_amount, destination_amount, created, expires,
    executed)
SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::json[], $6::numeric[], $7::numeric[],
    $8::timestamptz[], $9::timestamptz[], $10::timestamptz[])
"""
RESERVED_MEANWHILE = """
INSERT INTO quote VALUES (gen_random_uuid(), $1, 'quoteSourceAmount', '', '{"identifier": "1"}', 2, 2, $2,
    $2::timestamptz + interval '1 min', NULL)
"""


@dataclass(frozen=True)
class Stored:
    """A quote as the test stores it. Times are in seconds before NOW: several quotes have the same."""

    uuid: UUID
    caller: str
    age: int
    lifetime: int
    state: str
    identifier: str
    source: Decimal
    fee: Decimal

    @property
    def created(self) -> datetime:
        return NOW - timedelta(seconds=self.age)

    @property
    def position(self) -> Position:
        return Position(self.created, self.uuid)

    @property
    def shown_state(self) -> str:
        if self.state != "left":
            return self.state
        return "EXPIRED" if self.age >= self.lifetime else "RESERVED"

    @property
    def row(self) -> tuple[object, ...]:
        is_stub = self.state == "stub"
        return (
            self.uuid,
            self.caller,
            "quoteSourceAmount",
            b"",
            None if is_stub else f'{{"identifier": "{self.identifier}"}}',
            None if is_stub else self.source,
            None if is_stub else self.source - self.fee,
            self.created,
            self.created + timedelta(seconds=self.lifetime),
            self.created if self.state == "EXECUTED" else None,
        )


AGES = st.integers(1, 6)
IDENTIFIERS = st.sampled_from(["1", "2", QUOTE["identifier"]])
AMOUNTS = st.sampled_from([Decimal(text) for text in ("2", "2.00", "3", "3.50", "4")])
STORED = st.builds(
    Stored,
    uuid=st.uuids(),
    caller=st.sampled_from(CALLERS),
    age=AGES,
    lifetime=st.integers(1, 6),
    state=st.sampled_from(["left", "left", "EXECUTED", "stub"]),
    identifier=IDENTIFIERS,
    source=AMOUNTS,
    fee=st.sampled_from([Decimal(0), Decimal("0.5"), Decimal("1.00")]),
)
TIMES = st.none() | AGES.map(lambda age: NOW - timedelta(seconds=age)) | st.just(NOW)
FILTERS = st.fixed_dictionaries(
    {
        "caller": st.none() | st.sampled_from([*CALLERS, "nobody"]),
        "since": TIMES,
        "until": TIMES,
        "state": st.none() | st.sampled_from(["RESERVED", "EXECUTED", "EXPIRED"]),
        "identifier": st.none() | IDENTIFIERS,
        "amount": st.none() | AMOUNTS,
        "limit": st.integers(1, 7),
    }
)


def expected(quotes: list[Stored], chosen: Mapping[str, object]) -> list[UUID]:
    """Return the uuids that a list has, by the rules of wire.md §9."""
    found = [
        quote
        for quote in quotes
        if quote.state != "stub"
        and chosen["caller"] in {None, quote.caller}
        and (chosen["since"] is None or quote.created >= chosen["since"])
        and (chosen["until"] is None or quote.created < chosen["until"])
        and chosen["state"] in {None, quote.shown_state}
        and chosen["identifier"] in {None, quote.identifier}
        and chosen["amount"] in {None, quote.source, quote.source - quote.fee}
    ]
    return [quote.uuid for quote in sorted(found, key=lambda quote: quote.position, reverse=True)]


@pytest.fixture(params=[Repository, DistributedRepository])
async def repository(request, database_url, clock, monkeypatch):
    monkeypatch.setattr(statements, "MAX_SCANNED", MAX_SCANNED)
    async with database(database_url) as opened:
        await clock.set(NOW.isoformat())
        yield request.param(opened, TTL)


async def add(sql: asyncpg.Connection, quotes: list[Stored]) -> None:
    if quotes:
        await sql.execute(ADD, *map(list, zip(*(quote.row for quote in quotes), strict=True)))


@given(
    quotes=st.lists(STORED, max_size=25, unique_by=lambda quote: quote.uuid),
    filters=st.lists(FILTERS, min_size=1, max_size=4),
)
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_a_list_has_the_quotes_of_the_model_while_others_are_reserved(repository, sql, quotes, filters):
    for chosen in filters:
        await sql.execute("DELETE FROM quote")
        await add(sql, quotes)
        wanted = QuoteFilter(
            caller=chosen["caller"],
            since=chosen["since"] or EARLIEST,
            before=Position(chosen["until"] or LATEST, UUID(int=0)),
            state=chosen["state"],
            identifier=chosen["identifier"],
            amount=chosen["amount"],
            limit=chosen["limit"],
        )
        found: list[UUID] = []
        following = wanted
        while True:
            page = await repository.page(following)
            found += [quote.uuid for quote in page.quotes]
            assert len(page.quotes) <= wanted.limit
            if page.next is None:
                break
            assert page.next < following.before
            following = msgspec.structs.replace(following, before=position_of(page.next.cursor))
            await sql.execute(RESERVED_MEANWHILE, wanted.caller or "test", NOW)

        assert expected(quotes, chosen) == found
