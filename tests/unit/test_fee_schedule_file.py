"""A fee schedule that cannot be used is refused when it is read, with the rule and the amount."""

import os
import subprocess
import sys

import pytest

from chassis.run import StartError
from dfsp_api.fee_schedule_file import FeeScheduleError, parse_fee_schedule
from dfsp_api.payee import load_fees

RULE = 'transferType = "p2p"\ncurrencyCode = "USD"\n'
STEP = '[[rule.step]]\nfrom = "0.01"\nto = "10.00"\n'
GOOD = f"[[rule]]\n{RULE}{STEP}"


def refusal(text: str) -> str:
    with pytest.raises(FeeScheduleError) as raised:
        parse_fee_schedule(text)
    return str(raised.value)


def steps(*rows: str, settings: str = "") -> str:
    """A rule for p2p USD; each row is ``from to flat percent``."""
    text = f"[[rule]]\n{RULE}{settings}\n"
    for row in rows:
        first, last, flat, percent = row.split()
        text += f'[[rule.step]]\nfrom = "{first}"\nto = "{last}"\nflat = "{flat}"\npercent = "{percent}"\n'
    return text


def test_the_schedule_that_the_other_tests_start_from_is_accepted():
    assert [("p2p", "USD")] == list(parse_fee_schedule(GOOD).rules)


def test_a_larger_amount_that_would_cost_less_is_refused_with_rule_and_amount():
    """10.01 at 1 % costs 10.11, and 10.00 with a flat 5.00 costs 15.00."""
    message = refusal(steps("0.01 10.00 5.00 0", "10.01 20.00 0 1"))

    assert (
        "rule p2p USD: 10.01 would cost the sender 10.11 in total, which is not more than the 15.00 for 10.00"
        == message
    )


def test_a_larger_amount_that_would_cost_as_much_is_refused():
    message = refusal(steps("0.01 10.00 0.01 0", "10.01 20.00 0 0"))

    assert (
        "rule p2p USD: 10.01 would cost the sender 10.01 in total, which is not more than the 10.01 for 10.00"
        == message
    )


def test_a_larger_amount_that_costs_one_minor_unit_more_is_accepted():
    parse_fee_schedule(steps("0.01 10.00 0.01 0", "10.01 20.00 0.01 0"))
    parse_fee_schedule(steps("0.01 10.00 0.02 0", "10.01 20.00 0.02 0"))


def test_each_boundary_between_two_steps_is_checked():
    message = refusal(steps("0.01 1.00 0 0", "1.01 2.00 1.00 0", "2.01 3.00 0.50 0"))

    assert "rule p2p USD: 2.01 would cost the sender 2.51" in message


