"""Calculate the fee of a transfer and the two amounts of a quote. Pure: no I/O.

The payer sends the source amount, and the payee receives the destination amount. The two calculations are inverse:
``rule.destination(rule.source(amount))`` is always ``amount``. Amounts are whole minor units and rates are exact
fractions. Only the fee is rounded, and only once.
"""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from operator import attrgetter
from typing import Any, Final

import msgspec

from chassis.errors import AmountOutOfRangeError, NoFeeScheduleError


class Rounding(Enum):
    """How a fee is rounded to whole minor units. A fee is never negative, so "up" means away from zero."""

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
        beyond_half = 2 * rest - denominator
        if beyond_half:
            return whole + (beyond_half > 0)
        return whole + (self is Rounding.HALF_UP or (self is Rounding.HALF_EVEN and whole % 2))


@dataclass(frozen=True, slots=True)
class FeeStep:
    """Fee for destination amounts from ``first`` to ``last``, both included: ``flat`` plus ``share`` of the amount."""

    first: int
    last: int
    flat: int
    share: Fraction


_last: Final = attrgetter("last")


@dataclass(frozen=True, slots=True)
class FeeRule:
    """The fees for one pair of transferType and currencyCode. Amounts are in minor units of the currency.

    A larger destination amount always has a larger source amount; ``fee_schedule_file`` has checked this.
    """

    transfer_type: str
    currency: str
    exponent: int
    """Number of fraction digits of the currency (ISO 4217)."""
    steps: tuple[FeeStep, ...]
    min_fee: int
    max_fee: int | None
    rounding: Rounding

    @property
    def name(self) -> str:
        """The rule's name in messages."""
        return f"rule {self.transfer_type} {self.currency}"

    def fee(self, destination: int) -> int:
        """Return the fee for a destination amount: flat fee plus share, between min_fee and max_fee, then rounded."""
        return self.rounding.apply(*self.unrounded_fee(self.step(destination), destination))

    def step(self, destination: int) -> FeeStep:
        """Return the step that a destination amount within the rule falls into."""
        return self.steps[bisect_left(self.steps, destination, key=_last)]

    def unrounded_fee(self, step: FeeStep, destination: int) -> tuple[int, int]:
        """Return the exact fee within min_fee and max_fee, as numerator and denominator of minor units."""
        # whole numbers over one denominator: exact, and five times as fast as Fraction (timeit)
        share = step.share
        fee = max(
            step.flat * share.denominator + share.numerator * destination, self.min_fee * share.denominator
        )
        if self.max_fee is not None:
            fee = min(fee, self.max_fee * share.denominator)
        return fee, share.denominator

    def source(self, destination: int) -> int:
        """Return the source amount: ``destination`` plus the fee. Raises AmountOutOfRangeError."""
        self._require_within(destination, self.steps[0].first, self.steps[-1].last)
        return destination + self.fee(destination)

    def destination(self, source: int) -> int:
        """Return the largest destination amount for which the payer has to send at most ``source``.

        Raises AmountOutOfRangeError. Finds the amount by binary search, because source amounts grow with destination
        amounts.
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

    def _require_within(self, amount: int, minimum: int, maximum: int) -> None:
        if not minimum <= amount <= maximum:
            raise AmountOutOfRangeError(
                f"The amount must be from {self.to_decimal(minimum)} to {self.to_decimal(maximum)} for this transfer."
            )

    def to_decimal(self, minor_units: int) -> Decimal:
        """Convert minor units to a decimal amount with all fraction digits of the currency."""
        return Decimal(minor_units).scaleb(-self.exponent)


class Terms(msgspec.Struct, frozen=True):
    """The two amounts of a quote, with all fraction digits of its currency."""

    source_amount: Decimal
    destination_amount: Decimal


def number_of(schedule_id: bytes) -> int:
    """Return the first eight bytes of the id of a fee schedule as a signed number."""
    return int.from_bytes(schedule_id[:8], signed=True)


@dataclass(frozen=True, slots=True)
class FeeSchedule:
    """All fee rules, by transferType and currencyCode."""

    rules: Mapping[tuple[str, str], FeeRule]
    id: bytes
    """SHA-256 of the canonical form (``fee_schedule_record``). Equal schedules have equal ids."""
    explained: dict[tuple[str, str, int], dict[str, Any]] = field(
        default_factory=dict, compare=False, repr=False
    )
    """Parts of explanations that were made already, by rule and step: they take longer than the rest of a look-up."""

    @property
    def number(self) -> int:
        """The number by which a quote refers to its schedule."""
        return number_of(self.id)

    def price_source(self, request: Mapping[str, str]) -> Terms:
        """Return the terms of quoteSourceAmount, whose ``amount`` is the destination amount.

        Raises NoFeeScheduleError, AmountOutOfRangeError.
        """
        rule, amount = self._rule_and_amount(request)
        return Terms(rule.to_decimal(rule.source(amount)), rule.to_decimal(amount))

    def price_destination(self, request: Mapping[str, str]) -> Terms:
        """Return the terms of quoteDestinationAmount, whose ``amount`` is the source amount, fee included.

        Raises NoFeeScheduleError, AmountOutOfRangeError.
        """
        rule, amount = self._rule_and_amount(request)
        return Terms(rule.to_decimal(amount), rule.to_decimal(rule.destination(amount)))

    def _rule_and_amount(self, request: Mapping[str, str]) -> tuple[FeeRule, int]:
        rule = self.rules.get((request["transferType"], request["currencyCode"]))
        if rule is None:
            raise NoFeeScheduleError
        return rule, int(Decimal(request["amount"]).scaleb(rule.exponent))
