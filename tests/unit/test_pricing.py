"""The fee of an amount by a fee schedule, in both operations."""

from decimal import Decimal

import pytest

from chassis.errors import AmountOutOfRangeError, NoFeeScheduleError
from dfsp_api.fee_schedule_file import parse_fee_schedule
from dfsp_api.payee import SAMPLE_FEES
from dfsp_api.pricing import FeeSchedule, Terms
from support.messages import QUOTE

SAMPLE = parse_fee_schedule(SAMPLE_FEES.read_text())


def schedule(steps: str, settings: str = "", currency: str = "USD") -> FeeSchedule:
    """One rule for p2p. Each line is one step: ``from to flat percent``."""
    text = f'[[rule]]\ntransferType = "p2p"\ncurrencyCode = "{currency}"\n{settings}\n'
    for line in steps.strip().splitlines():
        first, last, flat, percent = line.split()
        text += f'[[rule.step]]\nfrom = "{first}"\nto = "{last}"\nflat = "{flat}"\npercent = "{percent}"\n'
    return parse_fee_schedule(text)


def source(fees: FeeSchedule, amount: str, currency: str = "USD") -> str:
    terms = fees.price_source({**QUOTE, "amount": amount, "currencyCode": currency})
    assert Decimal(amount) == terms.destination_amount
    return str(terms.source_amount)


def destination(fees: FeeSchedule, amount: str, currency: str = "USD") -> str:
    terms = fees.price_destination({**QUOTE, "amount": amount, "currencyCode": currency})
    assert Decimal(amount) == terms.source_amount
    return str(terms.destination_amount)


def test_in_the_sample_12_50_costs_13_75():
    """The Quote API's example."""
    assert Terms(Decimal("13.75"), Decimal("12.50")) == SAMPLE.price_source(QUOTE)


def test_in_the_sample_13_75_buys_12_50():
    assert Terms(Decimal("13.75"), Decimal("12.50")) == SAMPLE.price_destination({**QUOTE, "amount": "13.75"})


@pytest.mark.parametrize(
    ("currency", "unit"), [("USD", "0.01"), ("EUR", "0.01"), ("JPY", "1"), ("KWD", "0.001")]
)
def test_splitting_a_payment_never_avoids_the_samples_fee(currency, unit):
    """10 % of 0.04 USD, rounded half up, were nothing: 250 payments of it cost 0.00 instead of 1.00."""
    fees = [
        int((Decimal(source(SAMPLE, str(number * Decimal(unit)), currency)) / Decimal(unit)) - number)
        for number in range(1, 401)
    ]
    parts = [
        (fees[one - 1] + fees[other - 1], fees[one + other - 1])
        for one in range(1, 200)
        for other in range(1, 200)
    ]

    assert min(fees) == 1
    assert all(split >= whole for split, whole in parts)


@pytest.mark.parametrize(
    ("currency", "amount", "expected"),
    [
        ("USD", "1", "1.10"),
        ("USD", "0.01", "0.02"),
        ("USD", "0.11", "0.13"),
        ("EUR", "99.99", "109.99"),
        ("JPY", "1000", "1100"),
        ("JPY", "5", "6"),
        ("KWD", "1.234", "1.358"),
        ("KWD", "0.005", "0.006"),
        ("KWD", "12.5", "13.750"),
    ],
)
def test_amounts_carry_the_currencys_own_fraction_digits(currency, amount, expected):
    """ISO 4217: two digits for USD and EUR, none for JPY, three for KWD."""
    assert expected == source(SAMPLE, amount, currency)


@pytest.mark.parametrize(
    ("rounding", "of_0_5", "of_1_5", "of_1_4", "of_1_6", "of_2_0"),
    [
        ("half_up", 1, 2, 1, 2, 2),
        ("half_down", 0, 1, 1, 2, 2),
        ("half_even", 0, 2, 1, 2, 2),
        ("up", 1, 2, 2, 2, 2),
        ("down", 0, 1, 1, 1, 2),
    ],
)
def test_a_fee_is_rounded_once_by_the_rules_rounding(rounding, of_0_5, of_1_5, of_1_4, of_1_6, of_2_0):
    """Ten per cent of 5, 15, 14, 16 and 20 yen."""
    fees = schedule("1 1000 0 10", f'rounding = "{rounding}"', "JPY")

    for amount, fee in {5: of_0_5, 15: of_1_5, 14: of_1_4, 16: of_1_6, 20: of_2_0}.items():
        assert str(amount + fee) == source(fees, str(amount), "JPY")


def test_rounding_is_half_up_by_default():
    assert "6" == source(schedule("1 1000 0 10", currency="JPY"), "5", "JPY")


def test_a_fee_is_flat_plus_percentage():
    assert "102.75" == source(schedule("0.01 1000.00 0.25 2.5"), "100.00")


