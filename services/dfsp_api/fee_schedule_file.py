"""Read a fee schedule from TOML text, and reject one that cannot be used (docs/fees.md). Pure: no I/O."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final, TypeGuard

from marshmallow import ValidationError

from dfsp_api.fee_schedule_record import schedule_id
from dfsp_api.pricing import FeeRule, FeeSchedule, FeeStep, Rounding
from quoting.schemas import AMOUNT, MAX_AMOUNT_DIGITS, RESERVATION, exponents

MAX_RATE_PERCENT: Final = 1_000


class FeeScheduleError(Exception):
    """A fee schedule cannot be used. The message names the rule and, if one is at fault, the amount."""


def parse_fee_schedule(text: str) -> FeeSchedule:
    """Return the fee schedule in a text with ``[[rule]]`` tables, which contain ``[[rule.step]]`` tables.

    Raises FeeScheduleError if a rule is malformed, if no request can match it, or if a larger amount would not cost the
    sender more in total than a smaller one. Such a rule would make it impossible to
    calculate one amount from the other.
    """
    try:
        content = tomllib.loads(text)
    # ValueError: bad TOML, or an integer of thousands of digits; RecursionError: thousands of nested arrays
    except (ValueError, RecursionError) as error:
        raise FeeScheduleError(f"the fee schedule is not TOML: {error}") from None
    return fee_schedule_of(content)


def fee_schedule_of(content: Mapping[str, Any]) -> FeeSchedule:
    """Return the fee schedule of a parsed file. Raises FeeScheduleError like `parse_fee_schedule`."""
    if set(content) != {"rule"} or not _are_tables(content["rule"]):
        raise FeeScheduleError("the fee schedule must hold [[rule]] tables and nothing else")
    rules: dict[tuple[str, str], FeeRule] = {}
    for table in content["rule"]:
        for currency in _strings(table, "currencyCode"):
            for transfer_type in _strings(table, "transferType"):
                if (transfer_type, currency) in rules:
                    raise FeeScheduleError(f"rule {transfer_type} {currency}: there is another rule for it")
                rules[transfer_type, currency] = _rule(table, transfer_type, currency)
    return FeeSchedule(rules, schedule_id(rules))


def changes(before: FeeSchedule, after: FeeSchedule) -> dict[str, int]:
    """Return for a log line how many rules there are, and how many of them are new, changed and gone."""
    both = before.rules.keys() & after.rules.keys()
    return {
        "rules": len(after.rules),
        "new": len(after.rules) - len(both),
        "changed": sum(before.rules[key] != after.rules[key] for key in both),
        "gone": len(before.rules) - len(both),
    }


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _strings(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key)
    values = value if isinstance(value, list) else [value]
    strings = [each for each in values if isinstance(each, str)]
    if not values or strings != values:
        raise FeeScheduleError(f"each rule needs {key}: a string, or a list of strings")
    return strings


def _rule(table: Mapping[str, Any], transfer_type: str, currency: str) -> FeeRule:
    _require_possible("transferType", transfer_type)
    _require_possible("currencyCode", currency)
    name = f"rule {transfer_type} {currency}"
    unknown = set(table) - {"transferType", "currencyCode", "step", "least", "most", "rounding"}
    if unknown:
        raise FeeScheduleError(f"{name}: {', '.join(sorted(unknown))}: no such setting")
    exponent = exponents()[currency]
    steps = table.get("step")
    if not steps or not _are_tables(steps):
        raise FeeScheduleError(f"{name}: needs [[rule.step]] tables")
    try:
        rounding = Rounding(table.get("rounding", "half_up"))
    except ValueError:
        raise FeeScheduleError(
            f"{name}: rounding must be one of {', '.join(r.value for r in Rounding)}"
        ) from None
    rule = FeeRule(
        transfer_type=transfer_type,
        currency=currency,
        exponent=exponent,
        steps=tuple(_step(step, name, exponent) for step in steps),
        min_fee=_amount(table, "least", name, exponent) if "least" in table else 0,
        max_fee=_amount(table, "most", name, exponent) if "most" in table else None,
        rounding=rounding,
    )
    _require_increasing(rule)
    return rule


def _require_possible(key: str, value: str) -> None:
    """Raise FeeScheduleError if no request can have this value. Applies the same check as to requests."""
    try:
        RESERVATION.fields[key].deserialize(value)
    except ValidationError as error:
        # !a (ascii), because zero-width characters would be invisible
        raise FeeScheduleError(f"each rule: {key} {value!a:.60} {' '.join(error.messages)}") from None


def _step(table: Mapping[str, Any], rule: str, exponent: int) -> FeeStep:
    unknown = set(table) - {"from", "to", "flat", "percent"}
    if unknown:
        raise FeeScheduleError(f"{rule}: {', '.join(sorted(unknown))}: no such setting of a step")
    percent = table.get("percent", "0")
    if not _is_number(percent) or Decimal(percent) > MAX_RATE_PERCENT:
        raise FeeScheduleError(
            f"{rule}: percent must be a string such as '1.5', at most {MAX_RATE_PERCENT}, not {percent!r:.40}"
        )
    return FeeStep(
        first=_amount(table, "from", rule, exponent),
        last=_amount(table, "to", rule, exponent),
        flat=_amount(table, "flat", rule, exponent) if "flat" in table else 0,
        share=Fraction(percent) / 100,
    )


def _amount(table: Mapping[str, Any], key: str, rule: str, exponent: int) -> int:
    """Return an amount of the schedule in minor units. The file has it as a string, because TOML floats are not exact.

    Raises FeeScheduleError.
    """
    value = table.get(key)
    if not _is_number(value):
        raise FeeScheduleError(
            f"{rule}: {key} must be a string such as '12.50', at most {MAX_AMOUNT_DIGITS} digits,"
            f" not {value!r:.40}"
        )
    if len(value.partition(".")[2]) > exponent:
        raise FeeScheduleError(f"{rule}: {key} {value} has more than {exponent} fraction digits")
    return int(Decimal(value).scaleb(exponent))


def _is_number(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and AMOUNT.match(value) is not None
        and len(value.replace(".", "")) <= MAX_AMOUNT_DIGITS
    )


def _require_increasing(rule: FeeRule) -> None:
    """Raise FeeScheduleError unless each larger amount costs the sender more in total than each smaller one.

    Checks only the borders between steps. The fee cannot fall within a step, because no share is negative, and neither
    the limits nor the rounding change the order.
    """
    if rule.max_fee is not None and rule.max_fee < rule.min_fee:
        raise FeeScheduleError(f"{rule.name}: most {rule.to_decimal(rule.max_fee)} is less than least")
    if not rule.steps[0].first:
        raise FeeScheduleError(f"{rule.name}: from must be above zero")
    for step in rule.steps:
        if step.last < step.first:
            raise FeeScheduleError(
                f"{rule.name}: a step ends at {rule.to_decimal(step.last)}, before it begins"
            )
    for step, next_step in pairwise(rule.steps):
        if next_step.first != step.last + 1:
            raise FeeScheduleError(
                f"{rule.name}: after the step to {rule.to_decimal(step.last)} the next must begin at"
                f" {rule.to_decimal(step.last + 1)}, not {rule.to_decimal(next_step.first)}"
            )
    # after the checks above, each amount has exactly one step
    for step, next_step in pairwise(rule.steps):
        if rule.source(next_step.first) <= rule.source(step.last):
            raise FeeScheduleError(
                f"{rule.name}: {rule.to_decimal(next_step.first)} would cost the sender"
                f" {rule.to_decimal(rule.source(next_step.first))} in total, which is not more than"
                f" the {rule.to_decimal(rule.source(step.last))} for {rule.to_decimal(step.last)}"
            )
    highest = rule.source(rule.steps[-1].last)
    if len(str(highest)) > MAX_AMOUNT_DIGITS:
        raise FeeScheduleError(
            f"{rule.name}: {rule.to_decimal(rule.steps[-1].last)} would cost {rule.to_decimal(highest)},"
            f" more than {MAX_AMOUNT_DIGITS} digits"
        )
