"""Texts of users' notifications. Each names the product, the event, the present state, and the user's next step.

An integration's `name` is the user's account at the partner and its `description` is the partner's product (guide,
Creating an Integration). A text names the product, and it names the account once. Users read the texts on a phone, so
they are whole sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from integrations.events import (
    CanonicalEvent,
    EventType,
    IntegrationData,
    SignalData,
    signal_data,
    strategy_data,
)

NO_ANSWER: Final = "NoAnswer"
EXPIRED: Final = "Expired"
RECOVERED: Final = "Recovered"
MAX_POSITIONS: Final = 100


@dataclass(frozen=True, slots=True)
class ErrorText:
    """The parts of a text for one of the guide's error types."""

    reason: str
    advice: str


_RECONNECT: Final = "Connect your account again at {partner}."
_ERRORS: Final[Mapping[str, ErrorText]] = {
    "InsufficientFunds": ErrorText(
        "your account at {partner} does not have enough funds",
        "Add funds at {partner}, or choose a smaller quantity for the strategy.",
    ),
    "QuantityTooLow": ErrorText(
        "the quantity is below the minimum that {partner} allows",
        "Choose a larger quantity for the strategy.",
    ),
    "QuantityTooHigh": ErrorText(
        "the quantity is above the maximum that {partner} allows",
        "Choose a smaller quantity for the strategy.",
    ),
    "InvalidQuantityPrecision": ErrorText(
        "the quantity is more precise than {partner} supports",
        "Choose a quantity with fewer decimal places for the strategy.",
    ),
    "UnsupportedInstrument": ErrorText(
        "{partner} does not support the instrument",
        "Disable {partner} for this strategy, or choose another instrument.",
    ),
    "PositionAlreadyExists": ErrorText(
        "{partner} already has an open position of this strategy",
        "Check the open position at {partner}.",
    ),
    "MarketClosed": ErrorText(
        "the market is closed at {partner}",
        "{partner} accepts signals again when the market opens.",
    ),
    "PositionNotFound": ErrorText(
        "{partner} has no open position of this strategy",
        "Check your positions at {partner}.",
    ),
    "InvalidCredentials": ErrorText("{partner} did not recognise your account", _RECONNECT),
}

# a webhook finds these errors before it closes a position, so the previous position of a REOPEN stays open
_BEFORE_CLOSING: Final = frozenset({"MarketClosed", "InvalidCredentials"})

_ACTIONS: Final[Mapping[str, str]] = {
    EventType.SIGNAL_OPEN: "the signal to open {position} for {strategy}",
    EventType.SIGNAL_CLOSE: "the signal to close the {ticker} position of {strategy}",
    EventType.SIGNAL_REOPEN: "the signal to close the previous position of {strategy} and to open {position}",
    EventType.STRATEGY_ENABLED: "the message that you enabled {partner} for {strategy}",
    EventType.STRATEGY_DISABLED: "the message that you disabled {partner} for {strategy}",
    EventType.INTEGRATION_APPROVED: "the message that you approved the integration",
    EventType.INTEGRATION_REJECTED: "the message that you rejected the integration",
    EventType.INTEGRATION_DELETED: "the message that you deleted the integration",
}

_CHECK_PREVIOUS: Final = "The previous position of {strategy} may still be open at {partner}."

# the present state if the webhook has not confirmed an event and the event will not be sent again
_UNCONFIRMED: Final[Mapping[str, str]] = {
    EventType.SIGNAL_OPEN: "Check at {partner} whether {position} is open.",
    EventType.SIGNAL_CLOSE: "The position may still be open. Close the position at {partner} yourself.",
    EventType.SIGNAL_REOPEN: _CHECK_PREVIOUS + " Check your positions at {partner}.",
    EventType.STRATEGY_ENABLED: "Signals of {strategy} are sent to {partner} all the same.",
    EventType.STRATEGY_DISABLED: "No more signals of {strategy} are sent to {partner}.",
    EventType.INTEGRATION_APPROVED: "The integration is approved, and you can enable strategies for {partner}.",
    EventType.INTEGRATION_REJECTED: "The integration is rejected, and no signals are sent to {partner}.",
    EventType.INTEGRATION_DELETED: "The integration is deleted, and no more signals are sent to {partner}.",
}

_REPLACED: Final = "A signal to close the previous position of {strategy} is sent instead."

_LIFETIMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(map(str, EventType), "10 minutes"),
    EventType.SIGNAL_OPEN: "60 seconds",
    EventType.SIGNAL_REOPEN: "60 seconds",
    **dict.fromkeys((str(each) for each in EventType if each.startswith("INTEGRATION_")), "28 hours"),
}


def about_event(
    kind: str,
    event: CanonicalEvent,
    integration: IntegrationData,
    *,
    status: int | None = None,
    state: str,
) -> str:
    """Return the text about an event. `kind` is an error type of the guide, "Generic", or a constant of this module.

    `status` is the status of the response. `state` is the state of the event after the attempt.
    """
    type_ = event.type
    template = _template(kind, type_, status, state)
    return template.format(account=integration.name, partner=integration.description, **_words(event))


