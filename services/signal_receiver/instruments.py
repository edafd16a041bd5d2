"""What can be traded: bounds, margin and trading hours of each instrument, from a TOML file. Pure."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from signal_receiver.refusals import Refusal

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MAX_FRACTION_DIGITS: Final = 8
MAX_QUANTITY: Final = Decimal(10) ** 12

# a body's every digit fits, whatever its exponent: no remainder is rounded
_EXACT = Context(prec=100_000, Emax=MAX_EMAX, Emin=MIN_EMIN)
_SESSION = re.compile(r"(\w{3})(?:-(\w{3}))? (\d\d:\d\d)-(\d\d:\d\d)\Z", re.ASCII)
_TICKER = re.compile(r"[A-Za-z0-9._-]{1,32}\Z")
_MIDNIGHT_AFTER = "24:00"


class CatalogueError(ValueError):
    """The catalogue cannot be used; the message names the instrument and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Session:
    """Hours on some days of the week; ``until`` None is the end of the day."""

    days: frozenset[int]
    since: time
    until: time | None

    def has(self, local: datetime) -> bool:
        if local.weekday() not in self.days or local.time() < self.since:
            return False
        return self.until is None or local.time() < self.until


@dataclass(frozen=True, slots=True)
class Instrument:
    """One line of the catalogue. ``margin`` is a share of the position's worth."""

    ticker: str
    least: Decimal
    most: Decimal
    step: Decimal
    margin: Decimal
    zone: ZoneInfo
    sessions: tuple[Session, ...]
    first_price: Decimal | None
    fresh_for: timedelta | None
    """How old a price may be; None for any age."""

    def is_open(self, at: datetime) -> bool:
        local = at.astimezone(self.zone)
        return any(session.has(local) for session in self.sessions)

    def refuses(self, quantity: Decimal) -> Refusal | None:
        """Too high comes before the remainder, which of 1e400 would be no small work."""
        if quantity <= 0:
            return Refusal.QUANTITY_TOO_LOW
        if quantity > self.most:
            return Refusal.QUANTITY_TOO_HIGH
        if _EXACT.remainder(quantity, self.step):
            return Refusal.INVALID_QUANTITY_PRECISION
        return Refusal.QUANTITY_TOO_LOW if quantity < self.least else None


Catalogue = Mapping[str, Instrument]


class _Price(msgspec.Struct, forbid_unknown_fields=True):
    source: Literal["table"]
    first: Decimal | None = None
    fresh_seconds: float | None = None


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    ticker: str
    least: Decimal
    most: Decimal
    step: Decimal
    margin_percent: Decimal
    price: _Price
    timezone: str
    open: list[str]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    instrument: list[_Row]


def parse(text: str) -> Catalogue:
    """The catalogue in a TOML file's text. Raises CatalogueError."""
    try:
        rows = msgspec.convert(tomllib.loads(text, parse_float=Decimal), _File).instrument
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise CatalogueError(str(error)) from None
    catalogue: dict[str, Instrument] = {}
    for row in rows:
        if row.ticker in catalogue:
            raise CatalogueError(f"{row.ticker}: is there twice")
        try:
            catalogue[row.ticker] = _instrument(row)
        except ValueError as error:
            raise CatalogueError(f"{row.ticker}: {error}") from None
    return catalogue


def _instrument(row: _Row) -> Instrument:
    if not _TICKER.match(row.ticker):
        raise ValueError("ticker must be 1 to 32 of letters, digits, '.', '_' and '-'")
    for name in ("least", "most", "step"):
        _check_amount(name, getattr(row, name))
    if not row.step <= row.most or not row.least <= row.most:
        raise ValueError("least and step must not be above most")
    if not row.margin_percent.is_finite() or not 0 < row.margin_percent <= 100:  # noqa: PLR2004
        raise ValueError("margin_percent must be above 0 and at most 100")
    if row.price.first is not None:
        _check_amount("price.first", row.price.first)
    fresh = row.price.fresh_seconds
    if fresh is not None and not 0 < fresh <= timedelta.max.total_seconds() / 2:
        raise ValueError("price.fresh_seconds must be above 0")
    return Instrument(
        ticker=row.ticker,
        least=row.least,
        most=row.most,
        step=row.step,
        margin=row.margin_percent / 100,
        zone=_zone(row.timezone),
        sessions=tuple(_session(text) for text in row.open),
        first_price=row.price.first,
        fresh_for=None if fresh is None else timedelta(seconds=fresh),
    )


def _check_amount(name: str, value: Decimal) -> None:
    """Bounds within which all that is reckoned with it is exact."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 < value <= MAX_QUANTITY or exponent < -MAX_FRACTION_DIGITS:
        raise ValueError(
            f"{name} must be above 0, at most {MAX_QUANTITY:f}, with at most {MAX_FRACTION_DIGITS} fraction digits"
        )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, OSError):  # a folder's name is an OSError
        raise ValueError(f"timezone {name!r} is not known") from None


def _session(text: str) -> Session:
    """``Mon-Fri 09:00-17:30``: past midnight it takes two. Raises ValueError."""
    match = _SESSION.match(text)
    if match is None or {match[1], match[2] or match[1]} - set(DAYS):
        raise ValueError(f"open: {text!r} is not like 'Mon-Fri 09:00-17:30'")
    first, last = DAYS.index(match[1]), DAYS.index(match[2] or match[1])
    if last < first:
        raise ValueError(f"open: {text!r} ends before it begins")
    since = time.fromisoformat(match[3])
    until = None if match[4] == _MIDNIGHT_AFTER else time.fromisoformat(match[4])
    if until is not None and until <= since:
        raise ValueError(f"open: {text!r} ends before it begins")
    return Session(frozenset(range(first, last + 1)), since, until)
