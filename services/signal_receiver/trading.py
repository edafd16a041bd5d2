"""Paper trading: how a signal changes an account, and when it is rejected. Pure: no I/O.

An account's funds are its first funds plus the profits of its closed trades. Each open position holds a part of the
funds as its margin; the rest is free. All amounts are in the account's currency, rounded to the cent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from typing import Final, Literal

from signal_receiver.event_errors import EventError
from signal_receiver.events import Direction, Order, SignalType, TradeSignal
from signal_receiver.instruments import Catalogue

CENT: Final = Decimal("0.01")
# three factors of twelve digits and eight fraction digits: exact until the result is rounded to the cent
_EXACT = Context(prec=80)


@dataclass(frozen=True, slots=True)
class Price:
    value: Decimal
    at: datetime


@dataclass(frozen=True, slots=True)
class Position:
    """One strategy's open position."""

    direction: Direction
    ticker: str
    quantity: Decimal
    price: Decimal
    margin: Decimal
    id: str
    """The provider's ``proquantPositionId``."""
    opened: datetime
    signalled: int | None
    """The timestamp of the signal that opened the position; None for positions from before this field existed."""


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution of a trade. ``profit`` is None if it opened a position."""

    action: Literal["OPEN", "CLOSE"]
    strategy: str
    position: Position
    price: Decimal
    profit: Decimal | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an event.

    If ``is_final``, the event gets the same result when it comes again; otherwise it is executed anew.
    """

    error: EventError | None
    is_final: bool


EXECUTED: Final = Outcome(None, is_final=True)


@dataclass(frozen=True, slots=True)
class Market:
    """The catalogue of instruments and the prices at one time."""

    catalogue: Catalogue
    prices: Mapping[str, Price]
    at: datetime

    def price(self, ticker: str) -> Decimal | None:
        """Return an instrument's current price; None if the market is closed or the price is too old.

        If the instrument is no longer in the catalogue, return its last price at any time, so that positions can be
        closed.
        """
        price = self.prices.get(ticker)
        if price is None:
            return None
        instrument = self.catalogue.get(ticker)
        if instrument is None:
            return price.value
        is_current = instrument.max_price_age is None or self.at - price.at <= instrument.max_price_age
        return price.value if is_current and instrument.is_open(self.at) else None


@dataclass(slots=True)
class Book:
    """One account's funds and positions, and the trades that executed signals have added."""

    funds: Decimal
    held: Decimal
    positions: dict[str, Position | None] = field(default_factory=dict)
    """The open position of each strategy that has signals in the batch; None if it has no open position."""
    trades: list[Trade] = field(default_factory=list)
    closed: set[tuple[str, str]] = field(default_factory=set)
    """Strategy and position id of closed positions. Has only positions that the batch's signals name or close."""

    @property
    def free(self) -> Decimal:
        return self.funds - self.held

    def execute(self, signal: TradeSignal, market: Market) -> Outcome:
        """Execute a signal.

        A rejected signal changes nothing, with one exception: a REOPEN may close its old position and then fail to
        open.
        """
        if signal.type is SignalType.REOPEN and self.positions.get(signal.strategy) is not None:
            return self._reopen(signal, market)
        if signal.order is None:
            is_stale = self._is_stale(signal)
            return _outcome(
                EventError.POSITION_NOT_FOUND if is_stale else self._close(signal.strategy, market)
            )
        return _outcome(self._open(signal, signal.order, market))

    def _is_stale(self, signal: TradeSignal) -> bool:
        """Whether a CLOSE belongs to an earlier position than the open one, so that it must not close the open one.

        The earlier position is closed already, or the CLOSE is older than the signal that opened the present one. If
        the CLOSE names an unknown position, it closes the open one: the signal for the unknown one was lost or
        rejected, and no position may stay open because of that.
        """
        position = self.positions.get(signal.strategy)
        if position is None or signal.position in {"", position.id}:
            return False
        is_older = position.signalled is not None and signal.timestamp < position.signalled
        return is_older or (signal.strategy, signal.position) in self.closed

    def _reopen(self, signal: TradeSignal, market: Market) -> Outcome:
        assert signal.order is not None  # noqa: S101 - the reader gives each REOPEN an order
        error = self._close(signal.strategy, market)
        if error is not None:
            is_known = signal.order.ticker in market.catalogue
            return _outcome(error if is_known else EventError.UNSUPPORTED_INSTRUMENT)
        # final, because the old position is closed: executed again, it would close a later signal's position
        return Outcome(self._open(signal, signal.order, market), is_final=True)

    def _open(self, signal: TradeSignal, order: Order, market: Market) -> EventError | None:
        """Open a position. Return None, or the first error in the order of the table in docs/signal-receiver.md."""
        instrument = market.catalogue.get(order.ticker)
        if instrument is None:
            return EventError.UNSUPPORTED_INSTRUMENT
        if self.positions.get(signal.strategy) is not None:
            return EventError.POSITION_ALREADY_EXISTS
        price = market.price(order.ticker)
        if price is None:
            return EventError.MARKET_CLOSED
        error = instrument.quantity_error(order.quantity)
        if error is not None:
            return error
        margin = _cents(order.quantity, price, instrument.margin, rounding=ROUND_UP)
        if margin > self.free:
            return EventError.INSUFFICIENT_FUNDS
        position = Position(
            order.direction,
            order.ticker,
            order.quantity,
            price,
            margin,
            signal.position,
            market.at,
            signal.timestamp,
        )
        self.positions[signal.strategy] = position
        self.held += margin
        self.trades.append(Trade("OPEN", signal.strategy, position, price, None))
        return None

    def _close(self, strategy: str, market: Market) -> EventError | None:
        """Close the strategy's whole position. Return None or an error. A loss cannot exceed the account's funds."""
        position = self.positions.get(strategy)
        if position is None:
            return EventError.POSITION_NOT_FOUND
        price = market.price(position.ticker)
        if price is None:
            return EventError.MARKET_CLOSED
        gain = price - position.price if position.direction is Direction.BUY else position.price - price
        profit = max(_cents(position.quantity, gain, rounding=ROUND_HALF_EVEN), -self.funds)
        self.positions[strategy] = None
        self.closed.add((strategy, position.id))
        self.held -= position.margin
        self.funds += profit
        self.trades.append(Trade("CLOSE", strategy, position, price, profit))
        return None


def _outcome(error: EventError | None) -> Outcome:
    return EXECUTED if error is None else Outcome(error, is_final=False)


def _cents(*factors: Decimal, rounding: str) -> Decimal:
    product = Decimal(1)
    for factor in factors:
        product = _EXACT.multiply(product, factor)
    return product.quantize(CENT, rounding, _EXACT)
