"""The messages of wire.md §2 (quoting.schemas)."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import raw_table

from chassis.errors import InvalidBodyError, InvalidQueryParameterError, error_object
from chassis.schemas import check_query, parse
from quoting.schemas import (
    MAX_AMOUNT_DIGITS,
    PARAMETERS,
    PAYMENT,
    RECEIVER,
    RESERVATION,
    exponents,
    same_amount,
)
from support.messages import QUOTE


def loaded(schema=RESERVATION, **changed: object) -> dict[str, str]:
    return parse(schema, json.dumps({**QUOTE, **changed}).encode())


def faulty(schema=RESERVATION, **changed: object) -> dict[str, str]:
    """The message of each field at fault."""
    with pytest.raises(InvalidBodyError) as raised:
        loaded(schema, **changed)
    return {fault.key: fault.message for fault in raised.value.faults}


def test_the_sample_of_the_quote_api_is_a_reservation_and_a_payment():
    assert QUOTE == loaded() == loaded(PAYMENT)
    assert PARAMETERS == tuple(QUOTE)


@pytest.mark.parametrize(
    "amount",
    [12.5, "12,50", "1e3", "1_000", " 12", "0.00", "-1", "٣", 12, True, None, "", "0", "00.1", "012", ".5", "1.", "+1",
     "12.50\n", "1.2.3", "0x1", "NaN", "Infinity", "1" * 19, "0." + "1" * 18, "1٣", "१२", "1\u00a0000"],
)  # fmt: skip
def test_any_other_value_is_not_an_amount(amount):
    assert ["amount"] == list(faulty(amount=amount))


@pytest.mark.parametrize("amount", ["0.01", "1", "12.5", "12.50", "10", "9" * 16 + ".99", "9" * 18])
def test_a_plain_positive_decimal_string_is_an_amount(amount):
    assert amount == loaded(amount=amount)["amount"]


@given(
    units=st.integers(1, 10**MAX_AMOUNT_DIGITS - 1),
    code=st.sampled_from(["USD", "JPY", "KWD", "CLF"]),
)
def test_an_amount_may_have_as_many_fraction_digits_as_its_currency(units, code):
    exponent = exponents()[code]
    amount = f"{Decimal(units).scaleb(-exponent):.{exponent}f}"
    fits = len(amount.replace(".", "")) <= MAX_AMOUNT_DIGITS

    assert fits
    assert amount == loaded(amount=amount, currencyCode=code)["amount"]


@given(text=st.text(max_size=20))
def test_every_accepted_amount_is_a_number_above_zero(text):
    try:
        amount = loaded(PAYMENT, amount=text)["amount"]
    except InvalidBodyError:
        return
    assert amount.isascii()
    assert 0 < Decimal(amount) < 10**18


@pytest.mark.parametrize(
    ("code", "exponent"), [("USD", 2), ("EUR", 2), ("JPY", 0), ("KWD", 3), ("BHD", 3), ("CLF", 4), ("UGX", 0)]
)
def test_a_currency_has_the_exponent_of_iso_4217(code, exponent):
    assert exponent == exponents()[code]
    right = "1." + "0" * exponent if exponent else "1"
    assert right == loaded(amount=right, currencyCode=code)["amount"]
    assert ["amount"] == list(faulty(amount="1." + "0" * (exponent + 1), currencyCode=code))


def test_every_currency_with_an_exponent_is_known():
    with_one = {code for code, row in raw_table.items() if str(row["CcyMnrUnts"]).isdigit() and code}

    assert with_one == set(exponents())
    assert not {"XAU", "XXX", "XDR", None} & set(exponents())


def test_an_amount_of_an_unknown_currency_has_one_fault():
    assert ["currencyCode"] == list(faulty(currencyCode="ZZZ", amount="1.00000"))


@pytest.mark.parametrize("key", PARAMETERS)
def test_each_field_is_a_string_of_printable_text(key):
    for value in [1, 1.5, None, True, [], {}, ["x"], "", "a\x00", "a\n", "\x7f", "\x85", "\ud800"]:
        assert [key] == list(faulty(**{key: value}))


@pytest.mark.parametrize("key", PARAMETERS)
@pytest.mark.parametrize("schema", [RESERVATION, PAYMENT])
def test_each_field_is_required(schema, key):
    body = json.dumps({each: value for each, value in QUOTE.items() if each != key}).encode()

    with pytest.raises(InvalidBodyError) as raised:
        parse(schema, body)
    assert [(key, "is missing")] == [(fault.key, fault.message) for fault in raised.value.faults]


def test_all_faults_are_listed_at_once():
    assert {"amount", "identifier", "x"} == set(faulty(amount="x", identifier="", x=1))


def test_a_fault_of_two_fields_together_is_listed_with_the_others():
    assert {"amount", "account"} == set(faulty(amount="1.000", account="x"))


@pytest.mark.parametrize("key", ["x", "submissionUrl", "uuid", "Amount", "sourceAmount"])
def test_an_unknown_field_is_named(key):
    assert {key: "is not a field of this message"} == faulty(**{key: "1"})


@pytest.mark.parametrize("key", ["sourceAmount", "destinationAmount"])
def test_a_payment_may_repeat_the_reserved_amounts(key):
    assert "13.75" == loaded(PAYMENT, **{key: "13.75"})[key]
    assert "13.7500" == loaded(PAYMENT, **{key: "13.7500"})[key]
    assert [key] == list(faulty(PAYMENT, **{key: "1e3"}))


def test_a_fault_holds_the_value_as_text():
    with pytest.raises(InvalidBodyError) as raised:
        parse(RESERVATION, json.dumps({**QUOTE, "amount": 12.50, "identifierType": "X" * 100}).encode())

    assert {"amount": "12.5", "identifierType": "X" * 100} == {
        fault.key: fault.value for fault in raised.value.faults
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("12.5", "12.50", True),
        ("12", "12.00", True),
        ("12.5", "12.51", False),
        ("1" * 18, "1" * 17 + "2", False),
    ],
)
def test_amounts_are_compared_as_numbers(one, other, same):
    assert same is same_amount(one, other)


def test_the_faults_of_a_query_are_listed():
    with pytest.raises(InvalidQueryParameterError) as raised:
        check_query(RECEIVER, (("identifierType", "EUR"),))

    assert {"identifierType", "identifier"} == {fault.key for fault in raised.value.faults}
    assert {"identifierType": "eur", "identifier": "1"} == check_query(
        RECEIVER, (("identifierType", "eur"), ("identifier", "1"), ("submissionUrl", "x"))
    )


def test_at_most_32_faults_are_listed_and_the_others_are_counted():
    """A body of 64 KiB with unknown fields had a response of 550 KiB."""
    with pytest.raises(InvalidBodyError) as raised:
        loaded(**{f"unknown{number}": "1" for number in range(50)})

    assert 32 == len(raised.value.faults)
    assert (
        "The body is not valid for this operation: unknown0 is not a field of this message, and 49 more"
        " (the first 32 are listed)."
    ) == raised.value.message


def test_the_response_to_a_body_of_64_kib_with_unknown_fields_is_short():
    body = json.dumps({f"unknown {number}": "\u00e4" for number in range(2_500)}).encode()
    assert 60_000 < len(body) < 65_536

    with pytest.raises(InvalidBodyError) as raised:
        parse(RESERVATION, body)
    assert len(error_object(raised.value, "dfsp-api", "t")) < 1_000
    many = {f"{number}{'x' * 600}": "y" * 64 for number in range(90)}
    with pytest.raises(InvalidBodyError) as raised:
        loaded(**many)
    assert len(error_object(raised.value, "dfsp-api", "t")) < 12_000