def test_a_minimum_fee_can_make_up_for_a_falling_step():
    parse_fee_schedule(steps("0.01 10.00 5.00 0", "10.01 20.00 0 1", settings='least = "5.00"'))


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        (("0.01 10.00 0 0", "10.02 20.00 0 0"), "at 10.01, not 10.02"),
        (("0.01 10.00 0 0", "10.00 20.00 0 0"), "at 10.01, not 10.00"),
        (("0.01 10.00 0 0", "0.01 10.00 0 0"), "at 10.01, not 0.01"),
        (("0.01 10.00 0 0", "10.01 20.00 0 0", "5.00 6.00 0 0"), "at 20.01, not 5.00"),
        (("10.01 20.00 0 0", "0.01 10.00 0 0"), "at 20.01, not 0.01"),
    ],
    ids=["gap", "overlap", "the same again", "a third below the first two", "out of order"],
)
def test_steps_follow_each_other_without_gap_or_overlap(rows, place):
    message = refusal(steps(*rows))

    assert message.startswith("rule p2p USD: after the step to ")
    assert message.endswith(f"the next must begin {place}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("rule = [", "is not TOML"),
        ("x = " + "9" * 5_000, "is not TOML"),
        ("", r"must hold \[\[rule\]\] tables and nothing else"),
        ("[rule]\n" + RULE, "and nothing else"),
        ("rule = [1]", "and nothing else"),
        (GOOD + "[other]\nx = 1\n", "and nothing else"),
        (f'[[rule]]\ncurrencyCode = "USD"\n{STEP}', "needs transferType"),
        (f'[[rule]]\ntransferType = "p2p"\n{STEP}', "needs currencyCode"),
        (f'[[rule]]\ntransferType = []\ncurrencyCode = "USD"\n{STEP}', "needs transferType"),
        (f'[[rule]]\ntransferType = ["p2p", 1]\ncurrencyCode = "USD"\n{STEP}', "needs transferType"),
        (GOOD + GOOD, "rule p2p USD: there is another rule for it"),
        (f'[[rule]]\ntransferType = "p2p"\ncurrencyCode = ["USD", "USD"]\n{STEP}', "there is another rule"),
        (f"[[rule]]\n{RULE}", "rule p2p USD: needs"),
        (f"[[rule]]\n{RULE}step = []", "rule p2p USD: needs"),
        (f"[[rule]]\n{RULE}step = [1]", "rule p2p USD: needs"),
        (f"[[rule]]\n{RULE}step = 1", "rule p2p USD: needs"),
        (f"[[rule]]\n{RULE}leest = '1'\n{STEP}", "rule p2p USD: leest: no such setting"),
        (f"[[rule]]\n{RULE}{STEP}percentage = '1'", "percentage: no such setting of a step"),
        (f"[[rule]]\n{RULE}rounding = 'up_half'\n{STEP}", "rounding must be one of half_up, half_down"),
        (f"[[rule]]\n{RULE}rounding = []\n{STEP}", "rounding must be one of"),
        (f"[[rule]]\n{RULE}most = '1.00'\nleast = '1.01'\n{STEP}", "most 1.00 is less than least"),
        (GOOD.replace('"0.01"', '"0"'), "from must be above zero"),
        (GOOD.replace('"0.01"', '"0.00"'), "from must be above zero"),
        (GOOD.replace('"10.00"', '"0.00"'), "a step ends at 0.00, before it begins"),
        (GOOD.replace('"10.00"', '"999999999999999999"'), "more than 18 digits"),
    ],
)
def test_a_refusal_says_what_is_wrong_with_the_schedule(text, reason):
    with pytest.raises(FeeScheduleError, match=reason):
        parse_fee_schedule(text)


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("transferType", "p2p ", "'p2p '"),
        ("transferType", "", "''"),
        ("transferType", "p" * 33, "'" + "p" * 33 + "'"),
        ("transferType", "p2p\u200b", r"'p2p\u200b'"),
        ("transferType", "р2р", r"'\u04402\u0440'"),  # noqa: RUF001 - Cyrillic letters
        ("transferType", "p2p\\n", r"'p2p\n'"),
        ("transferType", "*", "'*'"),
        ("currencyCode", "XAU", "'XAU'"),
        ("currencyCode", "usd", "'usd'"),
        ("currencyCode", "ABC", "'ABC'"),
        ("currencyCode", "USD ", "'USD '"),
        ("currencyCode", "", "''"),
    ],
)
def test_a_fee_rule_that_no_request_can_match_is_refused(key, value, shown):
    """A rule for `p2p ` would never apply, and every p2p request would be answered NoFeeScheduleError."""
    known = {"transferType": "p2p", "currencyCode": "USD"}[key]
    text = GOOD.replace(f'{key} = "{known}"', f'{key} = "{value}"')

    assert refusal(text).startswith(f"each rule: {key} {shown} must ")
    # also as one of several
    assert refusal(text.replace(f'"{value}"', f'["{known}", "{value}"]')).startswith(
        f"each rule: {key} {shown} "
    )


