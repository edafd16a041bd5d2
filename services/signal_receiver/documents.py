"""The messages of the API for users, and what ``/openapi.json`` says of the service."""

import base64
import binascii
import re
from typing import Any, Final

from marshmallow import Schema, ValidationError, fields, validate

from chassis.openapi import document, errors
from chassis.schemas import Text
from signal_receiver.refusals import ERROR_HEADER, Refusal

SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what comes before one
SECRET_BYTES: Final = (24, 64)
_PRICE = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,8})?\Z")


def is_price(value: str) -> None:
    """Within these bounds all that is reckoned with it is exact. Raises ValidationError."""
    if not _PRICE.match(value) or not value.strip("0."):
        raise ValidationError(
            "must be a plain decimal number above zero, with at most 12 digits and 8 fraction digits"
        )


def is_secret(value: str) -> None:
    """A Standard Webhooks secret. Raises ValidationError."""
    try:
        key = base64.b64decode(value.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not value.startswith(SECRET_PREFIX) or not SECRET_BYTES[0] <= len(key) <= SECRET_BYTES[1]:
        raise ValidationError("must be whsec_ and 24 to 64 bytes in base64")


class NewPrice(Schema):
    """The body of PUT /v1/prices/{ticker}."""

    price = Text(required=True, validate=is_price)

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


class NewSecret(Schema):
    """The body of PUT /v1/accounts/{id}/webhook-secret; null demands no signature any more."""

    secret = Text(required=True, allow_none=True, validate=is_secret)

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


NEW_PRICE: Final = NewPrice()
NEW_SECRET: Final = NewSecret()


class PriceTold(Schema):
    ticker = fields.String(required=True)
    price = fields.String(required=True)
    at = fields.String(required=True)


class OpenPosition(Schema):
    """One strategy's open position."""

    strategyId = fields.String(required=True)  # noqa: N815
    proquantPositionId = fields.String(required=True)  # noqa: N815
    ticker = fields.String(required=True)
    direction = fields.String(required=True, validate=validate.OneOf(["BUY", "SELL"]))
    quantity = fields.String(required=True)
    price = fields.String(required=True)
    margin = fields.String(required=True)
    opened = fields.String(required=True)


class Positions(Schema):
    """An account's funds, what of them no position holds, and its open positions."""

    funds = fields.String(required=True)
    freeFunds = fields.String(required=True)  # noqa: N815
    positions = fields.List(fields.Nested(OpenPosition), required=True)


class ExecutedTrade(Schema):
    """One execution; an opening has no profit."""

    id = fields.Integer(required=True)
    action = fields.String(required=True, validate=validate.OneOf(["OPEN", "CLOSE"]))
    strategyId = fields.String(required=True)  # noqa: N815
    proquantPositionId = fields.String(required=True)  # noqa: N815
    ticker = fields.String(required=True)
    direction = fields.String(required=True, validate=validate.OneOf(["BUY", "SELL"]))
    quantity = fields.String(required=True)
    price = fields.String(required=True)
    profit = fields.String(required=True, allow_none=True)
    at = fields.String(required=True)


class Trades(Schema):
    """The newest first."""

    trades = fields.List(fields.Nested(ExecutedTrade), required=True)


class EventError(Schema):
    """The guide's typed error."""

    type = fields.String(required=True, validate=validate.OneOf([refusal.type for refusal in Refusal]))
    message = fields.String(required=True)


def openapi(title: str) -> dict[str, Any]:
    spec = document(title)
    spec.path("/webhook/{accountToken}", operations={"post": _webhook()})
    for path, method, operation in (
        ("/v1/accounts/{id}/positions", "get", _described("An account's open positions", Positions, "id")),
        ("/v1/accounts/{id}/trades", "get", _trades()),
        (
            "/v1/accounts/{id}/webhook-secret",
            "put",
            _described("What an account's events must be signed with", None, "id", body=NewSecret),
        ),
        (
            "/v1/prices/{ticker}",
            "put",
            _described("What an instrument is traded at", PriceTold, "ticker", body=NewPrice),
        ),
    ):
        spec.path(path, operations={method: operation})
    return spec.to_dict()


def _described(
    summary: str, reply: type[Schema] | None, *path: str, body: type[Schema] | None = None
) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done"}
    if reply is not None:
        done["content"] = {"application/json": {"schema": reply}}
    described: dict[str, Any] = {
        "summary": summary,
        "security": [{"basic": []}],
        "parameters": [_parameter(name, "path") for name in path],
        "responses": {
            "204" if reply is None else "200": done,
            **errors(**{"403": "Not the caller's to do, or sent by a browser for another site's page"}),
            **errors("404"),
        },
    }
    if body is not None:
        described["requestBody"] = _body(body)
    return described


def _trades() -> dict[str, Any]:
    described = _described("An account's trades, the newest first", Trades, "id")
    described["parameters"] += [_parameter("before", "query"), _parameter("limit", "query")]
    return described


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


def _body(schema: object) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _webhook() -> dict[str, Any]:
    typed: dict[str, list[str]] = {}
    for refusal in Refusal:
        typed.setdefault(str(refusal.status), []).append(refusal.type)
    header = {"description": "1", "required": True, "schema": {"type": "string", "enum": ["1"]}}
    return {
        "summary": "Carries out an event",
        "parameters": [_parameter("accountToken", "path")],
        "requestBody": _body({"type": "object"}),
        "responses": {
            "200": {"description": "Carried out, or not relevant; empty"},
            **errors(
                "400", "408", "413", "415", "417", "503", **{"403": "Sent by a browser for another site"}
            ),
            **{
                status: {
                    "description": ", ".join(types),
                    "headers": {ERROR_HEADER: header},
                    "content": {"application/json": {"schema": EventError}},
                }
                for status, types in typed.items()
            },
        },
    }
