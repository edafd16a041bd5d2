"""The reply or error for each state of a quote."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from msgspec.structs import replace

from chassis.errors import (
    IdempotencyKeyReusedError,
    QuoteExecutedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    QuoteReleasedError,
)
from dfsp_api.fee_schedule_file import parse_fee_schedule
from dfsp_api.idempotency import fingerprint, quote_uuid
from dfsp_api.replies import execution_reply, format_time, look_up_reply, release_reply, reservation_reply
from dfsp_api.stored_quote import StoredQuote
from quoting.call import Operation
from support.messages import QUOTE

CREATED = datetime(2017, 5, 11, 11, 25, 3, 561_000, UTC)
EXPIRES = CREATED + timedelta(minutes=5)

FEES = parse_fee_schedule(
    """
[[rule]]
transferType = "p2p"
currencyCode = "USD"
least = "0.10"
rounding = "up"
step = [{from = "0.01", to = "99.99", percent = "9.995"}]
"""
)

RESERVED = StoredQuote(
    uuid=quote_uuid(bytes(32), "test", "a key"),
    caller="test",
    operation="quoteSourceAmount",
    fingerprint=fingerprint(QUOTE),
    request=QUOTE,
    source_amount=Decimal("13.75"),
    destination_amount=Decimal("12.50"),
    created=CREATED,
    expires=EXPIRES,
    executed=None,
    released=None,
    schedule=FEES.number,
    lifetime_ms=None,
    is_expired=False,
    fees=FEES,
)
EXPIRED = replace(RESERVED, is_expired=True)
EXECUTED = replace(RESERVED, executed=EXPIRES - timedelta(milliseconds=1))
RELEASED = replace(RESERVED, released=CREATED + timedelta(seconds=1))
STUB = replace(EXPIRED, request=None, source_amount=None, destination_amount=None)
RELEASED_STUB = replace(STUB, released=RELEASED.released)


def altered(name: str) -> dict[str, str]:
    return {**QUOTE, name: "13.00" if name == "amount" else QUOTE[name] + "x"}


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED], ids=["reserved", "expired", "executed"])
def test_a_repeated_reservation_gets_the_same_reply(quote):
    assert {
        "amount": "13.75",
        "expires": "2017-05-11T11:30:03.561Z",
        "uuid": str(RESERVED.uuid),
    } == reservation_reply(quote, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(QUOTE))


def test_the_reply_to_quote_destination_amount_has_the_destination_amount():
    quote = replace(RESERVED, operation="quoteDestinationAmount")

    assert (
        "12.50" == reservation_reply(quote, Operation.QUOTE_DESTINATION_AMOUNT, fingerprint(QUOTE))["amount"]
    )


@pytest.mark.parametrize("quote", [RESERVED, EXECUTED, STUB], ids=["reserved", "executed", "stub"])
def test_a_key_is_bound_to_operation_and_body(quote):
    """Also when retention has left a stub: it keeps its fingerprint."""
    with pytest.raises(IdempotencyKeyReusedError):
        reservation_reply(quote, Operation.QUOTE_DESTINATION_AMOUNT, fingerprint(QUOTE))
    with pytest.raises(IdempotencyKeyReusedError):
        reservation_reply(quote, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(altered("identifier")))


def test_a_reservation_with_the_key_of_a_stub_is_refused_as_expired():
    with pytest.raises(QuoteExpiredError):
        reservation_reply(STUB, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(QUOTE))


def test_the_reply_to_execute_has_the_amounts_and_the_time():
    assert {
        "uuid": str(RESERVED.uuid),
        "state": "EXECUTED",
        "sourceAmount": "13.75",
        "destinationAmount": "12.50",
        "fee": "1.25",
        "executed": "2017-05-11T11:30:03.560Z",
    } == execution_reply(EXECUTED, "test", QUOTE)


def test_executing_an_unknown_quote_is_not_found():
    with pytest.raises(QuoteNotFoundError):
        execution_reply(None, "test", QUOTE)


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED, STUB])
@pytest.mark.parametrize("payment", [QUOTE, altered("identifier")], ids=["same", "altered"])
def test_executing_another_callers_quote_is_not_found_in_any_state(quote, payment):
    """404 comes first: another caller does not learn that the quote exists."""
    with pytest.raises(QuoteNotFoundError):
        execution_reply(quote, "other", payment)


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED], ids=["reserved", "expired", "executed"])
@pytest.mark.parametrize("name", list(QUOTE))
def test_executing_with_another_parameter_is_a_mismatch_in_any_state(quote, name):
    """409 comes before the stored reply and before 410."""
    with pytest.raises(QuoteMismatchError) as raised:
        execution_reply(quote, "test", altered(name))

    assert [(name, altered(name)[name])] == [(fault.key, fault.value) for fault in raised.value.faults]


def test_executing_an_executed_quote_gets_the_same_reply_after_it_expired():
    """Nexuq #393 answered that the quote had expired."""
    assert execution_reply(EXECUTED, "test", QUOTE) == execution_reply(
        replace(EXECUTED, is_expired=True), "test", QUOTE
    )


