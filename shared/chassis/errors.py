"""Every failure that a caller can see: one id, one status, one error object (wire.md §4).

QuotingError
├── InvalidBodyError               400
├── InvalidQueryParameterError     400
├── InvalidHeaderError             400
├── InvalidUriParameterError       400
├── UnauthorizedError              401
├── ForbiddenError                 403
├── SubmissionUrlNotAllowedError   403
├── NotFoundError                  404
│   ├── ReceiverNotFoundError      404
│   └── QuoteNotFoundError         404
├── MethodNotAllowedError          405
├── RequestTimeoutError            408
├── QuoteMismatchError             409
├── ConflictError                  409
├── QuoteExpiredError              410
├── PayloadTooLargeError           413
├── UnsupportedMediaTypeError      415
├── ExpectationFailedError         417
├── AlreadyExistsError             422
├── IdempotencyKeyReusedError      422
├── NoFeeScheduleError             422
├── AmountOutOfRangeError          422
├── TooManyRequestsError           429
├── UpstreamError                  502
├── UnavailableError               503
└── UpstreamTimeoutError           504

The message of an error goes to callers: nothing of addresses, SQL or stack traces belongs in it. What an
operator needs beyond it is ``cause``, which goes to the log alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final

import orjson

MAX_VALUE_CHARACTERS: Final = 64


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one field of a body or query: an entry of ``validationErrors``."""

    key: str
    message: str
    value: object = None


class QuotingError(Exception):
    """Something failed."""

    status: ClassVar[int] = 503

    def __init__(
        self,
        message: str | None = None,
        *,
        faults: Iterable[Fault] = (),
        cause: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """An error's docstring is its message where none is given; ``cause`` is for the log alone."""
        self.faults = tuple(faults)
        self.message = message or _summary((type(self).__doc__ or "").strip(), self.faults)
        self.cause = cause
        self.headers = dict(headers or {})
        super().__init__(self.message)

    @property
    def id(self) -> str:
        return type(self).__name__


class InvalidBodyError(QuotingError):
    """The body is not what this operation takes."""

    status = 400


class InvalidQueryParameterError(QuotingError):
    """The query is not what this operation takes."""

    status = 400


class InvalidHeaderError(QuotingError):
    """A header is not what this operation takes."""

    status = 400


class InvalidUriParameterError(QuotingError):
    """The URL is not what this operation takes."""

    status = 400


class UnauthorizedError(QuotingError):
    """Valid credentials are needed: HTTP Basic, in UTF-8."""

    status = 401


class ForbiddenError(QuotingError):
    """These credentials do not allow that."""

    status = 403


class SubmissionUrlNotAllowedError(QuotingError):
    """The submissionUrl is not one that requests may be sent to."""

    status = 403


class NotFoundError(QuotingError):
    """There is no such path."""

    status = 404


class ReceiverNotFoundError(NotFoundError):
    """The directory knows nobody under this identifierType and identifier."""


class QuoteNotFoundError(NotFoundError):
    """There is no quote under this uuid."""


class MethodNotAllowedError(QuotingError):
    """The path does not take this method."""

    status = 405


class RequestTimeoutError(QuotingError):
    """The request did not arrive whole in time."""

    status = 408


class QuoteMismatchError(QuotingError):
    """The payment differs from the quote that was reserved under this uuid."""

    status = 409


class ConflictError(QuotingError):
    """That cannot be done as things stand."""

    status = 409


class QuoteExpiredError(QuotingError):
    """The quote has expired."""

    status = 410


class PayloadTooLargeError(QuotingError):
    """A body may be 64 KiB long at most."""

    status = 413


class UnsupportedMediaTypeError(QuotingError):
    """The body must be application/json, in UTF-8, without a Content-Encoding."""

    status = 415


class ExpectationFailedError(QuotingError):
    """Only 100-continue can be expected."""

    status = 417


class AlreadyExistsError(QuotingError):
    """That exists already."""

    status = 422


class IdempotencyKeyReusedError(QuotingError):
    """The Idempotency-Key belongs to another request."""

    status = 422


class NoFeeScheduleError(QuotingError):
    """There is no fee schedule for this transferType and currencyCode."""

    status = 422


class AmountOutOfRangeError(QuotingError):
    """The amount is outside the bounds of the fee schedule."""

    status = 422


class TooManyRequestsError(QuotingError):
    """Too many attempts; try again later."""

    status = 429

    def __init__(self, message: str | None = None, *, retry_after: int = 1, cause: str | None = None) -> None:
        super().__init__(message, cause=cause, headers={"Retry-After": str(retry_after)})


class UpstreamError(QuotingError):
    """The next service cannot be reached or gave no answer; repeating is safe."""

    status = 502


class UnavailableError(QuotingError):
    """The service cannot take this now; try again later."""

    status = 503

    def __init__(self, message: str | None = None, *, retry_after: int = 1, cause: str | None = None) -> None:
        super().__init__(message, cause=cause, headers={"Retry-After": str(retry_after)})


class UpstreamTimeoutError(QuotingError):
    """The time for this request is used up; repeating is safe."""

    status = 504


def error_object(error: QuotingError, service: str, trace_id: str, *, id_: str | None = None) -> bytes:
    """The Level One error object (wire.md §4) as JSON."""
    content: dict[str, object] = {
        "id": id_ or error.id,
        "message": _writable(error.message),
        "service": service,
        "traceId": trace_id,
    }
    if error.faults:
        content["validationErrors"] = [
            {
                "message": _writable(fault.message),
                "params": {"key": _shown(fault.key), "value": _shown(fault.value)},
            }
            for fault in error.faults
        ]
    return orjson.dumps(content)


def _summary(general: str, faults: tuple[Fault, ...]) -> str:
    """The general message, and the first fault with it, so that one line of a log already helps."""
    if not faults:
        return general
    first = f"{_shown(faults[0].key)} {faults[0].message}"
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"{general.rstrip('.')}: {first}{more}."


def _shown(value: object) -> object:
    """A faulty value as it may be told: scalars as they are, anything long cut."""
    if value is None or isinstance(value, bool):
        return value
    return _writable(str(value))[:MAX_VALUE_CHARACTERS]


def _writable(text: str) -> str:
    """Text without what JSON in UTF-8 cannot hold: a lone surrogate of the caller's becomes ``?``."""
    return text.encode("utf-8", "replace").decode()
