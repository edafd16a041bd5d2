"""What a quote is and what may be done with it: the rules, over rows made up here."""

import itertools
import uuid
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from msgspec.structs import replace

from chassis.errors import (
    IdempotencyKeyReusedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
)
from chassis.schemas import parse
from dfsp_api.idempotency import fingerprint, quote_uuid
from dfsp_api.replies import execution_reply, format_time, look_up_reply, reservation_reply
from dfsp_api.stored_quote import StoredQuote
from quoting.call import Operation
from quoting.schemas import RESERVATION
from support.messages import QUOTE

NAMESPACE = bytes(range(32))
CREATED = datetime(2017, 5, 11, 11, 25, 3, 561_000, UTC)
EXPIRES = CREATED + timedelta(minutes=5)

RESERVED = StoredQuote(
    uuid=quote_uuid(NAMESPACE, "test", "a key"),
    caller="test",
    operation="quoteSourceAmount",
    fingerprint=fingerprint(QUOTE),
    request=QUOTE,
    source_amount=Decimal("13.75"),
    destination_amount=Decimal("12.50"),
    created=CREATED,
    expires=EXPIRES,
    executed=None,
    is_expired=False,
)
EXPIRED = replace(RESERVED, is_expired=True)
EXECUTED = replace(RESERVED, executed=EXPIRES - timedelta(milliseconds=1))
STUB = replace(EXPIRED, request=None, source_amount=None, destination_amount=None)


def altered(name: str) -> dict[str, str]:
    return {**QUOTE, name: "13.00" if name == "amount" else QUOTE[name] + "x"}


@pytest.mark.parametrize("key", [f"key-{number}" for number in range(50)])
def test_a_quotes_uuid_is_of_rfc_9562_version_8(key):
    made = quote_uuid(NAMESPACE, "test", key)

    assert 8 == made.version
    assert uuid.RFC_4122 == made.variant


def test_a_quotes_uuid_comes_from_namespace_caller_and_key_alone():
    """The same today and tomorrow, in every process: this one was computed by hand."""
    assert quote_uuid(NAMESPACE, "test", "a key") == quote_uuid(NAMESPACE, "test", "a key")
    made = {
        quote_uuid(namespace, caller, key)
        for namespace in (NAMESPACE, bytes(32))
        for caller in ("test", "other")
        for key in ("a", "b")
    }
    assert 8 == len(made)


def test_a_quotes_uuid_never_changes_between_versions_of_this_code():
    """HMAC-SHA-256(namespace, 8 bytes of length ‖ caller ‖ key), 122 of its bits."""
    import hashlib
    import hmac

    digest = hmac.new(NAMESPACE, b"\0\0\0\0\0\0\0\x04testa key", hashlib.sha256).hexdigest()
    given = quote_uuid(NAMESPACE, "test", "a key").hex

    assert digest[:12] + "8" + digest[13:16] == given[:16]
    assert digest[17:32] == given[17:]


def test_no_two_splits_of_caller_and_key_run_together():
    """Caller ab with key c is not caller a with key bc; a name is counted in bytes."""
    for text in ("abcdef", "éèüöß", "a:b:c:"):
        splits = [(text[:at], text[at:]) for at in range(len(text) + 1)]

        assert len(splits) == len({quote_uuid(NAMESPACE, *split) for split in splits})


@pytest.mark.parametrize("name", list(QUOTE))
def test_a_fingerprint_differs_where_any_field_does(name):
    assert fingerprint(QUOTE) != fingerprint(altered(name))


def test_fingerprints_of_shifted_fields_differ():
    """What one field ends with and the next begins with cannot be moved between them."""
    names = list(QUOTE)
    for one, other in itertools.pairwise(names):
        if "amount" in {one, other}:
            continue
        moved = {**QUOTE, one: QUOTE[one][:-1], other: QUOTE[one][-1] + QUOTE[other]}

        assert fingerprint(QUOTE) != fingerprint(moved)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12.5", "12.50"),
        ("12", "12.0"),
        ("10", "10.00"),
        ("100", "100.0"),
        ("0.10", "0.1"),
        ("100000000000000000", "100000000000000000"),
    ],
)
def test_a_fingerprint_takes_an_amount_as_a_number(one, other):
    assert fingerprint({**QUOTE, "amount": one}) == fingerprint({**QUOTE, "amount": other})


@pytest.mark.parametrize(("one", "other"), [("1", "10"), ("10", "100"), ("0.1", "0.01"), ("1.05", "1.5")])
def test_a_fingerprint_tells_numbers_apart(one, other):
    assert fingerprint({**QUOTE, "amount": one}) != fingerprint({**QUOTE, "amount": other})


def test_a_fingerprint_does_not_see_key_order_and_white_space():
    one = parse(RESERVATION, b'{"currencyCode":"USD","currencySymbol":"$","amount":"12.50","account":"http://a",'
                b'"identifier":"1","identifierType":"eur","transferType":"p2p"}')  # fmt: skip
    other = parse(RESERVATION, b'\n{ "transferType" : "p2p", "identifierType":"eur" , "identifier":"\\u0031",'
                  b'"account":"http:\\/\\/a","amount":"12.5","currencySymbol":"$","currencyCode":"USD" }\n')  # fmt: skip

    assert fingerprint(one) == fingerprint(other)


