"""Prices, trading hours and the catalogue of instruments."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from signal_receiver import instruments
from signal_receiver.instruments import CatalogueError
from support.receiver import instrument, own_schema

NEW_YORK = ZoneInfo("America/New_York")
GOLD_HOURS = '["Sun 18:00-24:00", "Mon-Thu 00:00-17:00", "Mon-Thu 18:00-24:00", "Fri 00:00-17:00"]'


def gold(**changed: str) -> instruments.Instrument:
    return instruments.parse(instrument(**changed))["XAUUSD"]


@pytest.mark.parametrize(
    ("local", "is_open"),
    [
        ("2026-11-20T16:59:59.999999", True),
        ("2026-11-20T17:00:00", False),
        ("2026-11-21T12:00:00", False),
        ("2026-11-22T17:59:59.999999", False),
        ("2026-11-22T18:00:00", True),
        ("2026-11-23T00:00:00", True),
        ("2026-11-23T17:30:00", False),
        # daylight saving time begins on 8 March and ends on 1 November
        ("2026-03-09T16:30:00", True),
        ("2026-11-02T17:30:00", False),
    ],
)
def test_trading_hours_are_in_the_instruments_time_zone(local, is_open):
    at = datetime.fromisoformat(local).replace(tzinfo=NEW_YORK).astimezone(UTC)

    assert is_open == gold(timezone='"America/New_York"', open=GOLD_HOURS).is_open(at)


def test_an_instrument_without_closing_hours_is_always_open():
    begin = datetime(2026, 11, 16, tzinfo=UTC)

    assert all(gold().is_open(begin + timedelta(minutes=15 * number)) for number in range(7 * 96))


async def test_a_closed_market_refuses_every_signal_and_keeps_the_position(start):
    """Guide: You received SIGNAL_OPEN/SIGNAL_CLOSE/SIGNAL_REOPEN, but the market is closed according to your system..."""
    await (await start()).send("OPEN")
    closed = await start(catalogue=instrument(open="[]"))
    outcomes = [
        (await closed.send(kind, 1, strategy=strategy)).outcome
        for kind, strategy in (
            ("OPEN", "silver"),
            ("CLOSE", "gold"),
            ("REOPEN", "gold"),
            ("REOPEN", "silver"),
        )
    ]

    assert [(422, "MarketClosed")] * 4 == outcomes
    assert ["OPEN"] == [trade["action"] for trade in await closed.trades()]


async def test_the_market_is_closed_until_there_is_a_price(start):
    sender = await start(catalogue=instrument(price='{source = "table"}'))
    before = await sender.send("OPEN")
    await sender.price("1999.99")
    after = await sender.send("OPEN")

    assert [(422, "MarketClosed"), (200, None)] == [before.outcome, after.outcome]
    assert "1999.99" == (await sender.account())["positions"][0]["price"]


async def test_the_market_is_closed_while_the_price_is_too_old(start, database_url):
    sender = await start(
        catalogue=instrument(price='{source = "table", first = "2000.00", fresh_seconds = 60.0}')
    )
    fresh = await sender.send("OPEN", 1)
    await age_prices(database_url)
    old = [await sender.send("OPEN", 1, strategy="silver"), await sender.send("CLOSE")]
    await sender.price("2000.00")
    renewed = await sender.send("CLOSE")

    assert [(200, None), (422, "MarketClosed"), (422, "MarketClosed"), (200, None)] == [
        answer.outcome for answer in (fresh, *old, renewed)
    ]


async def age_prices(url: str) -> None:
    connection = await own_schema(url)
    await connection.execute("UPDATE price SET at = at - interval '61 s'")
    await connection.close()


async def test_a_restart_keeps_the_price_that_was_set(start):
    await (await start()).price("2100.00")
    again = await start()
    await again.send("OPEN")

    assert "2100.00" == (await again.account())["positions"][0]["price"]


async def test_a_position_whose_instrument_has_left_the_catalogue_can_be_closed(start):
    await (await start()).send("OPEN", 1)
    without = await start(catalogue=instrument("EURUSD"))
    answers = [await without.send("OPEN", 1, strategy="silver"), await without.send("CLOSE")]

    assert [(422, "UnsupportedInstrument"), (200, None)] == [answer.outcome for answer in answers]


async def test_a_reopen_into_another_instrument_trades_each_at_its_price(receiver):
    await receiver.send("OPEN", 10)
    await receiver.price("2010.00")
    answer = await receiver.send("REOPEN", 100, ticker="EURUSD", direction="SELL")
    (position,) = (await receiver.account())["positions"]

    assert (200, None) == answer.outcome
    assert ("EURUSD", "1.10") == (position["ticker"], position["price"])
    assert Decimal("10100.00") == await receiver.funds()


REFUSED = {
    "least": ('"0"', "least must be above 0"),
    "most": ('"1e13"', "most must be"),
    "step": ('"0.000000001"', "step must be"),
    "margin_percent": ('"101"', "margin_percent must be"),
    "price": ('{source = "fax"}', "price.source"),
    "timezone": ('"Mars/Olympus"', "timezone 'Mars/Olympus' is not known"),
    "open": ('["Mon-Fri 9-17"]', "is not like"),
    "ticker": ('"XAU/USD"', "ticker must be"),
    "comment": ('"?"', "comment"),
}


@pytest.mark.parametrize(("field", "text", "message"), [(name, *each) for name, each in REFUSED.items()])
def test_an_invalid_catalogue_is_refused_with_line_and_fault(field, text, message):
    with pytest.raises(CatalogueError, match=r"^line 12: .*" + re.escape(message)):
        instruments.parse("# a comment\n" + instrument("EURUSD") + "\n" + instrument(**{field: text}))


@pytest.mark.parametrize("text", ['"NaN"', '"Infinity"', '"-1"'])
@pytest.mark.parametrize("field", ["least", "most", "step", "margin_percent"])
def test_limits_are_numbers_above_zero(field, text):
    with pytest.raises(CatalogueError, match=field):
        instruments.parse(instrument(**{field: text}))


@pytest.mark.parametrize(
    "hours",
    [
        "Fri-Mon 00:00-24:00",
        "Mon 10:00-09:00",
        "Mon 10:00-10:00",
        "Mon 24:00-24:00",
        "Mon 10:61-12:00",
        "Mo 09:00-10:00",
    ],
)
def test_trading_hours_that_are_empty_or_malformed_are_refused(hours):
    with pytest.raises(CatalogueError, match="XAUUSD"):
        instruments.parse(instrument(open=f'["{hours}"]'))


def test_an_instrument_occurs_once():
    with pytest.raises(CatalogueError, match="XAUUSD: the catalogue has this ticker twice"):
        instruments.parse(instrument() * 2)


def test_a_byte_order_mark_in_the_instruments_file_is_ignored(tmp_path):
    file = tmp_path / "instruments.toml"
    file.write_text(instrument(), encoding="utf-8-sig")

    assert ["XAUUSD"] == list(instruments.read(file))


def test_an_invalid_instruments_file_is_refused_with_its_name_and_the_line(tmp_path):
    file = tmp_path / "instruments.toml"
    for content, message in (
        (instrument().encode() + b"\nopen = \xff", "line 11: is not UTF-8"),
        (instrument().encode() + b"\n= 1", "at line 11, column 1"),
        (instrument(timezone='"UTC "').encode(), "line 1: XAUUSD: timezone 'UTC ' is not known"),
        (instrument(ticker='"XAUUSD\u200b"').encode(), "ticker must be"),
        (b"", "must hold [[instrument]] tables and nothing else"),
        (instrument().encode() + b"\n[other]", "must hold [[instrument]] tables and nothing else"),
    ):
        file.write_bytes(content)

        with pytest.raises(ValueError, match=rf"instruments\.toml.*{re.escape(message)}"):
            instruments.read(file)
