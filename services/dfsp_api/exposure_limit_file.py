"""Read exposure limits from TOML text, and reject those that cannot be used (docs/exposures.md). Pure: no I/O."""

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from itertools import product
from typing import Any, Final

from chassis.users import fault_of_name, key_of, normal
from dfsp_api.exposure_limits import ExposureLimit, ExposureLimits, Pair
from quoting.schemas import AMOUNT, MAX_AMOUNT_DIGITS, exponents

MAX_LIMITS: Final = 10_000
"""Maximum number of pairs of caller and currency."""
MAX_COUNT: Final = 10**12

_HEADER: Final = re.compile(r"^[ \t]*\[\[[ \t]*limit[ \t]*\]\]", re.MULTILINE)
_NAMES: Final = frozenset({"caller", "currencyCode", "sumLimit", "countLimit"})


class ExposureLimitsError(Exception):
    """The limits cannot be used. The message names the line and the fault.

    It has no caller's name, because readiness shows it without credentials.
    """


def parse_exposure_limits(text: str) -> ExposureLimits:
    """Return the limits in a text with ``[[limit]]`` tables. Raises ExposureLimitsError."""
    try:
        content = tomllib.loads(text)
    # ValueError: bad TOML, or an integer of thousands of digits; RecursionError: thousands of nested arrays
    except (ValueError, RecursionError) as error:
        raise ExposureLimitsError(f"not TOML: {error}") from None
    tables = content.get("limit")
    # a file that is cut off at its beginning must not lift all limits
    if set(content) != {"limit"} or not isinstance(tables, list):
        raise ExposureLimitsError("must hold [[limit]] tables and nothing else; limit = [] for no limit")
    limits: dict[Pair, tuple[Pair, ExposureLimit]] = {}
    for place, table in zip(_places(text, len(tables)), tables, strict=True):
        try:
            _add(limits, table)
        except ExposureLimitsError as error:
            raise ExposureLimitsError(f"{place}: {error}") from None
    return ExposureLimits(dict(limits.values()))


def _add(limits: dict[Pair, tuple[Pair, ExposureLimit]], table: object) -> None:
    """Add the limits of a table, by the key of the caller and the currency. Raises ExposureLimitsError."""
    if not isinstance(table, dict):
        raise ExposureLimitsError("must be a [[limit]] table")
    limit = _limit(table)
    for (number, caller), currency in product(enumerate(_callers(table), 1), _currencies(table)):
        key = key_of(caller), currency
        if key in limits:
            raise ExposureLimitsError(f"its caller {number} has another limit in {currency}")
        limits[key] = (caller, currency), limit
    if len(limits) > MAX_LIMITS:
        raise ExposureLimitsError(f"there are more than {MAX_LIMITS:,} pairs of caller and currency")


def _places(text: str, number: int) -> list[str]:
    """Return the place of each table: the line of its header, or its number if the file is written in another way."""
    lines = [text.count("\n", 0, found.start()) + 1 for found in _HEADER.finditer(text)]
    if len(lines) == number:
        return [f"line {line}" for line in lines]
    return [f"limit {each + 1}" for each in range(number)]


def _limit(table: Mapping[str, Any]) -> ExposureLimit:
    unknown = set(table) - _NAMES
    if unknown:
        raise ExposureLimitsError(f"{', '.join(sorted(unknown))!a:.80}: no such setting")
    limit = ExposureLimit(_sum_limit(table), _count_limit(table))
    if limit.sum is None and limit.count is None:
        raise ExposureLimitsError("needs sumLimit, countLimit or both")
    return limit


def _callers(table: Mapping[str, Any]) -> list[str]:
    callers = [normal(each) for each in _strings(table, "caller")]
    for number, caller in enumerate(callers, 1):
        fault = fault_of_name(caller)
        if fault is not None:
            raise ExposureLimitsError(f"its caller {number}: {fault}")
    return callers


def _currencies(table: Mapping[str, Any]) -> list[str]:
    currencies = _strings(table, "currencyCode")
    for currency in currencies:
        if currency not in exponents():
            raise ExposureLimitsError(
                f"currencyCode {currency!a:.40} must be an ISO 4217 currency that has a minor unit, in upper case"
            )
    return currencies


def _strings(table: Mapping[str, Any], key: str) -> list[str]:
    value = table.get(key)
    values = value if isinstance(value, list) else [value]
    strings = [each for each in values if isinstance(each, str)]
    if not values or strings != values:
        raise ExposureLimitsError(f"needs {key}: a string, or a list of strings")
    return strings


def _sum_limit(table: Mapping[str, Any]) -> Decimal | None:
    """Return the largest sum, which the file has as a string, because TOML floats are not exact; None without one."""
    value = table.get("sumLimit")
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not AMOUNT.match(value)
        or len(value.replace(".", "")) > MAX_AMOUNT_DIGITS
    ):
        raise ExposureLimitsError(
            f"sumLimit must be a string such as '1000.00', at most {MAX_AMOUNT_DIGITS} digits, not {value!r:.40}"
        )
    digits = min(exponents()[currency] for currency in _currencies(table))
    if len(value.partition(".")[2]) > digits:
        raise ExposureLimitsError(f"sumLimit {value} has more than {digits} fraction digits")
    return Decimal(value)


def _count_limit(table: Mapping[str, Any]) -> int | None:
    value = table.get("countLimit")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_COUNT:
        raise ExposureLimitsError(
            f"countLimit must be a whole number from 0 to {MAX_COUNT:,}, not {value!r:.40}"
        )
    return value
