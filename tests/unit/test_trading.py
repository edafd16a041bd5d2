"""How signals change an account's book, without a receiver."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from signal_receiver import instruments
from signal_receiver.event_errors import EventError
from signal_receiver.events import Direction, Order, SignalType, TradeSignal
from signal_receiver.trading import Book, Market, Price
from support.receiver import instrument

AT = datetime(2026, 11, 27, 12, tzinfo=UTC)
MARKET = Market(instruments.parse(instrument()), {"XAUUSD": Price(Decimal(2000), AT)}, AT)
ORDER = Order(Direction.BUY, "XAUUSD", Decimal(1))


def execute(book, type_, position, timestamp):
    order = None if type_ is SignalType.CLOSE else ORDER
    return book.execute(TradeSignal(type_, timestamp, "gold", position, order), MARKET).error


@pytest.fixture
def book():
    return Book(Decimal(10_000), Decimal(0))


def test_a_close_of_a_position_that_the_same_batch_has_closed_is_stale(book):
    execute(book, SignalType.OPEN, "p1", 1)
    execute(book, SignalType.CLOSE, "p1", 2)
    execute(book, SignalType.OPEN, "p2", 3)

    assert EventError.POSITION_NOT_FOUND is execute(book, SignalType.CLOSE, "p1", 4)
    assert "p2" == book.positions["gold"].id
    assert execute(book, SignalType.CLOSE, "p2", 5) is None


def test_a_close_of_a_position_that_a_reopen_has_closed_is_stale(book):
    execute(book, SignalType.OPEN, "p1", 1)
    execute(book, SignalType.REOPEN, "p2", 2)

    assert EventError.POSITION_NOT_FOUND is execute(book, SignalType.CLOSE, "p1", 3)
    assert "p2" == book.positions["gold"].id


@pytest.mark.parametrize(
    ("position", "timestamp", "error"),
    [
        ("p2", 1, None),  # the open one, however old the CLOSE is
        ("", 1, None),
        ("unknown", 9, EventError.POSITION_NOT_FOUND),
        ("unknown", 10, None),
        ("unknown", 11, None),
    ],
)
def test_a_close_of_an_unknown_position_closes_the_open_one_unless_it_is_older(
    book, position, timestamp, error
):
    execute(book, SignalType.OPEN, "p2", 10)

    assert error is execute(book, SignalType.CLOSE, position, timestamp)
