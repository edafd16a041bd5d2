"""Read the catalogue of instruments from a TOML file: limits, margin and trading hours."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from pathlib import Path
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from chassis.text_file import read_text
from signal_receiver.event_errors import EventError
from signal_receiver.toml_tables import read_tables

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAX_FRACTION_DIGITS: Final = 8
MAX_QUANTITY: Final = Decimal(10) ** 12

# precise enough for all digits that fit into a body, whatever the exponent: no remainder is rounded
_EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
_SESSION = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d:\d\d)-(\d\d:\d\d)\Z", re.ASCII)
_TICKER = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")
_END_OF_DAY = "24:00"


class CatalogueError(ValueError):
    """The catalogue is not valid. The message names the line, the instrument and the fault."""


@dataclass(frozen=True, slots=True)
class TradingSession:
    """Trading hours on some days of the week. ``until`` is None if they last to the end of the day."""

    days: frozenset[int]
    since: time
    until: time | None

    def contains(self, local: datetime) -> bool:
        if local.weekday() not in self.days or local.time() < self.since:
            return False
        return self.until is None or local.time() < self.until


@dataclass(frozen=True, slots=True)
class Instrument:
    """One instrument of the catalogue. ``margin`` is a share of a position's value, between 0 and 1."""

    ticker: str
    min_quantity: Decimal
    max_quantity: Decimal
    step: Decimal
    margin: Decimal
    zone: ZoneInfo
    sessions: tuple[TradingSession, ...]
    first_price: Decimal | None
    max_price_age: timedelta | None
    """None if a price of any age is current."""

    def is_open(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        return any(session.contains(local) for session in self.sessions)

    def quantity_error(self, quantity: Decimal) -> EventError | None:
        """Return the error of a quantity, or None.

        Checks the maximum before the step, because for 1e400 the check of the step would be slow.
        """
        if quantity <= 0:
            return EventError.QUANTITY_TOO_LOW
        if quantity > self.max_quantity:
            return EventError.QUANTITY_TOO_HIGH
        if _EXACT.remainder(quantity, self.step):
            return EventError.INVALID_QUANTITY_PRECISION
        return EventError.QUANTITY_TOO_LOW if quantity < self.min_quantity else None


Catalogue = Mapping[str, Instrument]


class PriceEntry(msgspec.Struct, forbid_unknown_fields=True):
    source: Literal["table"]
    first: Decimal | None = None
    fresh_seconds: float | None = None


class InstrumentEntry(msgspec.Struct, forbid_unknown_fields=True):
    ticker: str
    least: Decimal
    most: Decimal
    step: Decimal
    margin_percent: Decimal
    price: PriceEntry
    timezone: str
    open: list[str]


class InstrumentsFile:
    """The catalogue in force."""

    def __init__(self, path: Path) -> None:
        """Raises ValueError that names the file and the line at fault."""
        self.path = path
        self.catalogue = read(path)


def read(path: Path) -> Catalogue:
    """Return the catalogue in a TOML file. Raises ValueError, which names the file and the line at fault."""
    text = read_text(path)
    try:
        return parse(text)
    except CatalogueError as error:
        raise CatalogueError(f"{path}, {error}") from None


def parse(text: str) -> Catalogue:
    """Return the catalogue in the text of a TOML file. Raises CatalogueError."""
    try:
        tables = read_tables(text, "instrument", InstrumentEntry)
    except ValueError as error:
        raise CatalogueError(str(error)) from None
    catalogue: dict[str, Instrument] = {}
    for place, entry in tables:
        if entry.ticker in catalogue:
            raise CatalogueError(f"{place}: {entry.ticker}: the catalogue has this ticker twice")
        try:
            catalogue[entry.ticker] = _instrument(entry)
        except ValueError as error:
            raise CatalogueError(f"{place}: {entry.ticker}: {error}") from None
    return catalogue


def _instrument(entry: InstrumentEntry) -> Instrument:
    if not _TICKER.match(entry.ticker):
        raise ValueError("ticker must be 1 to 32 of letters, digits, '.', '_' and '-'")
    for name in ("least", "most", "step"):
        _check_amount(name, getattr(entry, name))
    if not entry.step <= entry.most or not entry.least <= entry.most:
        raise ValueError("least and step must not be above most")
    if not entry.margin_percent.is_finite() or not 0 < entry.margin_percent <= 100:  # noqa: PLR2004
        raise ValueError("margin_percent must be above 0 and at most 100")
    if entry.price.first is not None:
        _check_amount("price.first", entry.price.first)
    fresh = entry.price.fresh_seconds
    if fresh is not None and not 0 < fresh <= timedelta.max.total_seconds() / 2:
        raise ValueError("price.fresh_seconds must be above 0")
    return Instrument(
        ticker=entry.ticker,
        min_quantity=entry.least,
        max_quantity=entry.most,
        step=entry.step,
        margin=entry.margin_percent / 100,
        zone=_zone(entry.timezone),
        sessions=tuple(_session(text) for text in entry.open),
        first_price=entry.price.first,
        max_price_age=None if fresh is None else timedelta(seconds=fresh),
    )


def _check_amount(name: str, value: Decimal) -> None:
    """Raise ValueError if an amount is outside the bounds within which all calculations are exact."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 < value <= MAX_QUANTITY or exponent < -MAX_FRACTION_DIGITS:
        raise ValueError(
            f"{name} must be above 0, at most {MAX_QUANTITY:f}, with at most {MAX_FRACTION_DIGITS} fraction digits"
        )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError):  # the name of a folder of zones raises OSError
        raise ValueError(f"timezone {name!r} is not known") from None


def _session(text: str) -> TradingSession:
    """Return the trading hours in a text such as ``Mon-Fri 09:00-17:30``. Raises ValueError.

    Hours that go past midnight need two texts.
    """
    match = _SESSION.match(text)
    if match is None or {match[1], match[2] or match[1]} - set(DAYS):
        raise ValueError(f"open: {text!r} is not like 'Mon-Fri 09:00-17:30'")
    first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
    if last < first:
        raise ValueError(f"open: {text!r} ends before it begins")
    since = time.fromisoformat(match[3])
    until = None if match[4] == _END_OF_DAY else time.fromisoformat(match[4])
    if until is not None and until <= since:
        raise ValueError(f"open: {text!r} ends before it begins")
    return TradingSession(frozenset(range(first, last + 1)), since, until)
