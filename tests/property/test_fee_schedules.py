"""Properties of pricing over generated schedules and amounts, and an oracle that tries each amount.

The oracle uses only Decimal and loops, and shares nothing with the code under test.
"""

import decimal
import itertools
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.errors import AmountOutOfRangeError
from dfsp_api.fee_schedule_file import FeeScheduleError, fee_schedule_of, parse_fee_schedule
from dfsp_api.fee_schedule_record import canonical_form, explanation
from dfsp_api.pricing import FeeSchedule
from support.messages import QUOTE

EXPONENTS = {"USD": 2, "JPY": 0, "KWD": 3}
ROUNDINGS = {
    "half_up": decimal.ROUND_HALF_UP,
    "half_down": decimal.ROUND_HALF_DOWN,
    "half_even": decimal.ROUND_HALF_EVEN,
    "up": decimal.ROUND_UP,
    "down": decimal.ROUND_DOWN,
}
Rule = Mapping[str, Any]

thorough = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(minor_units: int, currency: str) -> str:
    return str(Decimal(minor_units).scaleb(-EXPONENTS[currency]))


def toml(rule: Rule) -> str:
    currency = rule["currency"]
    text = f'[[rule]]\ntransferType = "p2p"\ncurrencyCode = "{currency}"\nrounding = "{rule["rounding"]}"\n'
    for key in ("least", "most"):
        if rule[key] is not None:
            text += f'{key} = "{written(rule[key], currency)}"\n'
    for first, last, flat, percent in rule["steps"]:
        text += (
            f'[[rule.step]]\nfrom = "{written(first, currency)}"\nto = "{written(last, currency)}"\n'
            f'flat = "{written(flat, currency)}"\npercent = "{percent}"\n'
        )
    return text


@st.composite
def rules(draw, *, longest: int, dearest: int) -> Rule:
    """A rule in minor units: one to five steps of up to `longest` amounts each, flat fees to `dearest`."""
    steps = []
    first = draw(st.integers(1, 50))
    for _ in range(draw(st.integers(1, 5))):
        last = first + draw(st.integers(0, longest))
        # with halves of a per cent, many fees lie exactly between two units
        fraction = draw(st.sampled_from([0, 5_000]) | st.integers(0, 9_999))
        percent = f"{draw(st.integers(0, 120))}.{fraction:04}"
        steps.append((first, last, draw(st.integers(0, dearest)), percent))
        first = last + 1
    if draw(st.booleans()):  # most schedules drawn at random fall somewhere; these never do
        flats = sorted(step[2] for step in steps)
        percents = sorted((step[3] for step in steps), key=Decimal)
        steps = [
            (first, last, *fees) for (first, last, *_), *fees in zip(steps, flats, percents, strict=True)
        ]
    least = draw(st.none() | st.integers(0, dearest))
    most = draw(st.none() | st.integers(0, 3 * dearest))
    if least is not None and most is not None and most < least:
        least, most = most, least
    return {
        "currency": draw(st.sampled_from(sorted(EXPONENTS))),
        "rounding": draw(st.sampled_from(sorted(ROUNDINGS))),
        "steps": steps,
        "least": least,
        "most": most,
    }


def oracle_source(rule: Rule, amount: int) -> int:
    """The total cost of `amount` in minor units, computed with Decimal."""
    with decimal.localcontext() as context:
        context.prec = 60
        for first, last, flat, percent in rule["steps"]:
            if first <= amount <= last:
                fee = Decimal(flat) + Decimal(amount) * Decimal(percent) / Decimal(100)
        if rule["least"] is not None:
            fee = max(fee, Decimal(rule["least"]))
        if rule["most"] is not None:
            fee = min(fee, Decimal(rule["most"]))
        return amount + int(fee.quantize(Decimal(1), rounding=ROUNDINGS[rule["rounding"]]))


def amounts(rule: Rule) -> range:
    return range(rule["steps"][0][0], rule["steps"][-1][1] + 1)


def price(fees: FeeSchedule, rule: Rule, minor_units: int, *, source: bool) -> int:
    """The other amount, in minor units."""
    currency = rule["currency"]
    request = {**QUOTE, "currencyCode": currency, "amount": written(minor_units, currency)}
    if source:
        terms = fees.price_source(request)
        other, same = terms.source_amount, terms.destination_amount
    else:
        terms = fees.price_destination(request)
        other, same = terms.destination_amount, terms.source_amount
    assert Decimal(request["amount"]) == same
    assert -EXPONENTS[currency] == other.as_tuple().exponent
    return int(other.scaleb(EXPONENTS[currency]))


@settings(thorough, max_examples=250)
@given(rules(longest=25, dearest=20))
def test_a_schedule_is_accepted_exactly_when_every_larger_amount_costs_more(rule):
    """Each amount is tried; a refusal names the first amount that does not cost more."""
    costs = [(amount, oracle_source(rule, amount)) for amount in amounts(rule)]
    falls = [
        (written(amount, rule["currency"]), written(cost, rule["currency"]))
        for (_, before), (amount, cost) in itertools.pairwise(costs)
        if cost <= before
    ]
    if not falls:
        parse_fee_schedule(toml(rule))
        return
    with pytest.raises(FeeScheduleError) as raised:
        parse_fee_schedule(toml(rule))
    amount, cost = falls[0]
    assert f"rule p2p {rule['currency']}: {amount} would cost the sender {cost} in total" in str(raised.value)


