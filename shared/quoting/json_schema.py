"""Descriptions, examples and patterns of the fields of messages, for the API description of the checks in `schemas`.

A property test holds each pattern to the check: both accept the same values.
"""

from collections.abc import Mapping
from typing import Any, Final

from chassis.patterns import HTTP_URL, above_zero

MAX_AMOUNT_DIGITS: Final = 18


def amount_pattern(max_fraction_digits: int) -> str:
    """Return the pattern of an amount above zero with at most 18 digits, in a currency with these fraction digits."""
    whole = f"[1-9][0-9]{{0,{MAX_AMOUNT_DIGITS - 1}}}"
    if not max_fraction_digits:
        return f"^{whole}$"
    # together with maxLength: the fraction is as much shorter as the whole part is longer
    mixed = rf"[1-9][0-9]{{0,{MAX_AMOUNT_DIGITS - 2}}}\.[0-9]{{1,{max_fraction_digits}}}"
    return rf"^({whole}|{mixed}|0\.({above_zero(max_fraction_digits)}))$"


_MAX_FRACTION_DIGITS: Final = MAX_AMOUNT_DIGITS - 1
_ANY_AMOUNT: Final = (
    rf"^([1-9][0-9]{{0,{_MAX_FRACTION_DIGITS}}}|[1-9][0-9]{{0,{MAX_AMOUNT_DIGITS - 2}}}\.[0-9]{{1,{_MAX_FRACTION_DIGITS}}}"
    rf"|0\.0{{0,{_MAX_FRACTION_DIGITS - 1}}}[1-9][0-9]{{0,{_MAX_FRACTION_DIGITS - 1}}})$"
)
ANY_AMOUNT: Final = {"pattern": _ANY_AMOUNT, "maxLength": MAX_AMOUNT_DIGITS + 1}

AMOUNT: Final = {
    **ANY_AMOUNT,
    "description": "A plain decimal number above zero with at most 18 digits, and no more fraction digits than the"
    " currency has.",
    "examples": ["12.50"],
}
ACCOUNT: Final = {
    "pattern": HTTP_URL,
    "description": "The recipient's account: an absolute http or https URL without user name and password.",
    "examples": ["http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob"],
}
CURRENCY_SYMBOL: Final = {"description": "The currency's symbol, for people.", "examples": ["$"]}
IDENTIFIER: Final = {
    "description": "The recipient's identifier, such as an account number.",
    "examples": ["30754016"],
}
IDENTIFIER_TYPE: Final = {"description": "The kind of the identifier.", "examples": ["eur"]}
TRANSFER_TYPE: Final = {"description": "The kind of transfer, which the fee depends on.", "examples": ["p2p"]}
SOURCE_AMOUNT: Final = {
    **ANY_AMOUNT,
    "description": "The amount that the payer sends; if given, it must equal the reserved one.",
    "examples": ["13.75"],
}
DESTINATION_AMOUNT: Final = {
    **ANY_AMOUNT,
    "description": "The amount that arrives; if given, it must equal the reserved one.",
    "examples": ["12.50"],
}

_REPLY_AMOUNT: Final = {"pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?$"}
REPLY_AMOUNT: Final = {
    **_REPLY_AMOUNT,
    "description": "The answer: what the payer sends for quoteSourceAmount, what arrives for quoteDestinationAmount.",
}
REPLY_SOURCE_AMOUNT: Final = {
    **_REPLY_AMOUNT,
    "description": "The amount that the payer sends, fee included.",
}
REPLY_DESTINATION_AMOUNT: Final = {**_REPLY_AMOUNT, "description": "The amount that arrives."}
FEE: Final = {**_REPLY_AMOUNT, "description": "sourceAmount less destinationAmount."}
FEE_AMOUNT: Final = _REPLY_AMOUNT
UUID: Final = {"description": "The quote's id, which is also the id of its payment."}
EXPIRES: Final = {
    "description": "From this time on the quote cannot be paid. The same Idempotency-Key still gives this quote then:"
    " reserve with a new key to get new terms."
}
EXECUTED: Final = {"description": "When it was paid."}
RELEASED: Final = {"description": "When its caller released it."}


def currency_code(exponents: Mapping[str, int]) -> dict[str, Any]:
    return {
        "enum": sorted(exponents),
        "description": "ISO 4217, in upper case; a currency that has a minor unit.",
        "examples": ["USD"],
    }


def amount_by_currency(exponents: Mapping[str, int]) -> dict[str, Any]:
    """Return the rule that an amount has no more fraction digits than its currency."""
    rule: dict[str, Any] = _amount(2)
    for exponent in sorted({*exponents.values()} - {2}):
        currencies = sorted(code for code, digits in exponents.items() if digits == exponent)
        rule = {
            "if": {"properties": {"currencyCode": {"enum": currencies}}, "required": ["currencyCode"]},
            "then": _amount(exponent),
            "else": rule,
        }
    return rule


def _amount(exponent: int) -> dict[str, Any]:
    return {"properties": {"amount": {"pattern": amount_pattern(exponent)}}}
