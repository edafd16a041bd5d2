"""The messages of wire.md §2 as marshmallow schemas. Only the two ends of the chain check complete messages.

The two ends are the `dfsp-api` of the payer and of the payee.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from iso4217 import raw_table
from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate, validates_schema

from chassis.openapi import Reply
from chassis.schemas import Text
from quoting import json_schema

MAX_AMOUNT_DIGITS: Final = json_schema.MAX_AMOUNT_DIGITS
STATES: Final = ("RESERVED", "EXECUTED", "RELEASED", "EXPIRED")

AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
is_identifier: Final = validate.Length(1, 128, error="must be 1 to 128 characters")
_IS_IDENTIFIER_TYPE: Final = validate.Regexp(
    r"[a-z0-9_-]{1,32}\Z", error="must be 1 to 32 of a-z, 0-9, _ and -"
)


@cache
def exponents() -> Mapping[str, int]:
    """Return the number of fraction digits by currency code, for all currencies that have a minor unit."""
    units = {code: str(row["CcyMnrUnts"]) for code, row in raw_table.items()}
    return {code: int(digits) for code, digits in units.items() if code and digits.isdigit()}


def is_amount(value: str) -> None:
    """Check the syntax of an amount in any currency. Raises ValidationError."""
    if not AMOUNT.match(value):
        raise ValidationError("must be a plain decimal number such as 12.50")
    if len(value.replace(".", "")) > MAX_AMOUNT_DIGITS:
        raise ValidationError(f"must have at most {MAX_AMOUNT_DIGITS} digits")
    if not value.strip("0."):
        raise ValidationError("must be above zero")


def is_currency(value: str) -> None:
    if value not in exponents():
        raise ValidationError("must be an ISO 4217 currency that has a minor unit, in upper case")


def is_account(value: str) -> None:
    """Check that an account is an absolute http(s) URL without user or password. Raises ValidationError."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or any(character.isspace() or character in '<>"\\^`{|}' for character in value):
        raise ValidationError("must be an absolute http or https URL")
    if "@" in parts.netloc:
        raise ValidationError("must not contain a user or password")


class Parameters(Schema):
    """The seven fields. This schema does not check that the amount fits the currency."""

    currencyCode = Text(required=True, validate=is_currency, metadata=json_schema.currency_code(exponents()))  # noqa: N815 - names of the Quote API
    currencySymbol = Text(  # noqa: N815
        required=True,
        validate=validate.Length(1, 8, error="must be 1 to 8 characters"),
        metadata=json_schema.CURRENCY_SYMBOL,
    )
    amount = Text(required=True, validate=is_amount, metadata=json_schema.AMOUNT)
    account = Text(
        required=True,
        validate=[validate.Length(1, 2_048, error="must be 1 to 2,048 characters"), is_account],
        metadata=json_schema.ACCOUNT,
    )
    identifier = Text(required=True, validate=is_identifier, metadata=json_schema.IDENTIFIER)
    identifierType = Text(required=True, validate=_IS_IDENTIFIER_TYPE, metadata=json_schema.IDENTIFIER_TYPE)  # noqa: N815
    transferType = Text(  # noqa: N815
        required=True,
        validate=validate.Regexp(r"[A-Za-z0-9_-]{1,32}\Z", error="must be 1 to 32 of A-Z, a-z, 0-9, _ and -"),
        metadata=json_schema.TRANSFER_TYPE,
    )

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


PARAMETERS: Final = tuple(Parameters().fields)
"""The seven fields of the Quote API, in the order in which it lists them. Fingerprints depend on the order."""


class Reservation(Parameters):
    """The body of a request to quoteSourceAmount or quoteDestinationAmount."""

    further_json_schema: ClassVar = json_schema.amount_by_currency(exponents())

    @validates_schema(skip_on_field_errors=False)
    def fits_currency(self, data: Mapping[str, str], **_kwargs: Any) -> None:  # noqa: ANN401
        """Check that the amount has no more fraction digits than its currency. Zeros at the end count."""
        if "currencyCode" not in data or "amount" not in data:
            return  # that field has its own fault
        exponent = exponents()[data["currencyCode"]]
        if len(data["amount"].partition(".")[2]) > exponent:
            raise ValidationError(
                f"must have at most {exponent} fraction digits in {data['currencyCode']}", "amount"
            )


class Payment(Parameters):
    """The body of execute."""

    sourceAmount = Text(validate=is_amount, metadata=json_schema.SOURCE_AMOUNT)  # noqa: N815
    destinationAmount = Text(validate=is_amount, metadata=json_schema.DESTINATION_AMOUNT)  # noqa: N815


class Receiver(Schema):
    """The fields of a request that spsp-client-proxy reads."""

    class Meta:
        unknown = EXCLUDE

    identifier = Text(required=True, validate=is_identifier, metadata=json_schema.IDENTIFIER)
    identifierType = Text(required=True, validate=_IS_IDENTIFIER_TYPE, metadata=json_schema.IDENTIFIER_TYPE)  # noqa: N815


class Quote(Reply):
    """The response to a reservation."""

    amount = fields.String(required=True, metadata=json_schema.REPLY_AMOUNT)
    expires = fields.AwareDateTime(required=True, metadata=json_schema.EXPIRES)
    uuid = fields.UUID(required=True, metadata=json_schema.UUID)


class Execution(Reply):
    """The response to an execution."""

    uuid = fields.UUID(required=True, metadata=json_schema.UUID)
    state = fields.String(required=True, validate=validate.Equal("EXECUTED"))
    sourceAmount = fields.String(required=True, metadata=json_schema.REPLY_SOURCE_AMOUNT)  # noqa: N815
    destinationAmount = fields.String(required=True, metadata=json_schema.REPLY_DESTINATION_AMOUNT)  # noqa: N815
    fee = fields.String(required=True, metadata=json_schema.FEE)
    executed = fields.AwareDateTime(required=True, metadata=json_schema.EXECUTED)


SCHEDULE_ID: Final = {
    "pattern": "^[0-9a-f]{64}$",
    "description": "The id of the fee schedule: the SHA-256 of its canonical form, in hex.",
}


class FeeStep(Reply):
    """The fee for a range of amounts that arrive: `flat` plus `percent` of the amount."""

    _from = fields.String(required=True, data_key="from", metadata=json_schema.FEE_AMOUNT)
    to = fields.String(required=True, metadata=json_schema.FEE_AMOUNT)
    flat = fields.String(required=True, metadata=json_schema.FEE_AMOUNT)
    percent = fields.String(required=True, metadata=json_schema.FEE_AMOUNT)


class RuleName(Reply):
    """The rule that priced a quote."""

    transferType = fields.String(required=True, metadata=json_schema.TRANSFER_TYPE)  # noqa: N815
    currencyCode = fields.String(required=True)  # noqa: N815


class Explanation(Reply):
    """How the fee of a quote was calculated: `unrounded`, rounded to the currency's minor unit."""

    schedule = fields.String(required=True, metadata=SCHEDULE_ID)
    rule = fields.Nested(RuleName, required=True)
    step = fields.Nested(
        FeeStep, required=True, metadata={"description": "The step that destinationAmount falls into."}
    )
    least = fields.String(required=True, metadata={**json_schema.FEE_AMOUNT, "description": "Minimum fee."})
    most = fields.String(
        required=True,
        allow_none=True,
        metadata={**json_schema.FEE_AMOUNT, "description": "Maximum fee; null: none."},
    )
    rounding = fields.String(
        required=True, validate=validate.OneOf(["half_up", "half_down", "half_even", "up", "down"])
    )
    unrounded = fields.String(
        required=True,
        metadata={
            **json_schema.FEE_AMOUNT,
            "description": "`flat` plus `percent` of destinationAmount, not less than `least` and not more than `most`."
            " Rounded it is the fee; that of a quoteDestinationAmount also has the rest of the request's amount that is too"
            " small for a larger destinationAmount.",
        },
    )


class Release(Reply):
    """The response to a release."""

    uuid = fields.UUID(required=True, metadata=json_schema.UUID)
    state = fields.String(required=True, validate=validate.Equal("RELEASED"))
    released = fields.AwareDateTime(required=True, metadata=json_schema.RELEASED)


class QuoteState(Reply):
    """The response to a look-up."""

    uuid = fields.UUID(required=True, metadata=json_schema.UUID)
    state = fields.String(required=True, validate=validate.OneOf(STATES))
    operation = fields.String(
        required=True, validate=validate.OneOf(["quoteSourceAmount", "quoteDestinationAmount"])
    )
    amount = fields.String(required=True, metadata=json_schema.REPLY_AMOUNT)
    sourceAmount = fields.String(required=True, metadata=json_schema.REPLY_SOURCE_AMOUNT)  # noqa: N815
    destinationAmount = fields.String(required=True, metadata=json_schema.REPLY_DESTINATION_AMOUNT)  # noqa: N815
    fee = fields.String(required=True, metadata=json_schema.FEE)
    expires = fields.AwareDateTime(required=True, metadata=json_schema.EXPIRES)
    created = fields.AwareDateTime(required=True, metadata={"description": "When it was reserved."})
    executed = fields.AwareDateTime(required=True, allow_none=True, metadata=json_schema.EXECUTED)
    released = fields.AwareDateTime(required=True, allow_none=True, metadata=json_schema.RELEASED)
    request = fields.Nested(Parameters, required=True)
    explanation = fields.Nested(
        Explanation,
        required=True,
        allow_none=True,
        metadata={"description": "How the fee was calculated; null in quotes from before this was recorded."},
    )


class ListedQuote(QuoteState):
    """A quote in a list."""

    caller = fields.String(metadata={"description": "Who reserved it. Only operators get this field."})


class QuoteList(Reply):
    """The response to a list of quotes."""

    quotes = fields.List(fields.Nested(ListedQuote), required=True)
    next = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The parameter `after` of the next request. Null: there are no more quotes."
        },
    )


RESERVATION: Final = Reservation()
PAYMENT: Final = Payment()
RECEIVER: Final = Receiver()


def same_amount(one: str, other: str) -> bool:
    """Whether two amounts are equal as numbers, such as ``12.5`` and ``12.50``."""
    return Decimal(one) == Decimal(other)