def test_a_fingerprint_leaves_out_what_only_a_payment_says():
    assert fingerprint(QUOTE) == fingerprint({**QUOTE, "sourceAmount": "1", "destinationAmount": "2"})


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED], ids=["reserved", "expired", "executed"])
def test_a_repeated_reservation_is_told_the_same_quote(quote):
    assert {
        "amount": "13.75",
        "expires": "2017-05-11T11:30:03.561Z",
        "uuid": str(RESERVED.uuid),
    } == reservation_reply(quote, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(QUOTE))


def test_a_destination_quote_is_told_what_arrives():
    quote = replace(RESERVED, operation="quoteDestinationAmount")

    assert (
        "12.50" == reservation_reply(quote, Operation.QUOTE_DESTINATION_AMOUNT, fingerprint(QUOTE))["amount"]
    )


@pytest.mark.parametrize("quote", [RESERVED, EXECUTED, STUB], ids=["reserved", "executed", "stub"])
def test_a_key_is_bound_to_operation_and_body(quote):
    """Also when retention has left a stub: its fingerprint is there still."""
    with pytest.raises(IdempotencyKeyReusedError):
        reservation_reply(quote, Operation.QUOTE_DESTINATION_AMOUNT, fingerprint(QUOTE))
    with pytest.raises(IdempotencyKeyReusedError):
        reservation_reply(quote, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(altered("identifier")))


def test_a_stub_is_told_to_its_key_as_expired():
    with pytest.raises(QuoteExpiredError):
        reservation_reply(STUB, Operation.QUOTE_SOURCE_AMOUNT, fingerprint(QUOTE))


def test_an_execution_is_told_with_its_amounts_and_time():
    assert {
        "uuid": str(RESERVED.uuid),
        "state": "EXECUTED",
        "sourceAmount": "13.75",
        "destinationAmount": "12.50",
        "fee": "1.25",
        "executed": "2017-05-11T11:30:03.560Z",
    } == execution_reply(EXECUTED, "test", QUOTE)


def test_executing_nothing_is_not_found():
    with pytest.raises(QuoteNotFoundError):
        execution_reply(None, "test", QUOTE)


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED, STUB])
@pytest.mark.parametrize("payment", [QUOTE, altered("identifier")], ids=["same", "altered"])
def test_executing_anothers_quote_is_not_found_whatever_else(quote, payment):
    """404 comes first: another caller learns nothing, not even that the quote is there."""
    with pytest.raises(QuoteNotFoundError):
        execution_reply(quote, "other", payment)


@pytest.mark.parametrize("quote", [RESERVED, EXPIRED, EXECUTED], ids=["reserved", "expired", "executed"])
@pytest.mark.parametrize("name", list(QUOTE))
def test_executing_with_another_parameter_is_a_mismatch_before_anything_else(quote, name):
    """409 comes before the stored reply and before 410."""
    with pytest.raises(QuoteMismatchError) as raised:
        execution_reply(quote, "test", altered(name))

    assert [(name, altered(name)[name])] == [(fault.key, fault.value) for fault in raised.value.faults]


def test_executing_an_executed_quote_is_told_as_before_although_it_has_expired():
    """Nexuq #393: replay is looked at before expiry."""
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
        "request": QUOTE,
    } == look_up_reply(quote, "test", {})


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
def test_what_is_not_the_callers_own_quote_of_that_receiver_is_not_found(quote, caller, receiver):
    with pytest.raises(QuoteNotFoundError):
        look_up_reply(quote, caller, receiver)


@pytest.mark.parametrize(
    ("source", "destination", "fee"),
    [("12.50", "12.50", "0.00"), ("6", "5", "1"), ("1.357", "1.234", "0.123"), ("100.00", "99.95", "0.05")],
)
def test_amounts_are_told_with_the_digits_they_were_stored_with(source, destination, fee):
    quote = replace(EXECUTED, source_amount=Decimal(source), destination_amount=Decimal(destination))
    told_ = execution_reply(quote, "test", QUOTE)

    assert (source, destination, fee) == (told_["sourceAmount"], told_["destinationAmount"], told_["fee"])


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (datetime(2017, 5, 11, 11, 30, 3, 561_000, UTC), "2017-05-11T11:30:03.561Z"),
        (datetime(2017, 5, 11, 11, 30, 3, 0, UTC), "2017-05-11T11:30:03.000Z"),
        (datetime(2017, 5, 11, 13, 30, 3, 5_000, timezone(timedelta(hours=2))), "2017-05-11T11:30:03.005Z"),
    ],
)
def test_a_time_is_told_in_utc_with_milliseconds_and_z(time, expected):
    assert expected == format_time(time)
