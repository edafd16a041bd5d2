"""The messages of wire.md §2 (quoting.schemas)."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import raw_table

from chassis.errors import InvalidBodyError, InvalidQueryParameterError
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
    """Fields at fault and what is said of them."""
    with pytest.raises(InvalidBodyError) as raised:
        loaded(schema, **changed)
    return {fault.key: fault.message for fault in raised.value.faults}


def test_the_sources_sample_is_a_reservation_and_a_payment():
    assert QUOTE == loaded() == loaded(PAYMENT)
    assert PARAMETERS == tuple(QUOTE)


@pytest.mark.parametrize(
    "amount",
    [12.5, "12,50", "1e3", "1_000", " 12", "0.00", "-1", "٣", 12, True, None, "", "0", "00.1", "012", ".5", "1.", "+1",
     "12.50\n", "1.2.3", "0x1", "NaN", "Infinity", "1" * 19, "0." + "1" * 18, "1٣", "१२", "1\u00a0000"],
)  # fmt: skip
def test_an_amount_is_a_plain_positive_decimal_string(amount):
    assert ["amount"] == list(faulty(amount=amount))


@pytest.mark.parametrize("amount", ["0.01", "1", "12.5", "12.50", "10", "9" * 16 + ".99", "9" * 18])
def test_these_are_amounts(amount):
    assert amount == loaded(amount=amount)["amount"]


@given(
    units=st.integers(1, 10**MAX_AMOUNT_DIGITS - 1),
    code=st.sampled_from(["USD", "JPY", "KWD", "CLF"]),
)
def test_whatever_is_written_in_a_currencys_own_digits_is_an_amount(units, code):
    exponent = exponents()[code]
    amount = f"{Decimal(units).scaleb(-exponent):.{exponent}f}"
    fits = len(amount.replace(".", "")) <= MAX_AMOUNT_DIGITS

    assert fits
    assert amount == loaded(amount=amount, currencyCode=code)["amount"]


@given(text=st.text(max_size=20))
def test_whatever_is_taken_for_an_amount_is_a_number_above_zero(text):
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


def test_every_currency_of_the_table_that_has_an_exponent_is_known():
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


def test_all_faults_are_told_at_once():
    assert {"amount", "identifier", "x"} == set(faulty(amount="x", identifier="", x=1))


def test_an_amount_with_too_many_digits_and_another_fault_are_told_together():
    assert {"amount", "account"} == set(faulty(amount="1.000", account="x"))


@pytest.mark.parametrize("key", ["x", "submissionUrl", "uuid", "Amount", "sourceAmount"])
def test_a_field_that_is_not_known_is_refused_by_name(key):
    assert {key: "is not a field of this message"} == faulty(**{key: "1"})


@pytest.mark.parametrize("key", ["sourceAmount", "destinationAmount"])
def test_a_payment_may_name_what_was_reserved(key):
    assert "13.75" == loaded(PAYMENT, **{key: "13.75"})[key]
    assert "13.7500" == loaded(PAYMENT, **{key: "13.7500"})[key]
    assert [key] == list(faulty(PAYMENT, **{key: "1e3"}))


def test_a_value_in_a_fault_is_told_and_cut():
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


def test_a_query_names_its_faults():
    with pytest.raises(InvalidQueryParameterError) as raised:
        check_query(RECEIVER, (("identifierType", "EUR"),))

    assert {"identifierType", "identifier"} == {fault.key for fault in raised.value.faults}
    assert {"identifierType": "eur", "identifier": "1"} == check_query(
        RECEIVER, (("identifierType", "eur"), ("identifier", "1"), ("submissionUrl", "x"))
    )
