"""Trading on paper: what a signal does to an account, and why it may not. Pure.

An account's funds are what its closed trades have left; each open position holds a margin of them, and what is
not held is free. All is in the account's currency, to the cent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, ROUND_UP, Context, Decimal
from typing import Final, Literal

from signal_receiver.events import Direction, Kind, Order, Signal
from signal_receiver.instruments import Catalogue
from signal_receiver.refusals import Refusal

CENT: Final = Decimal("0.01")
# twelve digits and eight of fraction, three times over: nothing is rounded before the cent
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
    """ProQuant's."""
    opened: datetime


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution; ``profit`` is None for an opening."""

    action: Literal["OPEN", "CLOSE"]
    strategy: str
    position: Position
    price: Decimal
    profit: Decimal | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """``is_final``: the same event gets this answer for good; else it is judged anew after a while."""

    refusal: Refusal | None
    is_final: bool


EXECUTED: Final = Outcome(None, is_final=True)


@dataclass(frozen=True, slots=True)
class Market:
    """The catalogue and the prices at one moment."""

    catalogue: Catalogue
    prices: Mapping[str, Price]
    at: datetime

    def price(self, ticker: str) -> Decimal | None:
        """What is traded at now; None where the market is closed or there is no fresh price.

        What has left the catalogue has no hours: its positions can be closed at the last price.
        """
        price = self.prices.get(ticker)
        if price is None:
            return None
        instrument = self.catalogue.get(ticker)
        if instrument is None:
            return price.value
        is_fresh = instrument.fresh_for is None or self.at - price.at <= instrument.fresh_for
        return price.value if is_fresh and instrument.is_open(self.at) else None


@dataclass(slots=True)
class Book:
    """One account's funds and positions, and what signals have made of them."""

    funds: Decimal
    held: Decimal
    positions: dict[str, Position | None] = field(default_factory=dict)
    """Of the strategies that signalled."""
    trades: list[Trade] = field(default_factory=list)

    @property
    def free(self) -> Decimal:
        return self.funds - self.held

    def execute(self, signal: Signal, market: Market) -> Outcome:
        """Carries a signal out, or leaves all as it is; a REOPEN may do half."""
        if signal.kind is Kind.REOPEN and self.positions.get(signal.strategy) is not None:
            return self._reopen(signal, market)
        if signal.order is None:
            return _outcome(self._close(signal.strategy, market))
        return _outcome(self._open(signal, signal.order, market))

    def _reopen(self, signal: Signal, market: Market) -> Outcome:
        assert signal.order is not None  # noqa: S101 - it was read so
        refusal = self._close(signal.strategy, market)
        if refusal is not None:
            is_known = signal.order.ticker in market.catalogue
            return _outcome(refusal if is_known else Refusal.UNSUPPORTED_INSTRUMENT)
        # it has closed, and must not close again what a later signal opens
        return Outcome(self._open(signal, signal.order, market), is_final=True)

    def _open(self, signal: Signal, order: Order, market: Market) -> Refusal | None:
        """In the order of the design's table."""
        instrument = market.catalogue.get(order.ticker)
        if instrument is None:
            return Refusal.UNSUPPORTED_INSTRUMENT
        if self.positions.get(signal.strategy) is not None:
            return Refusal.POSITION_ALREADY_EXISTS
        price = market.price(order.ticker)
        if price is None:
            return Refusal.MARKET_CLOSED
        refusal = instrument.refuses(order.quantity)
        if refusal is not None:
            return refusal
        margin = _cents(order.quantity, price, instrument.margin, rounding=ROUND_UP)
        if margin > self.free:
            return Refusal.INSUFFICIENT_FUNDS
        position = Position(
            order.direction, order.ticker, order.quantity, price, margin, signal.position, market.at
        )
        self.positions[signal.strategy] = position
        self.held += margin
        self.trades.append(Trade("OPEN", signal.strategy, position, price, None))
        return None

    def _close(self, strategy: str, market: Market) -> Refusal | None:
        """The strategy's whole position. A loss ends where the account's funds do."""
        position = self.positions.get(strategy)
        if position is None:
            return Refusal.POSITION_NOT_FOUND
        price = market.price(position.ticker)
        if price is None:
            return Refusal.MARKET_CLOSED
        gain = price - position.price if position.direction is Direction.BUY else position.price - price
        profit = max(_cents(position.quantity, gain, rounding=ROUND_HALF_EVEN), -self.funds)
        self.positions[strategy] = None
        self.held -= position.margin
        self.funds += profit
        self.trades.append(Trade("CLOSE", strategy, position, price, profit))
        return None


def _outcome(refusal: Refusal | None) -> Outcome:
    return EXECUTED if refusal is None else Outcome(refusal, is_final=False)


def _cents(*factors: Decimal, rounding: str) -> Decimal:
    product = Decimal(1)
    for factor in factors:
        product = _EXACT.multiply(product, factor)
    return product.quantize(CENT, rounding, _EXACT)
