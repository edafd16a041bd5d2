"""Reads what comes to a webhook: the newest version that is known, and in it the event (guide, "Handling Events").

A quantity is read from its text and never goes through a binary float.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, Literal, TypeVar

import msgspec

from chassis.errors import Fault, InvalidBodyError
from chassis.schemas import UNPRINTABLE

MAX_ID_CHARACTERS: Final = 128
MAX_EXPONENT: Final = Decimal("1e-999999999999999999")

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")

T = TypeVar("T")


class Kind(Enum):
    """The events that trade."""

    OPEN = "SIGNAL_OPEN"
    CLOSE = "SIGNAL_CLOSE"
    REOPEN = "SIGNAL_REOPEN"


SIGNALS: Final = {kind.value: kind for kind in Kind}
OTHER_TYPES: Final = frozenset(
    {
        "INTEGRATION_APPROVED",
        "INTEGRATION_REJECTED",
        "INTEGRATION_DELETED",
        "STRATEGY_ENABLED",
        "STRATEGY_DISABLED",
    }
)


class Direction(Enum):
    BUY = "BUY"
    SELL = "SELL"


@dataclass(frozen=True, slots=True)
class Order:
    """What an OPEN or REOPEN wants opened."""

    direction: Direction
    ticker: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Signal:
    """One strategy's wish to trade. A CLOSE has no order: it closes whatever is open."""

    kind: Kind
    timestamp: int
    strategy: str
    position: str
    order: Order | None

    def key(self, webhook_id: str | None) -> bytes:
        """What makes this the same event as another, within one account."""
        if webhook_id is not None:
            return _digest("id", webhook_id)
        return _digest("event", self.kind.value, str(self.timestamp), self.strategy, self.position)


@dataclass(frozen=True, slots=True)
class Event:
    """What was sent: ``signal`` is None where nothing is to be traded."""

    type: str
    version: str
    deprecation: str | None
    signal: Signal | None


class _Version(msgspec.Struct):
    event: msgspec.Raw
    deprecation: str | None = None


class _V1(msgspec.Struct):
    type: str
    timestamp: int | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class _V1Strategy(msgspec.Struct):
    id: str


class _V1Close(msgspec.Struct):
    strategy: _V1Strategy
    position: str = msgspec.field(name="proquantPositionId", default="")


class _V1Order(msgspec.Struct):
    direction: Literal["BUY", "SELL"]
    ticker: str
    quantity: msgspec.Raw
    strategy: _V1Strategy
    position: str = msgspec.field(name="proquantPositionId")


_ENVELOPE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERSION = msgspec.json.Decoder(_Version)
_V1_EVENT = msgspec.json.Decoder(_V1)
_V1_CLOSE = msgspec.json.Decoder(_V1Close)
_V1_ORDER = msgspec.json.Decoder(_V1Order)

Reader = Callable[[msgspec.Raw], tuple[str, Signal | None]]


def read_v1(raw: msgspec.Raw) -> tuple[str, Signal | None]:
    """Type and signal of an event in version 1. Raises InvalidBodyError."""
    head = _decoded(_V1_EVENT, raw, "v1.event")
    kind = SIGNALS.get(head.type)
    if kind is None:
        return head.type, None
    if head.timestamp is None:
        raise _fault("v1.event.timestamp", "is missing")
    order = None
    data: _V1Close | _V1Order
    if kind is Kind.CLOSE:
        data = _decoded(_V1_CLOSE, head.data, "v1.event.data")
    else:
        data = _decoded(_V1_ORDER, head.data, "v1.event.data")
        order = Order(Direction(data.direction), data.ticker, quantity_of(data.quantity))
        _check_id("v1.event.data.ticker", data.ticker)
        _check_id("v1.event.data.proquantPositionId", data.position)
    _check_id("v1.event.data.strategy.id", data.strategy.id)
    return head.type, Signal(kind, head.timestamp, data.strategy.id, data.position, order)


READERS: Final[Mapping[str, Reader]] = {"v1": read_v1}
"""The versions that are known, the oldest first."""


def read(body: bytes, readers: Mapping[str, Reader] = READERS) -> Event:
    """The event, in the newest version that is known. Raises InvalidBodyError, where none is known too."""
    offered = _decoded(_ENVELOPE, body, "body")
    known = [name for name in readers if name in offered]
    if not known:
        raise InvalidBodyError(
            "The body offers no version that is known here.",
            faults=[Fault("body", f"must hold one of {', '.join(readers)}", ", ".join(offered))],
        )
    name = known[-1]
    version = _decoded(_VERSION, offered[name], name)
    type_, signal = readers[name](version.event)
    return Event(type_, name, version.deprecation, signal)


def quantity_of(raw: msgspec.Raw) -> Decimal:
    """The number as it was written. Raises InvalidBodyError where it is none."""
    text = bytes(raw).decode()
    if not _NUMBER.match(text):
        raise _fault("v1.event.data.quantity", "must be a number", text)
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of nineteen digits or more
        return _beyond_decimal(text)


def _beyond_decimal(text: str) -> Decimal:
    """What no Decimal holds, as one that is refused for the same reason."""
    mantissa, _, exponent = text.lower().partition("e")
    if not mantissa.strip("-0."):
        return Decimal(0)
    size = MAX_EXPONENT if exponent.startswith("-") else Decimal("Infinity")
    return size.copy_sign(Decimal(-1 if text.startswith("-") else 1))


def _check_id(field: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise _fault(field, f"must be 1 to {MAX_ID_CHARACTERS} characters", value)
    if UNPRINTABLE.search(value):
        raise _fault(field, "must not hold control characters", value)


def _decoded(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, field: str) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what, _, path = str(error).partition(" - at `$")
        raise _fault(field + path.strip("`"), f"is not as it must be: {what}") from None


def _fault(field: str, message: str, value: object = None) -> InvalidBodyError:
    return InvalidBodyError(faults=[Fault(field, message, value)])


def _digest(*parts: str) -> bytes:
    """SHA-256 over the parts, each with its length before it."""
    hashed = hashlib.sha256()
    for part in parts:
        encoded = part.encode("utf-8", "surrogateescape")
        hashed.update(len(encoded).to_bytes(4) + encoded)
    return hashed.digest()
