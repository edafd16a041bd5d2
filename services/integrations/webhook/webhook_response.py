"""Decide what a webhook's response means (guide, Responding to Events). Pure: no I/O."""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

from chassis.json_object import object_in

Headers = CIMultiDictProxy[str] | CIMultiDict[str]

ERROR_HEADER: Final = "x-proquant-error"
ERROR_TYPES: Final = frozenset(
    {
        "InsufficientFunds",
        "QuantityTooLow",
        "QuantityTooHigh",
        "InvalidQuantityPrecision",
        "UnsupportedInstrument",
        "PositionAlreadyExists",
        "MarketClosed",
        "PositionNotFound",
        "InvalidCredentials",
    }
)
GENERIC: Final = "Generic"
MAX_RETRY_AFTER_SECONDS: Final = 3_600.0
SUCCESS_BELOW: Final = 300

_ERROR_FROM: Final = 400
_GONE: Final = 410
_RETRIED: Final = frozenset({408, 429})
_SERVER_ERROR_FROM: Final = 500


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response as it arrived from a webhook, complete or not.

    `status` is None if no status line arrived. `body` is None if it was too long or could not be read. `cause` says
    what was wrong.
    """

    status: int | None
    headers: Headers
    body: bytes | None
    cause: str | None = None


class AttemptOutcome(StrEnum):
    """Result of one attempt to deliver an event. RETRY is the only result after which the event is sent again."""

    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    """The webhook answered with a typed error of the guide. This does not count as a failure of the webhook."""
    FAILED = "FAILED"
    """An error that a retry would not change."""
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """Meaning of a response. `status` is None if no status arrived; `cause` is shown in the user's attempt log."""

    outcome: AttemptOutcome
    status: int | None
    error_type: str | None = None
    retry_after_seconds: float | None = None
    is_gone: bool = False
    cause: str | None = None

    @property
    def is_healthy(self) -> bool:
        return self.outcome in {AttemptOutcome.DELIVERED, AttemptOutcome.REFUSED}


def classify(response: HttpResponse, now: datetime) -> WebhookResponse:
    """Return what a response means at the time `now`.

    The status decides. Only a typed error also needs certain headers and a certain body.
    """
    status, cause = response.status, response.cause
    if status is None:
        return WebhookResponse(AttemptOutcome.RETRY, None, GENERIC, cause=cause)
    if status < SUCCESS_BELOW:
        return WebhookResponse(AttemptOutcome.DELIVERED, status, cause=cause)
    error_type = error_type_of(response)
    if error_type is not None:
        return WebhookResponse(AttemptOutcome.REFUSED, status, error_type)
    if status in _RETRIED or status >= _SERVER_ERROR_FROM:
        seconds = retry_after(response.headers, now)
        return WebhookResponse(
            AttemptOutcome.RETRY, status, GENERIC, retry_after_seconds=seconds, cause=cause
        )
    return WebhookResponse(AttemptOutcome.FAILED, status, GENERIC, is_gone=status == _GONE, cause=cause)


def error_type_of(response: HttpResponse) -> str | None:
    """Return the type of a typed error; None if the response does not meet all four requirements of the guide."""
    status, headers, body = response.status, response.headers, response.body
    if status is None or status < _ERROR_FROM or body is None or headers.getall(ERROR_HEADER, []) != ["1"]:
        return None
    types = headers.getall(hdrs.CONTENT_TYPE, [])
    if len(types) != 1 or _media_type(types[0]) != "application/json":
        return None
    found = (object_in(body) or {}).get("type")
    return found if isinstance(found, str) and found in ERROR_TYPES else None


def _media_type(text: str) -> str:
    return text.partition(";")[0].strip().lower()


def retry_after(headers: Headers, now: datetime) -> float | None:
    """Return the delay that the header Retry-After requests, in seconds and at most one hour.

    Return None if the header is missing or cannot be read.
    """
    given = headers.getall(hdrs.RETRY_AFTER, [])
    if len(given) != 1:
        return None
    text = given[0].strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        until = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=now.tzinfo)
    seconds = (until - now).total_seconds()
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if seconds > 0 else None
