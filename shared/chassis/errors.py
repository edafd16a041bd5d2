"""All errors that a caller can get. Each has one id, one HTTP status and one error object (wire.md §4).

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
│   ├── QuoteNotFoundError         404
│   └── FeeScheduleNotFoundError   404
├── MethodNotAllowedError          405
├── RequestTimeoutError            408
├── QuoteMismatchError             409
├── QuoteExecutedError             409
├── ConflictError                  409
├── QuoteExpiredError              410
├── QuoteReleasedError             410
├── PayloadTooLargeError           413
├── UnsupportedMediaTypeError      415
├── ExpectationFailedError         417
├── AlreadyExistsError             422
├── IdempotencyKeyReusedError      422
├── NoFeeScheduleError             422
├── AmountOutOfRangeError          422
├── ExposureLimitError             422
├── TooManyRequestsError           429
├── UpstreamError                  502
├── UnavailableError               503
└── UpstreamTimeoutError           504

Callers see the message of an error, so a message holds no addresses, SQL or stack traces. Such details for operators
are in ``cause``, which only the log shows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, Final

import orjson

MAX_VALUE_CHARACTERS: Final = 64
MAX_FAULTS: Final = 32
"""Maximum number of faults in a response: without it a short request could cause a response eight times as long."""
BODY_CUT_OFF: Final = "did not arrive completely"
"""Message of the fault if a body ends before its announced length."""
MALFORMED_HTTP: Final = "The request is not well-formed HTTP/1.1."


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of one field of a body or query. It becomes an entry of ``validationErrors``."""

    key: str
    message: str
    value: object = None
    further: Mapping[str, str] = field(default_factory=dict)
    """Further parameters of the entry, by name."""


class QuotingError(Exception):
    """The service failed."""

    id: ClassVar[str] = "QuotingError"
    """Name of the class."""
    status: ClassVar[int] = 503
    retry_after: ClassVar[int | None] = None
    """Default for the header Retry-After, in seconds. An instance may have another value."""

    def __init_subclass__(cls) -> None:
        cls.id = cls.__name__

    def __init__(
        self,
        message: str | None = None,
        *,
        faults: Iterable[Fault] = (),
        cause: str | None = None,
        headers: Mapping[str, str] | None = None,
        retry_after: int | None = None,
    ) -> None:
        """The docstring of the class is the default message. ``cause`` appears only in the log."""
        every = tuple(faults)
        self.faults = every[:MAX_FAULTS]
        self.message = message or _with_first_fault(type(self).__doc__ or "", every)
        self.cause = cause
        self.headers = dict(headers or {})
        seconds = self.retry_after if retry_after is None else retry_after
        if seconds is not None:
            self.headers["Retry-After"] = str(seconds)
        super().__init__(self.message)


class InvalidBodyError(QuotingError):
    """The body is not valid for this operation."""

    status = 400


class InvalidQueryParameterError(QuotingError):
    """The query is not valid for this operation."""

    status = 400


class InvalidHeaderError(QuotingError):
    """A header is not valid for this operation."""

    status = 400


class InvalidUriParameterError(QuotingError):
    """The URL is not valid for this operation."""

    status = 400


class UnauthorizedError(QuotingError):
    """The request has no valid credentials. Send HTTP Basic credentials in UTF-8."""

    status = 401


class ForbiddenError(QuotingError):
    """These credentials do not permit this operation."""

    status = 403


class SubmissionUrlNotAllowedError(QuotingError):
    """The operator of this service has not allowed this submissionUrl."""

    status = 403


class NotFoundError(QuotingError):
    """The service has no such path."""

    status = 404


class ReceiverNotFoundError(NotFoundError):
    """The directory has no receiver with this identifierType and identifier."""


class QuoteNotFoundError(NotFoundError):
    """No quote with this uuid was reserved with these credentials."""


class FeeScheduleNotFoundError(NotFoundError):
    """No quote was priced by a fee schedule with this id."""


class MethodNotAllowedError(QuotingError):
    """The path does not support this method. The Allow header lists the methods that the path supports."""

    status = 405


class RequestTimeoutError(QuotingError):
    """The request did not arrive completely within 10 seconds. Send it again."""

    status = 408


class QuoteMismatchError(QuotingError):
    """The payment differs from the quote that was reserved under this uuid."""

    status = 409


class QuoteExecutedError(QuotingError):
    """The quote was executed, so it cannot be released."""

    status = 409


