"""Texts of users' notifications."""

import json
import re

import pytest

from integrations.events import (
    CanonicalEvent,
    EventType,
    IntegrationData,
    SignalData,
    StrategyData,
    WebhookData,
)
from integrations.notification_texts import (
    EXPIRED,
    NO_ANSWER,
    RECOVERED,
    about_event,
    may_stay_open,
    paused,
)
from integrations.webhook.webhook_response import ERROR_TYPES, GENERIC

STRATEGY = {"id": "s", "name": "Gold High-Risk"}
SIGNAL = {
    "direction": "SELL",
    "ticker": "XAUUSD",
    "quantity": 10,
    "strategy": STRATEGY,
    "proquantPositionId": "p",
}
PARTNER = IntegrationData(
    "me@foo.bar", "Foo Bar FX", "https://foo.bar/i.png", WebhookData("https://foo.bar", {})
)
STATES = {
    **{type_: ["REFUSED"] for type_ in ERROR_TYPES},
    GENERIC: ["WAITING", "FAILED", "EXPIRED", "CANCELLED"],
    NO_ANSWER: ["WAITING", "EXPIRED", "CANCELLED"],
    EXPIRED: ["EXPIRED"],
    RECOVERED: ["DELIVERED"],
}
COMBINATIONS = [
    (kind, type_, state) for kind, states in STATES.items() for state in states for type_ in EventType
]


def text(kind: str, type_: str, state: str) -> str:
    data = None
    if type_.startswith("SIGNAL_"):
        data = json.dumps(SIGNAL)
    elif type_.startswith("STRATEGY_"):
        data = json.dumps(STRATEGY)
    status = {"REFUSED": 422, "FAILED": 404}.get(state, 500)
    return about_event(kind, CanonicalEvent("id", type_, 1, data), PARTNER, status=status, state=state)


def test_every_combination_is_a_text_of_whole_sentences_that_names_its_things():
    """Each text names the partner, the account, and the strategy if the event has one, and says nothing of "it"."""
    texts = {each: text(*each) for each in COMBINATIONS}

    for (kind, type_, state), found in texts.items():
        case = f"{kind} {type_} {state}: {found}"
        assert "Foo Bar FX" in found, case
        assert "me@foo.bar" in found, case
        assert ("Gold High-Risk" in found) == (not type_.startswith("INTEGRATION_")), case
        assert not re.search(r"\b([Ii]t|there|them|they)\b", found.replace("there is", "")), case
        assert re.fullmatch(r"([A-Z][^.]*[^ ]\. )*[A-Z][^.]*\.", found.replace("me@foo.bar", "x")), case
        assert "{" not in found, case
    assert len(set(texts.values())) >= len(EventType) * (len(ERROR_TYPES) + 4)


def test_a_retry_is_announced_only_if_the_event_waits_for_it():
    for kind, type_, state in COMBINATIONS:
        found = text(kind, type_, state)

        assert ("is sent again" in found) == (state == "WAITING"), found


