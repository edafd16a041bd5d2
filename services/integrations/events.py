"""Events in their canonical form, how long they live, and how each version of the guide renders them. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from integrations.timestamps import iso

HOURS: Final = 3_600.0
CLOSE_EVERY_SECONDS: Final = 60.0

_encode: Final = msgspec.json.Encoder().encode


class EventType(StrEnum):
    """The guide's eight event types."""

    INTEGRATION_APPROVED = "INTEGRATION_APPROVED"
    INTEGRATION_REJECTED = "INTEGRATION_REJECTED"
    INTEGRATION_DELETED = "INTEGRATION_DELETED"
    STRATEGY_ENABLED = "STRATEGY_ENABLED"
    STRATEGY_DISABLED = "STRATEGY_DISABLED"
    SIGNAL_OPEN = "SIGNAL_OPEN"
    SIGNAL_CLOSE = "SIGNAL_CLOSE"
    SIGNAL_REOPEN = "SIGNAL_REOPEN"


OPENING: Final = (EventType.SIGNAL_OPEN, EventType.SIGNAL_REOPEN)
SIGNALS: Final = (*OPENING, EventType.SIGNAL_CLOSE)

# a late OPEN is a new and wrong trade; INTEGRATION_* live as long as their retries, and a little longer
LIVES_SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys((str(each) for each in EventType), 600.0),
    **dict.fromkeys((str(each) for each in OPENING), 60.0),
    **dict.fromkeys((str(each) for each in EventType if each.startswith("INTEGRATION_")), 28 * HOURS),
}

_SIGNAL_SECONDS: Final = (1.0, 3.0, 8.0, 20.0, 45.0)
_INTEGRATION_SECONDS: Final = (5.0, 305.0, 2_105.0, 9_305.0, 27_305.0, 63_305.0, 99_305.0)
"""After 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h, counted from the first attempt."""


def next_try(type_: str, since_first_seconds: float) -> float | None:
    """Seconds from the first attempt to the next one; None where none is left.

    Times that went by while an attempt was under way are not made up for.
    """
    planned = _INTEGRATION_SECONDS if type_.startswith("INTEGRATION_") else _SIGNAL_SECONDS
    for seconds in planned:
        if seconds > since_first_seconds:
            return seconds
    if type_ in OPENING or planned is _INTEGRATION_SECONDS:
        return None
    last = planned[-1]
    return last + CLOSE_EVERY_SECONDS * ((since_first_seconds - last) // CLOSE_EVERY_SECONDS + 1)


class StrategyData(msgspec.Struct):
    """The guide's Strategy Event Data."""

    id: str
    name: str


class SignalData(msgspec.Struct):
    """The guide's Signal Event Data. `quantity` is a JSON number as the engine wrote it."""

    direction: str
    ticker: str
    quantity: msgspec.Raw
    strategy: StrategyData
    proquantPositionId: str  # noqa: N815 - the guide's name


def opposite(data: str) -> str:
    """A signal's data with the other direction: what a REOPEN closes."""
    signal = msgspec.json.decode(data, type=SignalData)
    signal.direction = "SELL" if signal.direction == "BUY" else "BUY"
    return _encode(signal).decode()


@dataclass(frozen=True, slots=True)
class CanonicalEvent:
    """The canonical form; `data` is JSON text, None where the guide's data is null."""

    id: str
    type: str
    timestamp_ms: int
    data: str | None


class Webhook(msgspec.Struct, frozen=True):
    url: str
    headers: dict[str, str]


class IntegrationData(msgspec.Struct, frozen=True):
    """An integration as the guide's example event shows it."""

    name: str
    description: str
    imageUrl: str  # noqa: N815 - the guide's name
    webhook: Webhook


class _V1Event(msgspec.Struct):
    timestamp: int
    type: str
    integration: IntegrationData
    data: msgspec.Raw


class _RenderedVersion(msgspec.Struct):
    deprecation: str | None
    event: object


_NULL: Final = msgspec.Raw(b"null")


def v1(event: CanonicalEvent, integration: IntegrationData) -> object:
    data = _NULL if event.data is None else msgspec.Raw(event.data.encode())
    return _V1Event(event.timestamp_ms, event.type, integration, data)


@dataclass(frozen=True, slots=True)
class EventVersion:
    """A version format; with a deprecation date it is included until that date (guide, Versioning)."""

    name: str
    deprecation: datetime | None
    render: Callable[[CanonicalEvent, IntegrationData], object]


VERSIONS: Final = (EventVersion("v1", None, v1),)


def _date(deprecation: datetime | None) -> str | None:
    return None if deprecation is None else iso(deprecation)


def render(
    versions: Sequence[EventVersion], event: CanonicalEvent, integration: IntegrationData, now: datetime
) -> bytes:
    """A request's body: the event in every version that is included at `now`."""
    return _encode(
        {
            each.name: _RenderedVersion(_date(each.deprecation), each.render(event, integration))
            for each in versions
            if each.deprecation is None or now < each.deprecation.astimezone(UTC)
        }
    )