class ConflictError(QuotingError):
    """The present state does not permit this operation."""

    status = 409


class QuoteExpiredError(QuotingError):
    """The quote has expired. Reserve again with a new Idempotency-Key."""

    status = 410


class QuoteReleasedError(QuotingError):
    """The quote was released. Reserve again with a new Idempotency-Key."""

    status = 410


class PayloadTooLargeError(QuotingError):
    """The body is longer than the maximum of 64 KiB."""

    status = 413


class UnsupportedMediaTypeError(QuotingError):
    """The body must be application/json in UTF-8, without Content-Encoding."""

    status = 415


class ExpectationFailedError(QuotingError):
    """The header Expect may only have the value 100-continue."""

    status = 417


class AlreadyExistsError(QuotingError):
    """The object already exists."""

    status = 422


class IdempotencyKeyReusedError(QuotingError):
    """The Idempotency-Key was used for another request. Choose a new key."""

    status = 422


class NoFeeScheduleError(QuotingError):
    """The payee has no fee schedule for this transferType and currencyCode."""

    status = 422


class AmountOutOfRangeError(QuotingError):
    """The amount is outside the range of the payee's fee schedule."""

    status = 422


class ExposureLimitError(QuotingError):
    """The quote would exceed the payee's limit for what this caller may have reserved in this currency."""

    status = 422


class TooManyRequestsError(QuotingError):
    """There were too many attempts. Retry after the seconds in the Retry-After header."""

    status = 429
    retry_after = 1


class UpstreamError(QuotingError):
    """The next service gave no valid response. The outcome is unknown; repeating is safe."""

    status = 502


class UnavailableError(QuotingError):
    """The service cannot take the request now. Retry after the seconds in the Retry-After header."""

    status = 503
    retry_after = 1


class UpstreamTimeoutError(QuotingError):
    """The time limit of the request has passed. The outcome is unknown; repeating is safe."""

    status = 504


def error_ids() -> set[str]:
    """Return the ids of all errors."""
    kinds = [QuotingError]
    for kind in kinds:  # the list grows while it is read
        kinds += kind.__subclasses__()
    return {kind.__name__ for kind in kinds}


def error_object(error: QuotingError, service: str, trace_id: str) -> bytes:
    """Return the Level One error object (wire.md §4) as JSON."""
    if not error.faults and len(error.message) <= MAX_VALUE_CHARACTERS * 2:
        # a trace id needs no escapes; under overload thousands of error objects differ in it alone
        return b'%b,"traceId":"%b"}' % (_object_start(error.id, error.message, service), trace_id.encode())
    content: dict[str, object] = {
        "id": error.id,
        "message": _writable(error.message),
        "service": service,
        "traceId": trace_id,
    }
    if error.faults:
        content["validationErrors"] = [
            {
                "message": _writable(fault.message),
                "params": {"key": _shown(fault.key), "value": _shown(fault.value), **fault.further},
            }
            for fault in error.faults
        ]
    return orjson.dumps(content)


@lru_cache(maxsize=64)
def _object_start(id_: str, message: str, service: str) -> bytes:
    return orjson.dumps({"id": id_, "message": _writable(message), "service": service})[:-1]


def _with_first_fault(message: str, faults: Sequence[Fault]) -> str:
    """Return the message, extended by the first fault and the number of the other faults, for the log line."""
    if not faults:
        return message
    first = f"{_shown(faults[0].key)} {faults[0].message}"
    others = f", and {len(faults) - 1:,} more" if len(faults) > 1 else ""
    unlisted = f" (the first {MAX_FAULTS} are listed)" if len(faults) > MAX_FAULTS else ""
    return f"{message.rstrip('.')}: {first}{others}{unlisted}."


def _shown(value: object) -> object:
    """Return a value as callers see it: None and booleans unchanged, all others as text of up to 64 characters."""
    if value is None or isinstance(value, bool):
        return value
    return _writable(str(value)[:MAX_VALUE_CHARACTERS])


def _writable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot represent, by ``?``."""
    return text.encode("utf-8", "replace").decode()


def cause_of(error: BaseException) -> str:
    """Return the cause of an error as one line. If the error has no cause, return its text.

    The text of a Postgres error has several lines, such as DETAIL and HINT.
    """
    text = str(getattr(error, "cause", None) or error)
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()) or type(error).__name__
