"""The content of a leaf that SQL writes is, byte for byte, the one that Python writes."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import orjson
import pytest

from chassis.schemas import UNPRINTABLE
from dfsp_api.audit import outbox, repository
from dfsp_api.audit.merkle import leaf_hash
from dfsp_api.repository import COLUMNS, quotes_by_uuid
from dfsp_api.stored_quote import OPERATIONS, QuoteEvent
from quoting.schemas import PARAMETERS
from support.audit_entry import entry_of, events_of
from support.payee import database

QUOTES = 2_000
COLUMN_NAMES = [each.strip() for each in COLUMNS.split(",")]
ODD = "\"\\/\b\f\n\r\t\x01\x1f\x7f\x80\u2028\u2029\ufffd\uffff\U0001f600é'{}[]:,%_$ uabc"
# what breaks a session's way of writing values
SETTINGS = (
    "SET TimeZone = 'Asia/Kolkata'",
    "SET DateStyle = 'German'",
    "SET IntervalStyle = 'sql_standard'",
    "SET bytea_output = 'escape'",
    "SET extra_float_digits = 0",
    "SET lc_numeric = 'C'",
    "SET standard_conforming_strings = off",
    "SET quote_all_identifiers = on",
)


def text(chance, limit=20):
    return "".join(chance.choices(ODD, k=chance.randrange(limit)))


def request_text(chance):
    """Return a request as this version or an earlier one has stored it."""
    names = chance.choice([PARAMETERS, sorted(PARAMETERS), chance.sample(PARAMETERS, 7)])
    if names[0] == "account":  # only the canonical order begins with it
        names = sorted(names)
    found = {name: text(chance) for name in names}
    if names != sorted(names):  # no request has control characters, which are written as \u
        found = {name: UNPRINTABLE.sub("", value) for name, value in found.items()}
    return orjson.dumps(found).decode()


def amount(chance):
    digits, places = chance.randrange(1, 40), chance.choice([0, 1, 2, 3, 8, 30])
    return Decimal((0, tuple(chance.choices(range(10), k=digits)), -places)) + Decimal((0, (1,), -places))


def moment(chance):
    whole = datetime(chance.choice([1, 999, 2026, 9999]), 1, 1, tzinfo=UTC)
    return whole + timedelta(days=chance.randrange(300), microseconds=chance.choice([0, 1, 99_000, 999_999]))


def row(chance):
    created, expires = sorted([moment(chance), moment(chance) + timedelta(minutes=1)])
    destination, fee = amount(chance), amount(chance)
    is_stub = chance.random() < 0.1
    later = created if created < expires else None
    executed = later if not is_stub and chance.random() < 0.3 else None
    return (
        UUID(int=chance.getrandbits(128)),
        text(chance),
        chance.choice([*OPERATIONS.values(), text(chance)]),
        chance.randbytes(chance.choice([0, 32])),
        None if is_stub else request_text(chance),
        None if is_stub else destination + fee,
        None if is_stub else destination,
        created,
        expires,
        executed,
        later if executed is None and chance.random() < 0.3 else None,
        chance.choice([None, chance.randrange(-(2**63), 2**63), 0]),
        chance.choice([None, 1, 2**62]),
    )


@pytest.fixture
async def opened(database_url):
    async with database(database_url, 2) as opened:
        yield opened


@pytest.fixture
async def connection(database_url, opened):
    """A connection whose settings are not those of the payee."""
    made = await asyncpg.connect(database_url)
    for setting in SETTINGS:
        await made.execute(setting)
    yield made
    await made.close()


@pytest.fixture
async def stored(sql, opened):
    """Thousands of random quotes, by uuid."""
    chance = random.Random(18)
    rows = [row(chance) for _ in range(QUOTES)]
    await sql.copy_records_to_table("quote", records=rows, columns=COLUMN_NAMES)
    return quotes_by_uuid(await sql.fetch(f"SELECT {COLUMNS}, false FROM quote"))


async def test_the_content_of_each_event_is_the_one_of_the_reference(stored, connection):
    keys = [(uuid, event) for uuid in stored for event in QuoteEvent]
    contents = await repository.contents_of(connection, keys)

    assert len(contents) == 3 * QUOTES
    for (uuid, event), content in contents.items():
        assert entry_of(stored[uuid], event) == content


@pytest.mark.parametrize("kind", outbox.TAKE_EVENTS)
async def test_each_leaf_has_the_content_of_the_reference_and_its_hash(kind, stored, connection, sql):
    rows = [(quote.uuid, event, quote.created) for quote in stored.values() for event in events_of(quote)]
    await sql.copy_records_to_table("audit_pending", records=rows)
    hashes = b""
    async with connection.transaction():
        while (taken := await outbox.TAKE_EVENTS[kind](connection, len(hashes) // 32)).events:
            hashes += taken.hashes
    leaves = await sql.fetch("SELECT uuid, event, position, content FROM audit_leaf ORDER BY position")

    assert [*range(len(rows))] == [leaf["position"] for leaf in leaves]
    assert hashes == b"".join(leaf_hash(leaf["content"].encode()) for leaf in leaves)
    for leaf in leaves:
        assert entry_of(stored[leaf["uuid"]], QuoteEvent(leaf["event"])) == leaf["content"]


async def test_an_unchanged_row_is_the_same_in_an_export(stored, connection, sql):
    rows = [(quote.uuid, event, quote.created) for quote in stored.values() for event in events_of(quote)]
    await sql.copy_records_to_table("audit_pending", records=rows)
    async with connection.transaction():
        await outbox.take_events_in_steps(connection, 0)
    exported = await connection.fetch(repository.LEAVES, 0, outbox.MAX_LEAVES_IN_STEPS)

    assert outbox.MAX_LEAVES_IN_STEPS == len(exported)
    assert all(leaf["content"] == leaf["now"] for leaf in exported)
