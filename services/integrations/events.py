"""Events in the form in which they are stored, and in the version formats in which they are sent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec

from integrations.timestamps import iso

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


OPENING_SIGNALS: Final = (EventType.SIGNAL_OPEN, EventType.SIGNAL_REOPEN)
SIGNALS: Final = (*OPENING_SIGNALS, EventType.SIGNAL_CLOSE)


class StrategyData(msgspec.Struct):
    """The guide's Strategy Event Data."""

    id: str
    name: str


class SignalData(msgspec.Struct):
    """The guide's Signal Event Data. `quantity` is the JSON number of the engine, with exactly the same digits."""

    direction: str
    ticker: str
    quantity: msgspec.Raw
    strategy: StrategyData
    proquantPositionId: str  # noqa: N815 - the guide's name


def signal_data(text: str) -> SignalData:
    """Return the data of a signal event, decoded from its JSON text."""
    return msgspec.json.decode(text, type=SignalData)


def strategy_data(text: str) -> StrategyData:
    """Return the data of a STRATEGY_* event, decoded from its JSON text."""
    return msgspec.json.decode(text, type=StrategyData)


def with_opposite_direction(data: str) -> str:
    """Return the JSON text of a signal with BUY and SELL exchanged.

    A REOPEN closes a position in this other direction.
    """
    signal = signal_data(data)
    signal.direction = "SELL" if signal.direction == "BUY" else "BUY"
    return _encode(signal).decode()


@dataclass(frozen=True, slots=True)
class CanonicalEvent:
    """An event in the form in which it is stored. `data` is JSON text; None if the guide defines null for this type."""

    id: str
    type: str
    timestamp_ms: int
    data: str | None


class WebhookData(msgspec.Struct, frozen=True):
    """The webhook of an integration, as it appears in events."""

    url: str
    headers: dict[str, str]


class IntegrationData(msgspec.Struct, frozen=True):
    """An integration, with the fields that it has in the guide's example event."""

    name: str
    description: str
    imageUrl: str  # noqa: N815 - the guide's name
    webhook: WebhookData


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
    """Render an event in version 1."""
    data = _NULL if event.data is None else msgspec.Raw(event.data.encode())
    return _V1Event(event.timestamp_ms, event.type, integration, data)


@dataclass(frozen=True, slots=True)
class EventVersion:
    """A version format of events. Requests contain a version until its deprecation date (guide, Versioning)."""

    name: str
    deprecation: datetime | None
    render: Callable[[CanonicalEvent, IntegrationData], object]


VERSIONS: Final = (EventVersion("v1", None, v1),)


def render(
    versions: Sequence[EventVersion], event: CanonicalEvent, integration: IntegrationData, now: datetime
) -> bytes:
    """Return the body of a request, which contains the event in each version that is not deprecated at `now`."""
    return _encode(
        {
            each.name: _RenderedVersion(
                None if each.deprecation is None else iso(each.deprecation), each.render(event, integration)
            )
            for each in versions
            if each.deprecation is None or now < each.deprecation.astimezone(UTC)
        }
    )