@pytest.mark.parametrize(
    "value", ["0.5", "1", "true", "'-1'", "'1e3'", "' 1'", "'1_0'", "'٣'", "'01'", "'.5'"]
)
@pytest.mark.parametrize("key", ["from", "to", "flat", "percent", "least", "most"])
def test_a_number_is_a_plain_string(key, value):
    """A TOML float would not be exact, and a fee is never negative."""
    line = f"{key} = {value}\n"
    if key in {"least", "most"}:
        text = f"[[rule]]\n{RULE}{line}{STEP}"
    else:
        text = f"[[rule]]\n{RULE}{step_without(key)}{line}"

    assert f"rule p2p USD: {key} must be a string such as" in refusal(text)


@pytest.mark.parametrize("key", ["from", "to"])
def test_a_step_has_both_ends(key):
    assert f"rule p2p USD: {key} must be a string" in refusal(f"[[rule]]\n{RULE}{step_without(key)}")


def step_without(key: str) -> str:
    return "".join(line for line in STEP.splitlines(keepends=True) if not line.startswith(key))


@pytest.mark.parametrize(
    ("currency", "value", "digits"), [("USD", "1.001", 2), ("JPY", "1.0", 0), ("KWD", "1.0001", 3)]
)
def test_an_amount_has_no_more_fraction_digits_than_its_currency(currency, value, digits):
    text = f'[[rule]]\ntransferType = "p2p"\ncurrencyCode = "{currency}"\n'
    text += f'[[rule.step]]\nfrom = "1"\nto = "{value}"\n'

    assert f"rule p2p {currency}: to {value} has more than {digits} fraction digits" == refusal(text)


@pytest.mark.parametrize("value", ["1234567890123456789", "0." + "0" * 18, "9" * 5_000])
@pytest.mark.parametrize("key", ["to", "percent"])
def test_a_number_has_at_most_18_digits(key, value):
    message = refusal(f'[[rule]]\n{RULE}{step_without(key)}{key} = "{value}"\n')

    assert f"rule p2p USD: {key} must be a string" in message
    assert len(message) < 200


def test_a_percentage_is_at_most_1000():
    parse_fee_schedule(f"[[rule]]\n{RULE}{STEP}percent = '1000'")

    assert "percent must be" in refusal(f"[[rule]]\n{RULE}{STEP}percent = '1000.01'")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (steps("0.01 10.00 5.00 0", "10.01 20.00 0 1").encode(), "{}: rule p2p USD: 10.01 would cost"),
        (GOOD.replace("p2p", "p2p ").encode(), "{}: each rule: transferType 'p2p ' must be"),
        (b"\xff\xfe", "The fee schedule {}, line 1: is not UTF-8"),
        (None, "The fee schedule {} cannot be read: No such file"),
    ],
    ids=["not increasing", "impossible", "not UTF-8", "no file"],
)
def test_a_refused_schedule_is_a_start_error_that_names_the_file(tmp_path, content, reason):
    fees = tmp_path / "fees.toml"
    if content is not None:
        fees.write_bytes(content)

    with pytest.raises(StartError) as raised:
        load_fees(fees)
    assert str(raised.value).startswith(reason.format(fees))


def test_a_schedule_may_begin_with_a_byte_order_mark(tmp_path):
    (tmp_path / "fees.toml").write_text(GOOD, encoding="utf-8-sig")

    assert parse_fee_schedule(GOOD) == load_fees(tmp_path / "fees.toml")


def test_the_payee_does_not_start_with_a_refused_schedule(users_file, tmp_path):
    """It ends with status 2 and one line that says what to change."""
    fees = tmp_path / "fees.toml"
    fees.write_text(GOOD.replace("p2p", "p2p "))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("QUOTES_")},
        "QUOTES_ROLE": "payee",
        "QUOTES_PORT": "0",
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "QUOTES_FEE_SCHEDULE": str(fees),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "dfsp_api"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 2 == ended.returncode
    assert ended.stderr.startswith(f"error: {fees}: each rule: transferType 'p2p ' must be ")
    assert 1 == len(ended.stderr.splitlines())
