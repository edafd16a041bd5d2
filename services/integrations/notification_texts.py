"""What the user is told: notifications, each with a text made for what happened. Texts are made here alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from chassis.database import Connection
from integrations.events import CanonicalEvent, IntegrationData, SignalData, StrategyData

CHANNEL: Final = "integrations"
TOLD: Final = "told"
MAX_TOLD: Final = 100

# ids in the order of commits: streams read on from the last id they have seen
SERIALISE: Final = "SELECT pg_advisory_xact_lock(hashtext('integrations.notification'))"

INSERT: Final = """
INSERT INTO notification (user_email, integration_id, event_id, type, text)
SELECT i.user_email, n.integration_id, n.event_id, n.type, n.text
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY
    AS n (integration_id, event_id, type, text, position)
JOIN integration i ON i.id = n.integration_id
ORDER BY n.position
"""

NOTIFY: Final = "SELECT pg_notify($1, $2)"


@dataclass(frozen=True, slots=True)
class Notification:
    """A notification for the integration's user."""

    integration_id: UUID
    event_id: UUID | None
    type: str
    text: str


async def tell(connection: Connection, notices: Sequence[Notification]) -> None:
    """The last thing a transaction does, as what it locks is one for all."""
    await connection.execute(SERIALISE)
    await connection.execute(
        INSERT,
        [each.integration_id for each in notices],
        [each.event_id for each in notices],
        [each.type for each in notices],
        [each.text for each in notices],
    )
    await connection.execute(NOTIFY, CHANNEL, TOLD)


_TEXTS: Final = {
    "InsufficientFunds": "Your account does not have enough funds to {verb}{what}.",
    "QuantityTooLow": "The quantity is below the least that is allowed: it could not {verb}{what}.",
    "QuantityTooHigh": "The quantity is above the most that is allowed: it could not {verb}{what}.",
    "InvalidQuantityPrecision": "The quantity has more digits than are supported: it could not {verb}{what}.",
    "UnsupportedInstrument": "The instrument is not supported: it could not {verb}{what}.",
    "PositionAlreadyExists": "The strategy already has an open position there: it could not {verb}{what}.",
    "MarketClosed": "The market is closed: it could not {verb}{what}.",
    "PositionNotFound": "The strategy has no open position there: it could not {verb}{what}.",
    "InvalidCredentials": "Your account there was not recognised: it could not {verb}{what}.",
    "Generic": "Something went wrong: it could not {verb}{what}.",
    "NoAnswer": "It does not answer: it could not {verb}{what}. It is tried again for a while.",
    "Expired": "It could not be told in time to {verb}{what}, and will not be told any more.",
    "Recovered": "After some tries it was told to {verb}{what}.",
}

_VERBS: Final = {
    "SIGNAL_OPEN": "open",
    "SIGNAL_CLOSE": "close",
    "SIGNAL_REOPEN": "close what is open and open",
    "STRATEGY_ENABLED": "take up",
    "STRATEGY_DISABLED": "let go of",
    "INTEGRATION_APPROVED": "take notice of your approval",
    "INTEGRATION_REJECTED": "take notice of your rejection",
    "INTEGRATION_DELETED": "take notice of the deletion",
}


def text(kind: str, event: CanonicalEvent, integration: IntegrationData) -> str:
    """One or two sentences for the user: who, why, and what did not happen."""
    sentence = _TEXTS[kind].format(verb=_VERBS[event.type], what=_what(event))
    return f"{integration.name} ({integration.description}): {sentence}"


def _what(event: CanonicalEvent) -> str:
    if event.data is None:
        return ""
    if event.type.startswith("SIGNAL_"):
        signal = msgspec.json.decode(event.data, type=SignalData)
        quantity = bytes(signal.quantity).decode()
        return f" {signal.direction} {quantity} {signal.ticker} for your strategy {signal.strategy.name}"
    return f" your strategy {msgspec.json.decode(event.data, type=StrategyData).name}"


PAUSED: Final = "{name} ({description}) has been paused, as it {why}. Strategies that were enabled for it are disabled now."


def paused(name: str, description: str, *, is_gone: bool) -> str:
    why = "says that it is gone for good" if is_gone else "has not taken a message for ten minutes"
    return PAUSED.format(name=name, description=description, why=why)


def may_stay_open(name: str, description: str, positions: Sequence[SignalData]) -> str:
    """What deleting leaves behind: nothing closes these positions any more."""
    listed = "; ".join(
        f"{each.direction} {bytes(each.quantity).decode()} {each.ticker} of {each.strategy.name}"
        for each in positions[:MAX_TOLD]
    )
    return f"{name} ({description}) has been deleted. May still be open there: {listed}."
