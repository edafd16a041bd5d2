"""Exposure limits: how much one caller may have reserved in one currency (docs/exposures.md). Pure: no I/O.

A quote counts from its reservation until it is executed, released or expired. It counts with its source amount: that is
what the payer owes, fee included, in the currency of the quote.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from chassis.errors import ExposureLimitError, Fault
from chassis.users import key_of
from quoting.schemas import exponents

Pair = tuple[str, str]
"""Caller and currency code."""


class ExposureLimit(msgspec.Struct, frozen=True):
    """The largest sum of source amounts and the largest number of quotes; None for no limit."""

    sum: Decimal | None
    count: int | None


class Exposure(msgspec.Struct, frozen=True):
    """Sum of the source amounts, and number, of the quotes that one caller has reserved in one currency."""

    sum: Decimal = Decimal(0)
    count: int = 0

    def with_quote(self, amount: Decimal) -> "Exposure":
        return Exposure(self.sum + amount, self.count + 1)

    def fits(self, limit: ExposureLimit, amount: Decimal) -> bool:
        """Whether one more quote is within the limit. The function ``admit_to_exposure`` decides in the same way."""
        return (limit.sum is None or self.sum + amount <= limit.sum) and (
            limit.count is None or self.count < limit.count
        )


class ExposureRefusal(msgspec.Struct, frozen=True):
    """Why a quote was not reserved: the limit, and the exposure without the quote."""

    limit: ExposureLimit
    exposure: Exposure

    def error(self, request: Mapping[str, str], amount: Decimal) -> ExposureLimitError:
        """Return the error for a quote of this source amount."""
        faults = []
        currency = request["currencyCode"]
        limit, exposure = self.limit, self.exposure
        if limit.sum is not None and exposure.sum + amount > limit.sum:
            shown = [format_sum(each, currency) for each in (limit.sum, exposure.sum, amount)]
            faults.append(
                _fault(
                    "amount",
                    request["amount"],
                    f"would take the reserved source amounts from {shown[1]} by {shown[2]} above {shown[0]} {currency}",
                    *shown,
                )
            )
        if limit.count is not None and exposure.count >= limit.count:
            faults.append(
                _fault(
                    "currencyCode",
                    currency,
                    f"has {exposure.count} reserved quotes of at most {limit.count}",
                    str(limit.count),
                    str(exposure.count),
                    "1",
                )
            )
        return ExposureLimitError(faults=faults)


def _fault(key: str, value: str, message: str, limit: str, exposure: str, requested: str) -> Fault:
    return Fault(key, message, value, {"limit": limit, "exposure": exposure, "requested": requested})


class ExposureLimits:
    """All exposure limits of a payee."""

    def __init__(self, limits: Mapping[Pair, ExposureLimit] | None = None) -> None:
        self.by_pair = dict(limits or {})
        """In the order of the file."""
        self._by_key = {
            (key_of(caller), currency): limit for (caller, currency), limit in self.by_pair.items()
        }
        self._callers = frozenset(caller for caller, _ in self._by_key)

    def of(self, caller: str, currency: str) -> ExposureLimit | None:
        """Return the limit of a caller in a currency; None if there is none."""
        return self._by_key.get((key_of(caller), currency)) if self._by_key else None

    def has_any_of(self, callers: Iterable[str]) -> bool:
        """Whether one of these callers has a limit in any currency."""
        return bool(self._callers) and any(key_of(caller) in self._callers for caller in callers)


def format_sum(amount: Decimal, currency: str) -> str:
    """Return a sum as text, with all fraction digits of its currency."""
    return format(amount.quantize(Decimal(1).scaleb(-exponents()[currency])), "f")