def _template(kind: str, type_: str, status: int | None, state: str) -> str:
    if kind in _ERRORS:
        return _refused(kind, type_)
    action = _ACTIONS[type_]
    if kind == RECOVERED:
        return f"{{partner}} ({{account}}) has now confirmed {action}. An earlier attempt had failed."
    if kind == EXPIRED:
        happened = f"{{partner}} ({{account}}) could not be reached in time with {action}."
        return f"{happened} {_not_again(type_)} {_after_the_end(type_, state, was_sent=False)}"
    if kind == NO_ANSWER:
        happened = f"{{partner}} ({{account}}) did not respond to {action}."
    else:
        happened = f"{{partner}} ({{account}}) answered {action} with an error (HTTP status {status})."
    if state == "WAITING":
        return f"{happened} {_thing(type_)} is sent again for up to {_LIFETIMES[type_]}."
    return f"{happened} {_not_again(type_)} {_after_the_end(type_, state, was_sent=True)}"


def _thing(type_: str) -> str:
    return "The signal" if type_.startswith("SIGNAL_") else "The message"


def _not_again(type_: str) -> str:
    return f"{_thing(type_)} is not sent again."


def _after_the_end(type_: str, state: str, *, was_sent: bool) -> str:
    if type_ == EventType.SIGNAL_REOPEN and state == "EXPIRED":
        return _REPLACED
    if type_ == EventType.SIGNAL_OPEN and not was_sent:
        return "{position} was not opened."
    return _UNCONFIRMED[type_]


def _refused(kind: str, type_: str) -> str:
    """Return the text for a typed error. The event is not sent again after such an error."""
    error = _ERRORS[kind]
    match type_:
        case EventType.SIGNAL_OPEN:
            return f"{{position}} was not opened for {{strategy}} at {{partner}} ({{account}}): {error.reason}. {error.advice}"
        case EventType.SIGNAL_REOPEN:
            previous = (
                _CHECK_PREVIOUS
                if kind in _BEFORE_CLOSING
                else "The previous position of {strategy} was to be closed first; check at {partner} that the position is closed."
            )
            happened = (
                f"{{position}} was not opened for {{strategy}} at {{partner}} ({{account}}): {error.reason}."
            )
            return f"{happened} {previous} {error.advice}"
        case EventType.SIGNAL_CLOSE if kind == "PositionNotFound":
            return (
                "No {ticker} position of {strategy} was closed at {partner} ({account}): {partner} has no open position"
                " of this strategy. Check your positions at {partner} if you expected an open position."
            )
        case EventType.SIGNAL_CLOSE:
            happened = f"The {{ticker}} position of {{strategy}} was not closed at {{partner}} ({{account}}): {error.reason}."
            return f"{happened} {_close_yourself(kind)}"
    return f"{{partner}} ({{account}}) did not accept {_ACTIONS[type_]}: {error.reason}. {_UNCONFIRMED[type_]} {_advice(kind)}".rstrip()


def _close_yourself(kind: str) -> str:
    when = " when the market opens" if kind == "MarketClosed" else ""
    advice = f" {_RECONNECT}" if kind == "InvalidCredentials" else ""
    return f"The position is probably still open. Close the position at {{partner}} yourself{when}.{advice}"


def _advice(kind: str) -> str:
    """Return advice for an event that is not a signal. Most advice is about signals and does not fit here."""
    return _RECONNECT if kind == "InvalidCredentials" else ""


def _words(event: CanonicalEvent) -> dict[str, str]:
    if event.data is None:
        return {}
    if event.type.startswith("SIGNAL_"):
        signal = signal_data(event.data)
        return {"position": _position(signal), "ticker": signal.ticker, "strategy": signal.strategy.name}
    return {"strategy": strategy_data(event.data).name}


def _position(signal: SignalData) -> str:
    return f"{signal.direction} {bytes(signal.quantity).decode()} {signal.ticker}"


def paused(name: str, description: str, *, is_gone: bool) -> str:
    why = (
        "the webhook answered that it is gone for good (HTTP status 410)"
        if is_gone
        else "at least 20 deliveries in a row have failed for ten minutes or longer"
    )
    return (
        f"{description} ({name}) is paused: {why}. No new signals are sent to {description}, and positions that are open"
        f" at {description} may stay open. When {description} works again, resume the integration and enable your"
        " strategies."
    )


def may_stay_open(name: str, description: str, positions: Sequence[SignalData]) -> str:
    """Return the text about positions that may be open at the partner after the integration was deleted."""
    listed = "; ".join(f"{_position(each)} of {each.strategy.name}" for each in positions[:MAX_POSITIONS])
    more = len(positions) - MAX_POSITIONS
    if more > 0:
        listed += f"; and {more} more"
    return (
        f"{description} ({name}) is deleted and gets no more signals. These positions may still be open at"
        f" {description}: {listed}. Close the positions at {description} if you do not want to keep them."
    )