def test_a_fee_is_not_below_the_minimum():
    fees = schedule("0.01 1000.00 0 10", 'least = "0.50"')

    assert "4.50" == source(fees, "4.00")
    assert "5.50" == source(fees, "5.00")
    assert "5.51" == source(fees, "5.01")


def test_a_fee_is_not_above_the_maximum():
    fees = schedule("0.01 1000.00 0 10", 'most = "2.00"')

    assert "21.99" == source(fees, "19.99")
    assert "22.00" == source(fees, "20.00")
    assert "1002.00" == source(fees, "1000.00")


def test_minimum_and_maximum_come_before_rounding():
    """2.4 minor units are raised to 3, and not rounded down to 2."""
    fees = schedule("0.01 10.00 0 10", 'least = "0.03"\nrounding = "down"')

    assert "0.27" == source(fees, "0.24")


def test_a_share_finer_than_a_binary_float_is_exact():
    """29 % of 0.50 is 14.5 minor units exactly; 0.29 * 50 in floats is 14.499999999999998."""
    assert "0.65" == source(schedule("0.01 10.00 0 29"), "0.50")


STAIRS = """
0.01 100.00 1.00 0
100.01 1000.00 1.00 1
1000.01 5000.00 20.00 0.5
"""


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        ("0.01", "1.01"),
        ("100.00", "101.00"),
        ("100.01", "102.01"),
        ("1000.00", "1011.00"),
        ("1000.01", "1025.01"),
        ("5000.00", "5045.00"),
    ],
)
def test_a_steps_bounds_are_inclusive(amount, expected):
    """Both ends of each step, on the destination amount."""
    assert expected == source(schedule(STAIRS), amount)
    assert amount == destination(schedule(STAIRS), expected)


@pytest.mark.parametrize("amount", ["101.01", "101.50", "102.00"])
def test_a_source_amount_between_two_steps_buys_the_end_of_the_lower_step(amount):
    """102.00 pays for 100.00 only, as 100.01 costs 102.01. The rest is fee."""
    assert "100.00" == destination(schedule(STAIRS), amount)


@pytest.mark.parametrize("amount", ["9.99", "1000.01", "99999999999999.99", "999999999999999999"])
def test_a_destination_amount_outside_the_bounds_is_refused(amount):
    fees = schedule("10.00 1000.00 1.00 0")

    with pytest.raises(AmountOutOfRangeError, match=r"from 10\.00 to 1000\.00 "):
        source(fees, amount)


@pytest.mark.parametrize("amount", ["10.99", "1001.01", "999999999999999999", "0.01"])
def test_a_source_amount_outside_the_bounds_is_refused(amount):
    """Below the cost of the smallest destination amount nothing is left after the fee."""
    fees = schedule("10.00 1000.00 1.00 0")

    with pytest.raises(AmountOutOfRangeError, match=r"from 11\.00 to 1001\.00 "):
        destination(fees, amount)


def test_both_bounds_are_inclusive():
    fees = schedule("10.00 1000.00 1.00 0")

    assert ("11.00", "1001.00") == (source(fees, "10.00"), source(fees, "1000.00"))
    assert ("10.00", "1000.00") == (destination(fees, "11.00"), destination(fees, "1001.00"))


def test_an_amount_that_leaves_nothing_after_the_fee_is_refused():
    fees = schedule("0.01 1000.00 1.00 0")

    with pytest.raises(AmountOutOfRangeError):
        destination(fees, "1.00")
    assert "0.01" == destination(fees, "1.01")


@pytest.mark.parametrize(
    "change", [{"transferType": "p2b"}, {"transferType": "P2P"}, {"currencyCode": "GBP"}]
)
def test_without_a_rule_there_is_no_fee_schedule(change):
    for price in (SAMPLE.price_source, SAMPLE.price_destination):
        with pytest.raises(NoFeeScheduleError):
            price({**QUOTE, **change})


def test_a_rule_applies_to_each_of_its_currencies_and_transfer_types():
    fees = parse_fee_schedule("""
        [[rule]]
        transferType = ["p2p", "p2b"]
        currencyCode = ["USD", "JPY"]
        [[rule.step]]
        from = "1"
        to = "10"
    """)

    assert {("p2p", "USD"), ("p2p", "JPY"), ("p2b", "USD"), ("p2b", "JPY")} == set(fees.rules)
    assert ("10.00", "10") == (source(fees, "10", "USD"), source(fees, "10", "JPY"))


def test_amounts_of_18_digits_are_exact():
    fees = schedule("0.01 9000000000000000.00 0 10")

    assert "9876543210987654.31" == source(fees, "8978675646352413.01")
    assert "8978675646352413.01" == destination(fees, "9876543210987654.31")
