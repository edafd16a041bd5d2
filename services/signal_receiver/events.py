"""Read a webhook's body: find the newest version that this service knows, and read its event (guide, Handling Events).

A quantity is read from its text and never goes through a binary float.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from chassis.errors import Fault, InvalidBodyError
from chassis.json_object import require_unique_keys
from chassis.schemas import UNPRINTABLE

MAX_ID_CHARACTERS: Final = 128
MAX_TIMESTAMP: Final = 2**53
MIN_MAGNITUDE: Final = Decimal("1e-999999999999999999")

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?\Z")

T = TypeVar("T")


class SignalType(Enum):
    """The event types that trade."""

    OPEN = "SIGNAL_OPEN"
    CLOSE = "SIGNAL_CLOSE"
    REOPEN = "SIGNAL_REOPEN"


SIGNAL_TYPES: Final = {type_.value: type_ for type_ in SignalType}
LIFECYCLE_TYPES: Final = frozenset(
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
    """The position that a SIGNAL_OPEN or SIGNAL_REOPEN opens."""

    direction: Direction
    ticker: str
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class TradeSignal:
    """A signal event. A CLOSE has no ``order``, because it closes the strategy's whole position."""

    type: SignalType
    timestamp: int
    """Time at which the provider created the event, in milliseconds since 1970."""
    strategy: str
    position: str
    """The provider's id of the position; empty if a CLOSE does not name one."""
    order: Order | None

    def key(self, webhook_id: str | None) -> bytes:
        """Return the key of the event in the inbox. Within one account, events with the same key count as one event.

        The webhook-id alone is not enough: a CLOSE with the same webhook-id as an OPEN is another event.
        """
        parts = webhook_id, self.type.value, self.timestamp, self.strategy, self.position
        return hashlib.sha256(ascii(parts).encode()).digest()


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """The event in a webhook's body. ``signal`` is None if the event is not a signal."""

    type: str
    version: str
    deprecation: str | None
    signal: TradeSignal | None


class VersionedEvent(msgspec.Struct):
    event: msgspec.Raw
    deprecation: str | None = None


class EventV1(msgspec.Struct):
    type: str
    timestamp: Annotated[int, msgspec.Meta(ge=-MAX_TIMESTAMP, le=MAX_TIMESTAMP)] | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")


class StrategyV1(msgspec.Struct):
    id: str


class CloseDataV1(msgspec.Struct):
    strategy: StrategyV1
    position: str | None = msgspec.field(name="proquantPositionId", default=None)


class OrderDataV1(msgspec.Struct):
    direction: Literal["BUY", "SELL"]
    ticker: str
    quantity: msgspec.Raw
    strategy: StrategyV1
    position: str = msgspec.field(name="proquantPositionId")


_ENVELOPE = msgspec.json.Decoder(dict[str, msgspec.Raw])
_VERSION = msgspec.json.Decoder(VersionedEvent)
_EVENT_V1 = msgspec.json.Decoder(EventV1)
_CLOSE_V1 = msgspec.json.Decoder(CloseDataV1)
_ORDER_V1 = msgspec.json.Decoder(OrderDataV1)

Reader = Callable[[msgspec.Raw], tuple[str, TradeSignal | None]]


def read_v1(raw: msgspec.Raw) -> tuple[str, TradeSignal | None]:
    """Return the type of an event in version 1, and its signal if it has one. Raises InvalidBodyError."""
    head = _decode(_EVENT_V1, raw, "v1.event")
    type_ = SIGNAL_TYPES.get(head.type)
    if type_ is None:
        return head.type, None
    if head.timestamp is None:
        raise _fault("v1.event.timestamp", "is missing")
    order = None
    data: CloseDataV1 | OrderDataV1
    if type_ is SignalType.CLOSE:
        data = _decode(_CLOSE_V1, head.data, "v1.event.data")
    else:
        data = _decode(_ORDER_V1, head.data, "v1.event.data")
        order = Order(Direction(data.direction), data.ticker, read_quantity(data.quantity))
        _check_id("v1.event.data.ticker", data.ticker)
        _check_id("v1.event.data.proquantPositionId", data.position)
    _check_id("v1.event.data.strategy.id", data.strategy.id)
    return head.type, TradeSignal(type_, head.timestamp, data.strategy.id, data.position or "", order)


READERS: Final[Mapping[str, Reader]] = {"v1": read_v1}
"""The known versions, oldest first."""


def read(body: bytes, readers: Mapping[str, Reader] = READERS) -> WebhookEvent:
    """Return the event from the newest version that this service knows.

    Raises InvalidBodyError if the body is malformed or has no known version.
    """
    offered = _decode(_ENVELOPE, body, "body")
    known = [name for name in readers if name in offered]
    if not known:
        raise InvalidBodyError(
            "The body contains no version that this service knows.",
            faults=[Fault("body", f"must contain one of {', '.join(readers)}", ", ".join(offered))],
        )
    name = known[-1]
    version = _decode(_VERSION, offered[name], name)
    type_, signal = readers[name](version.event)
    require_unique_keys(body)
    return WebhookEvent(type_, name, version.deprecation, signal)


def read_quantity(raw: msgspec.Raw) -> Decimal:
    """Return a quantity with exactly the digits of the JSON text.

    Raises InvalidBodyError if it is not a JSON number.
    """
    text = bytes(raw).decode()
    if not _NUMBER.match(text):
        raise _fault("v1.event.data.quantity", "must be a number", text)
    try:
        return Decimal(text)
    except InvalidOperation:  # an exponent of nineteen digits or more
        return _out_of_decimal_range(text)


def _out_of_decimal_range(text: str) -> Decimal:
    """Return a Decimal in place of a number whose exponent Decimal cannot represent.

    The later checks reject it for the same reason as they would reject the number itself.
    """
    mantissa, _, exponent = text.lower().partition("e")
    if not mantissa.strip("-0."):
        return Decimal(0)
    size = MIN_MAGNITUDE if exponent.startswith("-") else Decimal("Infinity")
    return size.copy_sign(Decimal(-1 if text.startswith("-") else 1))


def _check_id(field: str, value: str) -> None:
    if not 1 <= len(value) <= MAX_ID_CHARACTERS:
        raise _fault(field, f"must be 1 to {MAX_ID_CHARACTERS} characters", value)
    if UNPRINTABLE.search(value):
        raise _fault(field, "must not contain control characters", value)


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, field: str) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        message, _, path = str(error).partition(" - at `$")
        raise _fault(field + path.strip("`"), f"is invalid: {message}") from None


def _fault(field: str, message: str, value: object = None) -> InvalidBodyError:
    return InvalidBodyError(faults=[Fault(field, message, value)])