@settings(thorough, max_examples=250)
@given(rules(longest=25, dearest=8), st.data())
def test_both_amounts_equal_the_result_of_trying_every_amount(rule, data):
    """source(D) for each D; destination(S) is the largest D whose source(D) does not exceed S."""
    costs = {amount: oracle_source(rule, amount) for amount in amounts(rule)}
    try:
        fees = parse_fee_schedule(toml(rule))
    except FeeScheduleError:
        return
    sent = data.draw(st.integers(min(costs.values()), max(costs.values())))

    assert costs == {arriving: price(fees, rule, arriving, source=True) for arriving in costs}
    assert max(d for d, cost in costs.items() if cost <= sent) == price(fees, rule, sent, source=False)


@settings(thorough, max_examples=250)
@given(rules(longest=25, dearest=8), st.integers(1, 1_000))
def test_an_amount_is_refused_exactly_when_it_is_outside_the_bounds(rule, amount):
    costs = [oracle_source(rule, each) for each in amounts(rule)]
    try:
        fees = parse_fee_schedule(toml(rule))
    except FeeScheduleError:
        return
    for source, is_within in ((True, amount in amounts(rule)), (False, costs[0] <= amount <= costs[-1])):
        try:
            price(fees, rule, amount, source=source)
        except AmountOutOfRangeError:
            assert not is_within
        else:
            assert is_within


@settings(thorough, max_examples=250)
@given(rules(longest=10**12, dearest=100), st.data())
def test_source_and_destination_are_inverse(rule, data):
    """Promise 5, over more amounts than can be tried: D comes back, no fee is negative, a larger amount costs more."""
    try:
        fees = parse_fee_schedule(toml(rule))
    except FeeScheduleError:
        return
    ends = [end for first, last, *_ in rule["steps"] for end in (first, last)]
    arriving = data.draw(st.sampled_from(ends) | st.integers(ends[0], ends[-1]))
    sent = price(fees, rule, arriving, source=True)

    assert sent >= arriving
    assert arriving == price(fees, rule, sent, source=False)
    if arriving < ends[-1]:
        dearer = price(fees, rule, arriving + 1, source=True)
        assert sent < dearer
        assert arriving == price(fees, rule, dearer - 1, source=False)


@settings(thorough, max_examples=500)
@given(rules(longest=10**12, dearest=100), st.data())
def test_the_explanation_alone_recomputes_the_fee_to_the_unit(rule, data):
    """With Decimal by hand: the step's flat fee and percentage, the bounds, and one rounding."""
    try:
        fees = parse_fee_schedule(toml(rule))
    except FeeScheduleError:
        return
    ends = [end for first, last, *_ in rule["steps"] for end in (first, last)]
    arriving = data.draw(st.sampled_from(ends) | st.integers(ends[0], ends[-1]))
    amount = Decimal(written(arriving, rule["currency"]))
    explained = explanation(fees, fees.rules["p2p", rule["currency"]], amount)

    step = explained["step"]
    assert Decimal(step["from"]) <= amount <= Decimal(step["to"])
    with decimal.localcontext() as context:
        context.prec = 60
        unrounded = Decimal(step["flat"]) + amount * Decimal(step["percent"]) / 100
        unrounded = max(unrounded, Decimal(explained["least"]))
        if explained["most"] is not None:
            unrounded = min(unrounded, Decimal(explained["most"]))
        assert unrounded == Decimal(explained["unrounded"])
        unit = Decimal(1).scaleb(-EXPONENTS[rule["currency"]])
        fee = unrounded.quantize(unit, rounding=ROUNDINGS[explained["rounding"]])
    assert oracle_source(rule, arriving) - arriving == int(fee / unit)


@settings(thorough, max_examples=250)
@given(rules(longest=10**6, dearest=100))
def test_a_schedule_comes_back_from_its_canonical_form(rule):
    try:
        fees = parse_fee_schedule(toml(rule))
    except FeeScheduleError:
        return
    assert fees == fee_schedule_of({"rule": json.loads(canonical_form(fees.rules))})


def test_the_same_fees_have_the_same_id_however_the_file_writes_them():
    one = """
        [[rule]]
        transferType = "p2p"
        currencyCode = ["EUR", "USD"]
        step = [{from = "0.01", to = "10", flat = "1", percent = "2.50"}, {from = "10.01", to = "20.00", flat = "1.00"}]
    """
    other = """
        [[rule]]
        transferType = "p2p"
        currencyCode = "USD"
        least = "0"
        rounding = "half_up"
        step = [{from = "0.01", to = "10.00", flat = "1.0", percent = "2.5"}, {from = "10.01", to = "20", flat = "1"}]

        [[rule]]
        transferType = "p2p"
        currencyCode = "EUR"
        step = [{from = "0.01", to = "10.0", flat = "1", percent = "2.5"}, {from = "10.01", to = "20.0", flat = "1"}]
    """
    with pytest.raises(FeeScheduleError):
        parse_fee_schedule(one)  # the second step would be cheaper
    one, other = (text.replace('to = "20', 'percent = "2.5", to = "20') for text in (one, other))
    assert parse_fee_schedule(one).id == parse_fee_schedule(other).id
    assert parse_fee_schedule(one).id != parse_fee_schedule(one.replace('"20.00"', '"20.01"')).id
