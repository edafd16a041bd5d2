"""The service's OpenAPI document."""

from typing import Any, Final

from chassis.content import JSON
from chassis.errors import (
    ForbiddenError,
    InvalidQueryParameterError,
    NotFoundError,
    UnavailableError,
)
from chassis.openapi import (
    Answer,
    DescribedOperation,
    Document,
    header_parameter,
    json_reply,
    path_parameter,
    query_parameter,
)
from chassis.patterns import pattern_of
from signal_receiver.accounts_file import ACCOUNT_ID
from signal_receiver.api import DEFAULT_TRADES, MAX_TRADES
from signal_receiver.credentials import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER
from signal_receiver.event_errors import ERROR_HEADER, EventError
from signal_receiver.event_schema import ENVELOPE
from signal_receiver.schemas import (
    AccountPositions,
    EventErrorBody,
    NewPrice,
    NewSecret,
    StoredPrice,
    TradePage,
)

_WEBHOOK, _ACCOUNTS, _PRICES = "Webhook", "Accounts", "Prices"
_ABOUT: Final = (
    "A webhook of the integration guide that trades on paper. It needs no credentials: the token in its path names the"
    " account. An account may also require a header, or a signature of Standard Webhooks."
)
_TAGS: Final = {
    _WEBHOOK: "For the platform that sends signals.",
    _ACCOUNTS: "For the accounts' owners.",
    _PRICES: "For the price feeder.",
}
_ID: Final = path_parameter(
    "id", "The account's id.", {"type": "string", "pattern": pattern_of(ACCOUNT_ID)}, example="sample"
)
_READ_ERRORS: Final = (NotFoundError, UnavailableError)
_MAX_WHOLE: Final = 10**18 - 1
_SAMPLE_EVENT: Final = {
    "v1": {
        "deprecation": None,
        "event": {
            "timestamp": 1549623690730,
            "type": "SIGNAL_OPEN",
            "integration": {
                "name": "user@example.com",
                "description": "Foo Bar FX",
                "imageUrl": "https://foo.bar/logo.png",
                "webhook": {"url": "https://foo.bar/api/proquant", "headers": {"x-foo-bar-api-token": "baz"}},
            },
            "data": {
                "direction": "BUY",
                "ticker": "XAUUSD",
                "quantity": 10,
                "strategy": {"id": "6bbc583bf6d70605bbbc892f66367ab7", "name": "Gold High-Risk"},
                "proquantPositionId": "960fe1a63d264d0f4e19a0ebf385497e",
            },
        },
    }
}


def openapi(title: str) -> dict[str, Any]:
    document = Document(title, _ABOUT, _TAGS)
    document.header(ERROR_HEADER, "`1`: the body is one of the guide's typed errors.", {"const": "1"})
    for method, path, operation in (
        ("POST", "/webhook/{accountToken}", _webhook()),
        ("GET", "/v1/accounts/{id}/positions", _positions()),
        ("GET", "/v1/accounts/{id}/trades", _trades()),
        ("PUT", "/v1/accounts/{id}/webhook-secret", _webhook_secret()),
        ("PUT", "/v1/prices/{ticker}", _price()),
    ):
        document.add(method, path, operation)
    return document.to_dict()


def _webhook() -> DescribedOperation:
    typed: dict[int, list[EventError]] = {}
    for error in EventError:
        typed.setdefault(error.status, []).append(error)
    return DescribedOperation(
        id="executeEvent",
        summary="Execute an event",
        tag=_WEBHOOK,
        description="An event that is sent again is executed once, and gets the same response.",
        is_open=True,
        parameters=[
            path_parameter("accountToken", "The account's token.", example="sample"),
            header_parameter(ID_HEADER, "The event's id; the same on each attempt.", {"type": "string"}),
            header_parameter(TIMESTAMP_HEADER, "Seconds since 1970.", {"type": "string"}),
            header_parameter(SIGNATURE_HEADER, "Signature of Standard Webhooks.", {"type": "string"}),
        ],
        body=ENVELOPE,
        body_examples={"SIGNAL_OPEN": _SAMPLE_EVENT},
        answers={
            200: Answer(description="Executed, or not relevant; the body is empty."),
            **{status: _typed(errors) for status, errors in typed.items()},
        },
        errors=[ForbiddenError, UnavailableError],
    )


def _typed(errors: list[EventError]) -> Answer:
    types = [error.type for error in errors]
    return Answer(
        description="\n".join(f"- `{error.type}`: {error.message}" for error in errors),
        content={
            JSON: {
                "allOf": [
                    EventErrorBody,
                    {"type": "object", "properties": {"type": {"type": "string", "enum": types}}},
                ]
            }
        },
        example={"type": errors[0].type, "message": errors[0].message},
        headers=[ERROR_HEADER],
    )


def _positions() -> DescribedOperation:
    return DescribedOperation(
        id="getPositions",
        summary="An account's funds and open positions",
        tag=_ACCOUNTS,
        parameters=[_ID],
        answers={200: json_reply("The account.", AccountPositions)},
        errors=[*_READ_ERRORS, InvalidQueryParameterError],
    )


def _trades() -> DescribedOperation:
    return DescribedOperation(
        id="listTrades",
        summary="An account's trades, newest first",
        tag=_ACCOUNTS,
        parameters=[
            _ID,
            query_parameter(
                "before",
                "Only trades with a lower id: the last one of the page before.",
                {"type": "integer", "minimum": 1, "maximum": _MAX_WHOLE},
            ),
            query_parameter(
                "limit",
                "How many trades.",
                {"type": "integer", "minimum": 1, "maximum": MAX_TRADES, "default": DEFAULT_TRADES},
            ),
        ],
        answers={200: json_reply("A page of trades.", TradePage)},
        errors=[*_READ_ERRORS, InvalidQueryParameterError],
    )


def _webhook_secret() -> DescribedOperation:
    return DescribedOperation(
        id="setWebhookSecret",
        summary="Set or remove the secret that an account's events must be signed with",
        tag=_ACCOUNTS,
        parameters=[_ID],
        body=NewSecret,
        body_examples={"remove": {"secret": None}},
        answers={204: Answer(description="It is set or removed.")},
        errors=[*_READ_ERRORS, ForbiddenError],
    )


def _price() -> DescribedOperation:
    return DescribedOperation(
        id="setPrice",
        summary="Set an instrument's price",
        tag=_PRICES,
        parameters=[path_parameter("ticker", "An instrument of the catalogue.", example="XAUUSD")],
        body=NewPrice,
        body_examples={"sample": {"price": "2000.00"}},
        answers={200: json_reply("It is set.", StoredPrice)},
        errors=[*_READ_ERRORS, ForbiddenError],
    )