@pytest.mark.parametrize("quote", [EXPIRED, STUB], ids=["expired", "stub"])
def test_executing_an_expired_quote_is_refused(quote):
    with pytest.raises(QuoteExpiredError):
        execution_reply(quote, "test", QUOTE)


@pytest.mark.parametrize(
    ("name", "value", "is_same"),
    [
        ("sourceAmount", "13.75", True),
        ("sourceAmount", "13.750", True),
        ("sourceAmount", "13.7500000", True),
        ("sourceAmount", "13.76", False),
        ("sourceAmount", "12.50", False),
        ("destinationAmount", "12.5", True),
        ("destinationAmount", "12.50", True),
        ("destinationAmount", "13.75", False),
        ("amount", "12.5", True),
        ("amount", "12.500", True),
        ("amount", "12.501", False),
    ],
)
def test_amounts_of_a_payment_are_compared_as_numbers(name, value, is_same):
    if is_same:
        assert "EXECUTED" == execution_reply(EXECUTED, "test", {**QUOTE, name: value})["state"]
    else:
        with pytest.raises(QuoteMismatchError) as raised:
            execution_reply(EXECUTED, "test", {**QUOTE, name: value})
        assert [name] == [fault.key for fault in raised.value.faults]


@pytest.mark.parametrize(
    ("quote", "state"),
    [
        (RESERVED, "RESERVED"),
        (EXPIRED, "EXPIRED"),
        (EXECUTED, "EXECUTED"),
        (replace(EXECUTED, is_expired=True), "EXECUTED"),
    ],
)
def test_a_quote_is_looked_up_with_its_state_and_all_it_holds(quote, state):
    assert {
        "uuid": str(RESERVED.uuid),
        "state": state,
        "operation": "quoteSourceAmount",
        "amount": "13.75",
        "sourceAmount": "13.75",
        "destinationAmount": "12.50",
        "fee": "1.25",
        "expires": "2017-05-11T11:30:03.561Z",
        "created": "2017-05-11T11:25:03.561Z",
        "executed": "2017-05-11T11:30:03.560Z" if state == "EXECUTED" else None,
        "released": None,
        "request": QUOTE,
        "explanation": {
            "schedule": FEES.id.hex(),
            "rule": {"transferType": "p2p", "currencyCode": "USD"},
            "step": {"from": "0.01", "to": "99.99", "flat": "0.00", "percent": "9.995"},
            "least": "0.10",
            "most": None,
            "rounding": "up",
            "unrounded": "1.249375",
        },
    } == look_up_reply(quote, "test", {})


def test_a_quote_without_a_recorded_fee_schedule_has_no_explanation():
    assert look_up_reply(replace(RESERVED, fees=None), "test", {})["explanation"] is None


