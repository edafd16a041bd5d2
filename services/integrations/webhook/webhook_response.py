"""What a webhook's answer means (guide, Responding to Events). Pure."""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import orjson
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy

Headers = CIMultiDictProxy[str] | CIMultiDict[str]

ERROR_HEADER: Final = "x-proquant-error"
TYPES: Final = frozenset(
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

_SUCCESS_BELOW: Final = 300
_ERROR_FROM: Final = 400
_GONE: Final = 410
_AGAIN: Final = frozenset({408, 429})
_SERVER_ERROR_FROM: Final = 500


class AttemptOutcome(StrEnum):
    """What comes of an attempt. All but RETRY are final."""

    DELIVERED = "DELIVERED"
    REFUSED = "REFUSED"
    """A typed error: an answer, and a sign of health."""
    FAILED = "FAILED"
    """An answer that makes no sense to repeat."""
    RETRY = "RETRY"


@dataclass(frozen=True, slots=True)
class WebhookResponse:
    """One attempt's result. `status` is None where no whole answer came; `cause` says why, for the user."""

    meaning: AttemptOutcome
    status: int | None
    error_type: str | None = None
    retry_after_seconds: float | None = None
    is_gone: bool = False
    cause: str | None = None

    @property
    def is_healthy(self) -> bool:
        return self.meaning in {AttemptOutcome.DELIVERED, AttemptOutcome.REFUSED}


def no_answer(cause: str, status: int | None = None) -> WebhookResponse:
    return WebhookResponse(AttemptOutcome.RETRY, status, GENERIC, cause=cause)


def read(status: int, headers: Headers, body: bytes | None, now: datetime) -> WebhookResponse:
    """The answer's meaning; `body` is None where it was longer than anybody reads."""
    if status < _SUCCESS_BELOW:
        return WebhookResponse(AttemptOutcome.DELIVERED, status)
    error_type = typed(status, headers, body)
    if error_type is not None:
        return WebhookResponse(AttemptOutcome.REFUSED, status, error_type)
    if status in _AGAIN or status >= _SERVER_ERROR_FROM:
        return WebhookResponse(
            AttemptOutcome.RETRY, status, GENERIC, retry_after_seconds=retry_after(headers, now)
        )
    return WebhookResponse(AttemptOutcome.FAILED, status, GENERIC, is_gone=status == _GONE)


def typed(status: int, headers: Headers, body: bytes | None) -> str | None:
    """The guide's error type, where all four of its requirements are met; else None."""
    if status < _ERROR_FROM or body is None or headers.getall(ERROR_HEADER, []) != ["1"]:
        return None
    types = headers.getall(hdrs.CONTENT_TYPE, [])
    if len(types) != 1 or _media_type(types[0]) != "application/json":
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    found = content.get("type") if isinstance(content, dict) else None
    return found if isinstance(found, str) and found in TYPES else None


def _media_type(text: str) -> str:
    """Without parameters; names of media types have no case."""
    return text.partition(";")[0].strip().lower()


def retry_after(headers: Headers, now: datetime) -> float | None:
    """Seconds to wait as the answer asks for, an hour at most; None where it asks for nothing readable."""
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
