"""Checks complete messages, in the first and last service of the chain. Valid messages pass quickly.

Regular expressions accept a usual valid body in a few microseconds. Every other body goes to marshmallow, which
accepts it or names its faults. A property test checks that marshmallow refuses no body that the regular expressions
accept.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from marshmallow import Schema

from chassis.json_object import flat
from chassis.schemas import parse
from quoting.call import IDENTIFIER, IDENTIFIER_TYPE
from quoting.schemas import PARAMETERS, PAYMENT, RESERVATION, exponents

Match = Callable[[str], object]

_PRINTABLE: Final = "[^\x00-\x1f\x7f-\x9f\ud800-\udfff]"


def _amount(max_fraction_digits: int) -> Match:
    """Return a function that matches an amount above zero. It accepts fewer digits than the schema does."""
    fraction = rf"(\.[0-9]{{1,{max_fraction_digits}}})?" if max_fraction_digits else ""
    return re.compile(rf"(?=[0.]*[1-9])(0|[1-9][0-9]{{0,12}}){fraction}\Z").match


_AMOUNT_BY_EXPONENT: Final[Mapping[int, Match]] = {digits: _amount(digits) for digits in range(5)}
_ANY_AMOUNT: Final = _AMOUNT_BY_EXPONENT[4]
_RULES: Final[Sequence[tuple[str, Match]]] = (
    ("currencySymbol", re.compile(rf"{_PRINTABLE}{{1,8}}\Z").match),
    (
        "account",
        re.compile(
            r"https?://[a-z0-9]+([.-][a-z0-9]+)*(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~/%?=&+-]{0,1500})?\Z"
        ).match,
    ),
    ("identifier", re.compile(rf"{_PRINTABLE}{{1,128}}\Z").match),
    ("identifierType", re.compile(r"[a-z0-9_-]{1,32}\Z").match),
    ("transferType", re.compile(r"[A-Za-z0-9_-]{1,32}\Z").match),
)
_RECEIVER: Final = [rule for rule in _RULES if rule[0] in {IDENTIFIER, IDENTIFIER_TYPE}]
_EXPONENTS: Final = exponents()
_MAX_ACCOUNT_CHARACTERS: Final = 1_800


def reservation(body: bytes) -> dict[str, str]:
    """Return the seven fields of a reservation. Raises InvalidBodyError, which lists all faults."""
    return _fields(body, RESERVATION, fits_currency=True)


def payment(body: bytes) -> dict[str, str]:
    """Return the seven to nine fields of an execution. Raises InvalidBodyError, which lists all faults."""
    return _fields(body, PAYMENT, fits_currency=False)


def is_receiver(found: Mapping[str, str]) -> bool:
    """Whether identifier and identifierType are present and have a usual valid form."""
    return all(matches(found.get(name, "")) for name, matches in _RECEIVER)


def _fields(body: bytes, schema: Schema, *, fits_currency: bool) -> dict[str, str]:
    found = flat(body)
    if found is not None and len(found) == len(PARAMETERS) and _is_valid(found, fits_currency=fits_currency):
        return {name: found[name] for name in PARAMETERS}
    return parse(schema, body)


def _is_valid(found: Mapping[str, str], *, fits_currency: bool) -> bool:
    exponent = _EXPONENTS.get(found.get("currencyCode", ""))
    if exponent is None or len(found.get("account", "")) > _MAX_ACCOUNT_CHARACTERS:
        return False
    is_amount = _AMOUNT_BY_EXPONENT[exponent] if fits_currency else _ANY_AMOUNT
    if not is_amount(found.get("amount", "")):
        return False
    for name, matches in _RULES:  # noqa: SIM110 - a generator takes twice as long
        if not matches(found.get(name, "")):
            return False
    return True