EXPECTED = {
    ("InsufficientFunds", "SIGNAL_OPEN", "REFUSED"): (
        "SELL 10 XAUUSD was not opened for Gold High-Risk at Foo Bar FX (me@foo.bar): your account at Foo Bar FX does not"
        " have enough funds. Add funds at Foo Bar FX, or choose a smaller quantity for the strategy."
    ),
    ("InsufficientFunds", "SIGNAL_REOPEN", "REFUSED"): (
        "SELL 10 XAUUSD was not opened for Gold High-Risk at Foo Bar FX (me@foo.bar): your account at Foo Bar FX does not"
        " have enough funds. The previous position of Gold High-Risk was to be closed first; check at Foo Bar FX that"
        " the position is closed. Add funds at Foo Bar FX, or choose a smaller quantity for the strategy."
    ),
    ("MarketClosed", "SIGNAL_REOPEN", "REFUSED"): (
        "SELL 10 XAUUSD was not opened for Gold High-Risk at Foo Bar FX (me@foo.bar): the market is closed at Foo Bar FX."
        " The previous position of Gold High-Risk may still be open at Foo Bar FX. Foo Bar FX accepts signals again when"
        " the market opens."
    ),
    ("QuantityTooLow", "SIGNAL_CLOSE", "REFUSED"): (
        "The XAUUSD position of Gold High-Risk was not closed at Foo Bar FX (me@foo.bar): the quantity is below the"
        " minimum that Foo Bar FX allows. The position is probably still open. Close the position at Foo Bar FX"
        " yourself."
    ),
    ("PositionNotFound", "SIGNAL_CLOSE", "REFUSED"): (
        "No XAUUSD position of Gold High-Risk was closed at Foo Bar FX (me@foo.bar): Foo Bar FX has no open position of"
        " this strategy. Check your positions at Foo Bar FX if you expected an open position."
    ),
    ("InvalidCredentials", "STRATEGY_DISABLED", "REFUSED"): (
        "Foo Bar FX (me@foo.bar) did not accept the message that you disabled Foo Bar FX for Gold High-Risk: Foo Bar FX"
        " did not recognise your account. No more signals of Gold High-Risk are sent to Foo Bar FX. Connect your account"
        " again at Foo Bar FX."
    ),
    ("NoAnswer", "SIGNAL_OPEN", "WAITING"): (
        "Foo Bar FX (me@foo.bar) did not respond to the signal to open SELL 10 XAUUSD for Gold High-Risk. The signal is"
        " sent again for up to 60 seconds."
    ),
    ("Generic", "SIGNAL_CLOSE", "FAILED"): (
        "Foo Bar FX (me@foo.bar) answered the signal to close the XAUUSD position of Gold High-Risk with an error (HTTP"
        " status 404). The signal is not sent again. The position may still be open. Close the position at Foo Bar FX"
        " yourself."
    ),
    ("Expired", "SIGNAL_OPEN", "EXPIRED"): (
        "Foo Bar FX (me@foo.bar) could not be reached in time with the signal to open SELL 10 XAUUSD for Gold High-Risk."
        " The signal is not sent again. SELL 10 XAUUSD was not opened."
    ),
    ("Expired", "SIGNAL_REOPEN", "EXPIRED"): (
        "Foo Bar FX (me@foo.bar) could not be reached in time with the signal to close the previous position of Gold"
        " High-Risk and to open SELL 10 XAUUSD. The signal is not sent again. A signal to close the previous position of"
        " Gold High-Risk is sent instead."
    ),
    ("Recovered", "INTEGRATION_APPROVED", "DELIVERED"): (
        "Foo Bar FX (me@foo.bar) has now confirmed the message that you approved the integration. An earlier attempt had"
        " failed."
    ),
}


@pytest.mark.parametrize("combination", EXPECTED, ids="-".join)
def test_a_text_says_who_what_happened_what_holds_and_what_to_do(combination):
    assert EXPECTED[combination] == text(*combination)


def test_words_of_partners_and_users_are_not_interpreted():
    words = "100 %s {0} {partner} <b>"
    partner = IntegrationData(words, words, "https://foo.bar/i.png", WebhookData("https://foo.bar", {}))
    strategy = json.dumps({"id": "s", "name": words})
    found = about_event(
        NO_ANSWER, CanonicalEvent("id", "STRATEGY_ENABLED", 1, strategy), partner, state="WAITING"
    )

    assert found.startswith(
        f"{words} ({words}) did not respond to the message that you enabled {words} for {words}."
    )


def test_a_pause_says_why_and_how_to_resume():
    assert (
        "Foo (me) is paused: the webhook answered that it is gone for good (HTTP status 410). No new signals are sent to Foo,"
        " and positions that are open at Foo may stay open. When Foo works again, resume the integration and enable your"
        " strategies."
    ) == paused("me", "Foo", is_gone=True)


def test_the_positions_that_a_deleted_integration_leaves_are_listed_up_to_a_hundred():
    position = SignalData("BUY", "X", b"1", StrategyData("s", "S"), "p")
    found = may_stay_open("me", "Foo", [position] * 103)

    assert 100 == found.count("BUY 1 X of S")
    assert "; and 3 more. Close the positions at Foo" in found
