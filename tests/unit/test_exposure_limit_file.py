"""Exposure limits in TOML: what is accepted, and how each fault is named."""

import re
from decimal import Decimal

import pytest

from dfsp_api.exposure_limit_file import MAX_LIMITS, ExposureLimitsError, parse_exposure_limits
from dfsp_api.exposure_limits import Exposure, ExposureLimit, ExposureRefusal

ONE = """
[[limit]]
caller = "alice"
currencyCode = "USD"
sumLimit = "1000.00"
"""


def test_a_limit_is_for_each_pair_of_its_callers_and_currencies():
    limits = parse_exposure_limits(
        '[[limit]]\ncaller = ["alice", "bob"]\ncurrencyCode = ["USD", "EUR"]\nsumLimit = "10.5"\ncountLimit = 3\n'
    )

    expected = ExposureLimit(Decimal("10.5"), 3)
    assert {(caller, currency): expected for caller in ("alice", "bob") for currency in ("USD", "EUR")} == (
        limits.by_pair
    )
    assert expected == limits.of("bob", "EUR")
    assert None is limits.of("bob", "JPY")
    assert None is limits.of("carol", "USD")


def test_one_of_the_two_limits_is_enough_and_zero_is_a_limit():
    assert ExposureLimit(Decimal("1000.00"), None) == parse_exposure_limits(ONE).of("alice", "USD")
    assert ExposureLimit(None, 0) == parse_exposure_limits(
        ONE.replace('sumLimit = "1000.00"', "countLimit = 0")
    ).of("alice", "USD")


def test_an_e_mail_address_is_the_same_caller_in_upper_and_lower_case():
    limits = parse_exposure_limits(ONE.replace("alice", "Alice@example.com"))

    assert limits.of("alice@EXAMPLE.com", "USD")
    assert limits.has_any_of(["alice@example.COM"])
    assert not limits.has_any_of(["alice"])


def test_a_file_can_have_no_limits_but_must_say_so():
    assert {} == parse_exposure_limits("limit = []").by_pair


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold [[limit]] tables and nothing else"),
        ("limits = []", "must hold [[limit]] tables and nothing else"),
        ("limit = 1", "must hold [[limit]] tables and nothing else"),
        (ONE + "[other]\n", "must hold [[limit]] tables and nothing else"),
        ("[[limit]\n", "not TOML: "),
        ("x = " + "1" * 5_000, "not TOML: "),
        ("x = " + "[" * 5_000, "not TOML: "),
        (ONE + ONE, "line 7: its caller 1 has another limit in USD"),
        (ONE + ONE.replace("alice", "bob:"), "line 7: its caller 1: a name is 1 to 64 visible characters"),
        (ONE.replace("sumLimit", "limit"), "line 2: 'limit': no such setting"),
        (ONE.replace('sumLimit = "1000.00"', ""), "line 2: needs sumLimit, countLimit or both"),
        (ONE.replace('"1000.00"', "1000.00"), "line 2: sumLimit must be a string such as '1000.00'"),
        (ONE.replace("1000.00", "1e3"), "line 2: sumLimit must be a string such as '1000.00'"),
        (ONE.replace("1000.00", "-1"), "line 2: sumLimit must be a string such as '1000.00'"),
        (ONE.replace("1000.00", "1" * 19), "at most 18 digits"),
        (ONE.replace("1000.00", "1000.001"), "line 2: sumLimit 1000.001 has more than 2 fraction digits"),
        (ONE.replace('"USD"', '["USD", "JPY"]'), "line 2: sumLimit 1000.00 has more than 0 fraction digits"),
        (ONE.replace("USD", "usd"), "line 2: currencyCode 'usd' must be an ISO 4217 currency"),
        (ONE.replace('"USD"', "[]"), "line 2: needs currencyCode: a string, or a list of strings"),
        (ONE.replace('caller = "alice"', ""), "line 2: needs caller: a string, or a list of strings"),
        (ONE + "countLimit = -1", "line 2: countLimit must be a whole number from 0 to 1,000,000,000,000"),
        (ONE + "countLimit = true", "line 2: countLimit must be a whole number"),
        (ONE + "countLimit = 1.0", "line 2: countLimit must be a whole number"),
        ('limit = [{caller = "a", currencyCode = "USD"}]', "limit 1: needs sumLimit, countLimit or both"),
        ("limit = [1]", "limit 1: must be a [[limit]] table"),
    ],
)
def test_a_fault_is_named_with_its_line(text, message):
    with pytest.raises(ExposureLimitsError) as raised:
        parse_exposure_limits(text)

    assert message in str(raised.value)
    assert not {"alice", "bob:"} & set(re.findall(r"[\w:]+", str(raised.value)))


def test_the_number_of_limits_has_a_limit():
    names = ", ".join(f'"{number}"' for number in range(MAX_LIMITS + 1))

    with pytest.raises(ExposureLimitsError, match="more than 10,000 pairs"):
        parse_exposure_limits(ONE.replace('"alice"', f"[{names}]"))


@pytest.mark.parametrize(
    ("limit", "exposure", "fits"),
    [
        (ExposureLimit(Decimal("30.00"), None), Exposure(Decimal("16.25"), 9), True),
        (ExposureLimit(Decimal("30.00"), None), Exposure(Decimal("16.26"), 0), False),
        (ExposureLimit(None, 2), Exposure(Decimal(10**20), 1), True),
        (ExposureLimit(None, 2), Exposure(Decimal(0), 2), False),
        (ExposureLimit(Decimal("30.00"), 2), Exposure(Decimal("16.25"), 2), False),
    ],
)
def test_a_quote_fits_up_to_the_limit(limit, exposure, fits):
    assert fits == exposure.fits(limit, Decimal("13.75"))


def test_a_refusal_names_each_limit_with_all_fraction_digits():
    refusal = ExposureRefusal(ExposureLimit(Decimal(30), 2), Exposure(Decimal("27.5"), 2))

    error = refusal.error({"currencyCode": "USD", "amount": "12.5"}, Decimal("13.75"))

    assert [
        ("amount", "12.5", {"limit": "30.00", "exposure": "27.50", "requested": "13.75"}),
        ("currencyCode", "USD", {"limit": "2", "exposure": "2", "requested": "1"}),
    ] == [(fault.key, fault.value, fault.further) for fault in error.faults]
