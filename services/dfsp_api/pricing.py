"""What a transfer costs: fee schedules in stair steps, and the two amounts as exact inverses.

Pure: no clock, no environment; schedules come in as text. All amounts inside are whole minor units, all
rates exact fractions, so that nothing is rounded but the fee, once.
"""

import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from operator import attrgetter
from typing import Any, Final, TypeGuard

import msgspec

from chassis.errors import AmountOutOfRangeError, NoFeeScheduleError
from quoting.schemas import AMOUNT, MAX_AMOUNT_DIGITS, exponents

MAX_RATE_PERCENT: Final = 1_000


class ScheduleError(Exception):
    """A fee schedule cannot be used; the message names the rule, and the amount where there is one."""


class Rounding(Enum):
    """How a fee becomes whole minor units. Fees are never negative, so up is away from zero."""

    HALF_UP = "half_up"
    HALF_DOWN = "half_down"
    HALF_EVEN = "half_even"
    UP = "up"
    DOWN = "down"

    def apply(self, numerator: int, denominator: int) -> int:
        whole, rest = divmod(numerator, denominator)
        if not rest or self is Rounding.DOWN:
            return whole
        if self is Rounding.UP:
            return whole + 1
        twice = 2 * rest - denominator
        if twice:
            return whole + (twice > 0)
        return whole + (self is Rounding.HALF_UP or (self is Rounding.HALF_EVEN and whole % 2))


@dataclass(frozen=True, slots=True)
class Step:
    """Flat fee plus a share for destination amounts from ``first`` to ``last``, both included."""

    first: int
    last: int
    flat: int
    share: Fraction


_last: Final = attrgetter("last")


@dataclass(frozen=True, slots=True)
class Rule:
    """The fees for one transferType and currencyCode. Amounts are in minor units of the currency."""

    name: str
    exponent: int
    steps: tuple[Step, ...]
    least: int
    most: int | None
    rounding: Rounding

    def fee(self, destination: int) -> int:
        """The fee for an amount within the bounds: flat and share, then least and most, then rounded."""
        step = self.steps[bisect_left(self.steps, destination, key=_last)]
        # whole numbers over one denominator: a fifth of what arithmetic with fractions costs, and as exact
        share = step.share
        fee = max(
            (step.flat * share.denominator + share.numerator * destination), self.least * share.denominator
        )
        if self.most is not None:
            fee = min(fee, self.most * share.denominator)
        return self.rounding.apply(fee, share.denominator)

    def source(self, destination: int) -> int:
        """What must be sent so that ``destination`` arrives. Raises AmountOutOfRangeError."""
        self._require_within(destination, self.steps[0].first, self.steps[-1].last)
        return destination + self.fee(destination)

    def destination(self, source: int) -> int:
        """The largest amount whose own source amount does not exceed ``source``.

        Raises AmountOutOfRangeError. Source amounts grow strictly with destination amounts (``parse`` refuses
        a schedule where they do not), so a binary search is exact.
        """
        low, high = self.steps[0].first, self.steps[-1].last
        self._require_within(source, low + self.fee(low), high + self.fee(high))
        while low < high:
            middle = (low + high + 1) // 2
            if middle + self.fee(middle) <= source:
                low = middle
            else:
                high = middle - 1
        return low

    def _require_within(self, amount: int, least: int, most: int) -> None:
        if not least <= amount <= most:
            raise AmountOutOfRangeError(
                f"The amount must be from {self.written(least)} to {self.written(most)} here."
            )

    def written(self, minor_units: int) -> Decimal:
        """Minor units as an amount with all of the currency's fraction digits."""
        return Decimal(minor_units).scaleb(-self.exponent)


class Terms(msgspec.Struct, frozen=True):
    """What a quote reserves. Decimals carry the currency's exponent of fraction digits."""

    source_amount: Decimal
    destination_amount: Decimal


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """All rules, by transferType and currencyCode."""

    rules: Mapping[tuple[str, str], Rule]

    def price_source(self, request: Mapping[str, str]) -> Terms:
        """quoteSourceAmount: ``amount`` shall arrive. Raises NoFeeScheduleError, AmountOutOfRangeError."""
        rule, amount = self._rule_and_amount(request)
        return Terms(rule.written(rule.source(amount)), rule.written(amount))

    def price_destination(self, request: Mapping[str, str]) -> Terms:
        """quoteDestinationAmount: ``amount`` is sent, fee included. Raises likewise."""
        rule, amount = self._rule_and_amount(request)
        return Terms(rule.written(amount), rule.written(rule.destination(amount)))

    def _rule_and_amount(self, request: Mapping[str, str]) -> tuple[Rule, int]:
        rule = self.rules.get((request["transferType"], request["currencyCode"]))
        if rule is None:
            raise NoFeeScheduleError
        return rule, int(Decimal(request["amount"]).scaleb(rule.exponent))