@pytest.mark.parametrize(
    ("quote", "caller", "receiver"),
    [
        (None, "test", {}),
        (RESERVED, "other", {}),
        (STUB, "test", {}),
        (RESERVED, "test", {"identifier": "30754017", "identifierType": "eur"}),
        (RESERVED, "test", {"identifier": "30754016", "identifierType": "tel"}),
        (RESERVED, "test", {"identifierType": "tel"}),
        (RESERVED, "test", {"identifier": ""}),
    ],
)
def test_only_the_callers_own_quote_of_that_receiver_is_found(quote, caller, receiver):
    with pytest.raises(QuoteNotFoundError):
        look_up_reply(quote, caller, receiver)


@pytest.mark.parametrize(
    ("source", "destination", "fee"),
    [("12.50", "12.50", "0.00"), ("6", "5", "1"), ("1.357", "1.234", "0.123"), ("100.00", "99.95", "0.05")],
)
def test_a_reply_has_amounts_with_the_digits_that_they_were_stored_with(source, destination, fee):
    quote = replace(EXECUTED, source_amount=Decimal(source), destination_amount=Decimal(destination))
    reply = execution_reply(quote, "test", QUOTE)

    assert (source, destination, fee) == (reply["sourceAmount"], reply["destinationAmount"], reply["fee"])


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (datetime(2017, 5, 11, 11, 30, 3, 561_000, UTC), "2017-05-11T11:30:03.561Z"),
        (datetime(2017, 5, 11, 11, 30, 3, 0, UTC), "2017-05-11T11:30:03.000Z"),
        (datetime(2017, 5, 11, 13, 30, 3, 5_000, timezone(timedelta(hours=2))), "2017-05-11T11:30:03.005Z"),
    ],
)
def test_a_time_is_formatted_in_utc_with_milliseconds_and_z(time, expected):
    assert expected == format_time(time)


@pytest.mark.parametrize("quote", [RELEASED, replace(RELEASED, is_expired=True)], ids=["at once", "later"])
def test_a_released_quote_is_released_for_ever(quote):
    expected = {"uuid": str(quote.uuid), "state": "RELEASED", "released": "2017-05-11T11:25:04.561Z"}

    assert expected == release_reply(quote, "test", {})
    assert {"state": "RELEASED", "released": "2017-05-11T11:25:04.561Z"}.items() <= dict(
        look_up_reply(quote, "test", {})
    ).items()
    assert reservation_reply(RESERVED, Operation.QUOTE_SOURCE_AMOUNT, quote.fingerprint) == reservation_reply(
        quote, Operation.QUOTE_SOURCE_AMOUNT, quote.fingerprint
    )
    with pytest.raises(QuoteReleasedError, match=r"released at 2017-05-11T11:25:04\.561Z"):
        execution_reply(quote, "test", QUOTE)
    with pytest.raises(QuoteMismatchError):
        execution_reply(quote, "test", altered("amount"))


def test_the_stub_of_a_released_quote_still_says_so():
    """Its receiver is not there any more, so it is not compared."""
    assert release_reply(RELEASED, "test", {}) == release_reply(RELEASED_STUB, "test", {"identifier": "1"})
    with pytest.raises(QuoteReleasedError, match=r"released at 2017-05-11T11:25:04\.561Z"):
        execution_reply(RELEASED_STUB, "test", altered("amount"))
    with pytest.raises(QuoteNotFoundError):
        look_up_reply(RELEASED_STUB, "test", {})


@pytest.mark.parametrize(
    ("quote", "caller", "receiver", "error"),
    [
        (None, "test", {}, QuoteNotFoundError),
        (STUB, "test", {}, QuoteNotFoundError),
        (RELEASED, "other", {}, QuoteNotFoundError),
        (RELEASED_STUB, "other", {}, QuoteNotFoundError),
        (RELEASED, "test", {"identifier": "1"}, QuoteNotFoundError),
        (EXECUTED, "test", {}, QuoteExecutedError),
        (EXPIRED, "test", {}, QuoteExpiredError),
    ],
)
def test_a_quote_that_is_not_released_is_an_error(quote, caller, receiver, error):
    with pytest.raises(error):
        release_reply(quote, caller, receiver)
