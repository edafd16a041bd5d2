"""The sample request of the Quote API, and requests that are variants of it."""

import base64
from typing import Final

QUOTE: Final = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": "http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
RESERVE: Final = "/v1/quoteSourceAmount"
RESERVE_DESTINATION: Final = "/v1/quoteDestinationAmount"
LOOK_UP_QUERY: Final = "identifierType=eur&identifier=30754016"
UNKNOWN_UUID: Final = "110ec58a-a0f2-4ac4-8393-c866d813b8d1"
TRACE: Final = "L1p-Trace-Id"
KEY: Final = "Idempotency-Key"


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


TEST: Final = basic("test", "123")
OTHER: Final = basic("other", "456")


def headers(authorization: str | None = TEST, **more: str) -> dict[str, str]:
    """Return the headers of a well-formed request. Keywords are further headers, with "_" in place of "-"."""
    made = {"Content-Type": "application/json", "Accept": "application/json"}
    if authorization is not None:
        made["Authorization"] = authorization
    return made | {name.replace("_", "-"): value for name, value in more.items()}


def keys_of(error: dict) -> list[str]:
    """The fields that an error object names."""
    return [fault["params"]["key"] for fault in error.get("validationErrors", [])]
