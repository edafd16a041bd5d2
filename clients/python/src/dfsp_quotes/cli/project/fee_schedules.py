"""Fee schedules as the payee reads them: their bounds, a price with its reasons, and two of them compared."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from operator import attrgetter
from pathlib import Path
from typing import Final

from chassis.errors import QuotingError
from dfsp_api.fee_schedule_file import FeeScheduleError, parse_fee_schedule
from dfsp_api.pricing import FeeRule, FeeSchedule, FeeStep
from dfsp_quotes import Operation
from dfsp_quotes.cli.configuration import read_text
from dfsp_quotes.cli.failures import CommandError

MAX_CHANGED_AMOUNTS: Final = 50
_PERCENT: Final = 100
_UNROUNDED_DIGITS: Final = 6
_EXACT: Final = Context(prec=40)
_last: Final = attrgetter("last")


@dataclass(frozen=True)
class Step:
    """A flat fee plus a share, for amounts that arrive from `first` to `last`."""

    first: Decimal
    last: Decimal
    flat: Decimal
    percent: Decimal


@dataclass(frozen=True)
class Rule:
    """The fees for one transferType and currencyCode. Amounts are in units of the currency."""

    transfer_type: str
    currency: str
    min_destination: Decimal
    max_destination: Decimal
    min_source: Decimal
    max_source: Decimal
    least: Decimal
    most: Decimal | None
    rounding: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Price:
    """The price of an amount, and the parts of the schedule that decide it."""

    source_amount: Decimal
    destination_amount: Decimal
    rule: Rule
    step: Step
    unrounded: str
    """The fee before rounding, within the rule's limits."""
    limited_by: str | None
    """`least` or `most` if that limit decides the fee."""

    @property
    def fee(self) -> Decimal:
        return self.source_amount - self.destination_amount


@dataclass(frozen=True)
class FeeChange:
    """One amount that arrives, and its fee by both schedules."""

    amount: Decimal
    old_fee: Decimal
    new_fee: Decimal


@dataclass(frozen=True)
class RuleChange:
    """A rule that differs, or that one of two schedules does not have. `fees` are some amounts whose fee differs."""

    old: Rule | None
    new: Rule | None
    fees: tuple[FeeChange, ...] = ()


def read(file: Path) -> FeeSchedule:
    """Raises BadInputError if the file cannot be read, CommandError if the payee would refuse it."""
    text = read_text(file.expanduser())
    try:
        return parse_fee_schedule(text)
    except FeeScheduleError as error:
        raise CommandError(f"{file}: {error}.", {"isValid": False}) from None


def rules(schedule: FeeSchedule) -> list[Rule]:
    return [_rule(*key, rule) for key, rule in schedule.rules.items()]


def explain(
    schedule: FeeSchedule, operation: Operation, transfer_type: str, currency: str, amount: str
) -> Price:
    """Return the price of an amount. Raises CommandError if the schedule has none."""
    rule = schedule.rules.get((transfer_type, currency))
    if rule is None:
        raise CommandError(f"The schedule has no rule for {transfer_type} {currency}.")
    if len(amount.partition(".")[2]) > rule.exponent:
        raise CommandError(f"An amount of {currency} has at most {rule.exponent} fraction digits.")
    is_source = operation is Operation.QUOTE_SOURCE_AMOUNT
    price = schedule.price_source if is_source else schedule.price_destination
    try:
        terms = price({"transferType": transfer_type, "currencyCode": currency, "amount": amount})
    except QuotingError as error:
        raise CommandError(str(error)) from None
    destination = int(terms.destination_amount.scaleb(rule.exponent))
    step = rule.steps[bisect_left(rule.steps, destination, key=_last)]
    unrounded, limit = _limited(rule, step.flat + step.share * destination)
    return Price(
        terms.source_amount,
        terms.destination_amount,
        _rule(transfer_type, currency, rule),
        _step(rule, step),
        _decimal(unrounded / 10**rule.exponent),
        limit,
    )


def diff(old: FeeSchedule, new: FeeSchedule) -> Iterator[RuleChange]:
    """Return each rule that differs, sorted by transferType and currencyCode."""
    for key in sorted(old.rules.keys() | new.rules.keys()):
        before, after = old.rules.get(key), new.rules.get(key)
        if before == after:
            continue
        fees = () if before is None or after is None else tuple(_fee_changes(before, after))
        yield RuleChange(
            old=None if before is None else _rule(*key, before),
            new=None if after is None else _rule(*key, after),
            fees=fees,
        )


def _limited(rule: FeeRule, fee: Fraction) -> tuple[Fraction, str | None]:
    if fee < rule.min_fee:
        return Fraction(rule.min_fee), "least"
    if rule.max_fee is not None and fee > rule.max_fee:
        return Fraction(rule.max_fee), "most"
    return fee, None


def _rule(transfer_type: str, currency: str, rule: FeeRule) -> Rule:
    first, last = rule.steps[0].first, rule.steps[-1].last
    return Rule(
        transfer_type=transfer_type,
        currency=currency,
        min_destination=rule.to_decimal(first),
        max_destination=rule.to_decimal(last),
        min_source=rule.to_decimal(rule.source(first)),
        max_source=rule.to_decimal(rule.source(last)),
        least=rule.to_decimal(rule.min_fee),
        most=None if rule.max_fee is None else rule.to_decimal(rule.max_fee),
        rounding=rule.rounding.value,
        steps=tuple(_step(rule, step) for step in rule.steps),
    )


def _step(rule: FeeRule, step: FeeStep) -> Step:
    # exact: a schedule has decimal numbers only
    share = step.share * _PERCENT
    percent = Decimal(share.numerator) / Decimal(share.denominator)
    return Step(rule.to_decimal(step.first), rule.to_decimal(step.last), rule.to_decimal(step.flat), percent)


def _fee_changes(old: FeeRule, new: FeeRule) -> list[FeeChange]:
    """Return amounts whose fees differ; 50 at most.

    They are the ends of steps and limits, the amounts beside them, and the powers of ten.
    """
    first = max(old.steps[0].first, new.steps[0].first)
    last = min(old.steps[-1].last, new.steps[-1].last)
    amounts = {amount + beside for rule in (old, new) for amount in _corners(rule) for beside in (-1, 0, 1)}
    amounts |= {10**digits for digits in range(len(str(last)))}
    changes = [
        FeeChange(old.to_decimal(amount), old.to_decimal(old.fee(amount)), new.to_decimal(new.fee(amount)))
        for amount in sorted(amounts)
        if first <= amount <= last and old.fee(amount) != new.fee(amount)
    ]
    return changes[:MAX_CHANGED_AMOUNTS]


def _corners(rule: FeeRule) -> Iterator[int]:
    """Return the amounts at which the formula of the fee changes."""
    for step in rule.steps:
        yield step.first
        yield step.last
        for limit in (rule.min_fee, rule.max_fee):
            if step.share and limit is not None:
                corner = int((limit - step.flat) / step.share)
                if step.first <= corner <= step.last:
                    yield corner


def _decimal(value: Fraction) -> str:
    """Return a number with six fraction digits at most, without trailing zeros."""
    exact = _EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))
    digits = f"{exact:.{_UNROUNDED_DIGITS}f}".rstrip("0")
    return digits.removesuffix(".")
