"""The bodies of requests and responses."""

import re
from typing import Final

from marshmallow import Schema, ValidationError, fields, validate

from chassis.openapi import Reply
from chassis.patterns import above_zero
from chassis.schemas import Text
from signal_receiver.event_errors import EventError

# 8 to 21 groups of three bytes, the last one complete or not: 24 to 64 bytes
_SECRET: Final = re.compile(
    r"whsec_(([A-Za-z0-9+/]{4}){8,21}([A-Za-z0-9+/]{2}==)?|([A-Za-z0-9+/]{4}){8,20}[A-Za-z0-9+/]{3}=)\Z"
)
_PRICE = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,8})?\Z")


def is_price(value: str) -> None:
    """Raise ValidationError if a price is outside the bounds within which all calculations are exact."""
    if not _PRICE.match(value) or not value.strip("0."):
        raise ValidationError(
            "must be a plain decimal number above zero, with at most 12 digits and 8 fraction digits"
        )


class NewPrice(Schema):
    """The body of PUT /v1/prices/{ticker}."""

    price = Text(
        required=True,
        validate=is_price,
        metadata={
            "pattern": rf"^([1-9][0-9]{{0,11}}(\.[0-9]{{1,8}})?|0\.({above_zero(8)}))$",
            "description": "A plain decimal number above zero, with at most 12 digits and 8 fraction digits.",
            "examples": ["2000.00"],
        },
    )

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


class NewSecret(Schema):
    """The body of PUT /v1/accounts/{id}/webhook-secret. The value null means that signatures are no longer required."""

    secret = Text(
        required=True,
        allow_none=True,
        validate=validate.Regexp(_SECRET, error="must be whsec_ followed by 24 to 64 bytes in base64"),
        metadata={
            "description": "`whsec_` and 24 to 64 bytes in base64; null: signatures are no longer required.",
        },
    )

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


NEW_PRICE: Final = NewPrice()
NEW_SECRET: Final = NewSecret()


class StoredPrice(Reply):
    """An instrument's price."""

    ticker = fields.String(required=True)
    price = fields.String(required=True)
    at = fields.AwareDateTime(required=True)


class OpenPosition(Reply):
    """One strategy's open position."""

    strategyId = fields.String(required=True)  # noqa: N815
    proquantPositionId = fields.String(required=True)  # noqa: N815
    ticker = fields.String(required=True)
    direction = fields.String(required=True, validate=validate.OneOf(["BUY", "SELL"]))
    quantity = fields.String(required=True)
    price = fields.String(required=True)
    margin = fields.String(required=True)
    opened = fields.AwareDateTime(required=True)


class AccountPositions(Reply):
    """An account's funds, its free funds and its open positions."""

    funds = fields.String(required=True)
    freeFunds = fields.String(required=True)  # noqa: N815
    positions = fields.List(fields.Nested(OpenPosition), required=True)


class ExecutedTrade(Reply):
    """One execution. The profit of an opening is null."""

    id = fields.Integer(required=True)
    action = fields.String(required=True, validate=validate.OneOf(["OPEN", "CLOSE"]))
    strategyId = fields.String(required=True)  # noqa: N815
    proquantPositionId = fields.String(required=True)  # noqa: N815
    ticker = fields.String(required=True)
    direction = fields.String(required=True, validate=validate.OneOf(["BUY", "SELL"]))
    quantity = fields.String(required=True)
    price = fields.String(required=True)
    profit = fields.String(required=True, allow_none=True)
    at = fields.AwareDateTime(required=True)


class TradePage(Reply):
    """Trades, newest first."""

    trades = fields.List(fields.Nested(ExecutedTrade), required=True)


class EventErrorBody(Reply):
    """The guide's typed error."""

    type = fields.String(required=True, validate=validate.OneOf([error.type for error in EventError]))
    message = fields.String(required=True)