def parse(text: str) -> FeeSchedule:
    """A schedule from TOML: ``[[rule]]`` tables with ``[[rule.step]]`` tables (docs/fees.md).

    Raises ScheduleError where a rule is malformed, or where under it a larger amount would cost the sender as
    much or less in all: that is what makes the two operations inverse.
    """
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise ScheduleError(f"the fee schedule is not TOML: {error}") from None
    if set(content) != {"rule"} or not _are_tables(content["rule"]):
        raise ScheduleError("the fee schedule must hold [[rule]] tables and nothing else")
    rules: dict[tuple[str, str], Rule] = {}
    for table in content["rule"]:
        for currency in _strings(table, "currencyCode"):
            for transfer_type in _strings(table, "transferType"):
                if (transfer_type, currency) in rules:
                    raise ScheduleError(f"rule {transfer_type} {currency}: is there twice")
                rules[transfer_type, currency] = _rule(table, transfer_type, currency)
    return FeeSchedule(rules)


def _are_tables(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _strings(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key)
    values = value if isinstance(value, list) else [value]
    strings = [each for each in values if isinstance(each, str)]
    if not values or strings != values:
        raise ScheduleError(f"each rule needs {key}: a string, or a list of strings")
    return strings


def _rule(table: Mapping[str, Any], transfer_type: str, currency: str) -> Rule:
    name = f"rule {transfer_type} {currency}"
    unknown = set(table) - {"transferType", "currencyCode", "step", "least", "most", "rounding"}
    if unknown:
        raise ScheduleError(f"{name}: {', '.join(sorted(unknown))}: no such setting")
    if currency not in exponents():
        raise ScheduleError(f"{name}: {currency} is no ISO 4217 currency that has a minor unit")
    exponent = exponents()[currency]
    steps = table.get("step")
    if not steps or not _are_tables(steps):
        raise ScheduleError(f"{name}: needs [[rule.step]] tables")
    try:
        rounding = Rounding(table.get("rounding", "half_up"))
    except ValueError:
        raise ScheduleError(
            f"{name}: rounding must be one of {', '.join(r.value for r in Rounding)}"
        ) from None
    rule = Rule(
        name=name,
        exponent=exponent,
        steps=tuple(_step(step, name, exponent) for step in steps),
        least=_amount(table, "least", name, exponent) if "least" in table else 0,
        most=_amount(table, "most", name, exponent) if "most" in table else None,
        rounding=rounding,
    )
    _require_increasing(rule)
    return rule


def _step(table: Mapping[str, Any], rule: str, exponent: int) -> Step:
    unknown = set(table) - {"from", "to", "flat", "percent"}
    if unknown:
        raise ScheduleError(f"{rule}: {', '.join(sorted(unknown))}: no such setting of a step")
    percent = table.get("percent", "0")
    if not _is_number(percent) or Decimal(percent) > MAX_RATE_PERCENT:
        raise ScheduleError(
            f"{rule}: percent must be a string such as '1.5', at most {MAX_RATE_PERCENT}, not {percent!r:.40}"
        )
    return Step(
        first=_amount(table, "from", rule, exponent),
        last=_amount(table, "to", rule, exponent),
        flat=_amount(table, "flat", rule, exponent) if "flat" in table else 0,
        share=Fraction(percent) / 100,
    )


def _amount(table: Mapping[str, Any], key: str, rule: str, exponent: int) -> int:
    """An amount of a schedule in minor units. A string: a TOML float would not be exact."""
    value = table.get(key)
    if not _is_number(value):
        raise ScheduleError(
            f"{rule}: {key} must be a string such as '12.50', at most {MAX_AMOUNT_DIGITS} digits,"
            f" not {value!r:.40}"
        )
    if len(value.partition(".")[2]) > exponent:
        raise ScheduleError(f"{rule}: {key} {value} has more than {exponent} fraction digits")
    return int(Decimal(value).scaleb(exponent))


def _is_number(value: object) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and AMOUNT.match(value) is not None
        and len(value.replace(".", "")) <= MAX_AMOUNT_DIGITS
    )


def _require_increasing(rule: Rule) -> None:
    """Refuses a rule under which a larger amount costs as much or less in all.

    Within a step the fee never falls, for no share is negative and least, most and rounding keep order: only
    where one step meets the next can it.
    """
    if rule.most is not None and rule.most < rule.least:
        raise ScheduleError(f"{rule.name}: most {rule.written(rule.most)} is below least")
    if not rule.steps[0].first:
        raise ScheduleError(f"{rule.name}: from 0: an amount is above zero")
    for step in rule.steps:
        if step.last < step.first:
            raise ScheduleError(f"{rule.name}: a step ends at {rule.written(step.last)}, before it begins")
    for one, following in zip(rule.steps, rule.steps[1:], strict=False):
        if following.first != one.last + 1:
            raise ScheduleError(
                f"{rule.name}: after the step to {rule.written(one.last)} the next must begin at"
                f" {rule.written(one.last + 1)}, not {rule.written(following.first)}"
            )
    # only now: what an amount costs is known where each has one step
    for one, following in zip(rule.steps, rule.steps[1:], strict=False):
        if rule.source(following.first) <= rule.source(one.last):
            raise ScheduleError(
                f"{rule.name}: {rule.written(following.first)} would cost the sender"
                f" {rule.written(rule.source(following.first))} in all, no more than the"
                f" {rule.written(rule.source(one.last))} of {rule.written(one.last)}"
            )
    highest = rule.source(rule.steps[-1].last)
    if len(str(highest)) > MAX_AMOUNT_DIGITS:
        raise ScheduleError(
            f"{rule.name}: {rule.written(rule.steps[-1].last)} would cost {rule.written(highest)},"
            f" more than {MAX_AMOUNT_DIGITS} digits"
        )
