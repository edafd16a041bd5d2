"""All errors of the client: one class for each error id of the Quote API (wire.md §4), and two more.

QuoteError
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
├── UpstreamTimeoutError           504
├── NoResponseError                no response arrived before the deadline
└── InvalidResponseError           the response is not one of the Quote API

An argument that is wrong before anything is sent is a TypeError or a ValueError that names it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceededLimit:
    """A limit that a quote would exceed. For a sum the numbers are amounts, otherwise numbers of quotes."""

    limit: Decimal
    exposure: Decimal
    """The sum or number that is reserved now, without the refused quote."""
    requested: Decimal
    """The amount or number that the refused quote would add."""


class QuoteError(Exception):
    """The request failed."""

    status: int | None = None
    """The HTTP status; None without a response."""
    id: str
    """The error id of the service; without one, the name of the class."""
    message: str
    """For people; it can change. Decide by the class."""
    fields: Mapping[str, str]
    """The message for each field that the service names, by the field's name in the Quote API."""
    service: str | None
    """The service that found the error."""
    trace_id: str | None
    """Finds the request in the logs of the services."""
    idempotency_key: str | None
    """The key of a reservation: the same arguments with this key give the same quote."""
    limits: Mapping[str, ExceededLimit]
    """The limits that the quote would exceed, for ExposureLimitError: by `amount` for the sum, `currencyCode` for the number."""
    retry_after: float | None
    """Seconds that the service wants a caller to wait before it repeats the request."""
    is_outcome_unknown: bool
    """Whether the request may have been carried out all the same. Repeat it, a reservation with its key."""

    def __init__(
        self,
        message: str | None = None,
        *,
        status: int | None = None,
        id: str | None = None,  # noqa: A002 - the error object's own word
        fields: Mapping[str, str] | None = None,
        limits: Mapping[str, ExceededLimit] | None = None,
        service: str | None = None,
        trace_id: str | None = None,
        idempotency_key: str | None = None,
        retry_after: float | None = None,
        is_outcome_unknown: bool = False,
    ) -> None:
        """The docstring of the class is the default message."""
        self.message = message or type(self).__doc__ or ""
        self.id = id or type(self).__name__
        self.status = type(self).status if status is None else status
        self.fields = dict(fields or {})
        self.limits = dict(limits or {})
        self.service = service
        self.trace_id = trace_id
        self.idempotency_key = idempotency_key
        self.retry_after = retry_after
        self.is_outcome_unknown = is_outcome_unknown
        super().__init__(self.message)

    def __str__(self) -> str:
        origin = [f"service {self.service}"] if self.service else []
        if self.trace_id:
            origin.append(f"trace id {self.trace_id}")
        return f"{self.message} ({', '.join(origin)})" if origin else self.message


class InvalidBodyError(QuoteError):
    """The body is not valid for this operation."""

    status = 400


class InvalidQueryParameterError(QuoteError):
    """The query is not valid for this operation."""

    status = 400


class InvalidHeaderError(QuoteError):
    """A header is not valid for this operation."""

    status = 400


class InvalidUriParameterError(QuoteError):
    """The URL is not valid for this operation."""

    status = 400


class UnauthorizedError(QuoteError):
    """The request has no valid credentials. Send HTTP Basic credentials in UTF-8."""

    status = 401


class ForbiddenError(QuoteError):
    """These credentials do not permit this operation."""

    status = 403


class SubmissionUrlNotAllowedError(QuoteError):
    """The operator of this service has not allowed this submissionUrl."""

    status = 403


class NotFoundError(QuoteError):
    """The service has no such path."""

    status = 404


class ReceiverNotFoundError(NotFoundError):
    """The directory has no receiver with this identifierType and identifier."""


class QuoteNotFoundError(NotFoundError):
    """No quote with this uuid was reserved with these credentials."""


class FeeScheduleNotFoundError(NotFoundError):
    """No quote was priced by a fee schedule with this id."""


class MethodNotAllowedError(QuoteError):
    """The path does not support this method. The Allow header lists the methods that the path supports."""

    status = 405


class RequestTimeoutError(QuoteError):
    """The request did not arrive completely within 10 seconds. Send it again."""

    status = 408


class QuoteMismatchError(QuoteError):
    """The payment differs from the quote that was reserved under this uuid."""

    status = 409


class QuoteExecutedError(QuoteError):
    """The quote was executed, so it cannot be released."""

    status = 409


class ConflictError(QuoteError):
    """The present state does not permit this operation."""

    status = 409


class QuoteExpiredError(QuoteError):
    """The quote has expired. Reserve again with a new Idempotency-Key."""

    status = 410


class QuoteReleasedError(QuoteError):
    """The quote was released. Reserve again with a new Idempotency-Key."""

    status = 410


class PayloadTooLargeError(QuoteError):
    """The body is longer than the maximum of 64 KiB."""

    status = 413


class UnsupportedMediaTypeError(QuoteError):
    """The body must be application/json in UTF-8, without Content-Encoding."""

    status = 415


class ExpectationFailedError(QuoteError):
    """The header Expect may only have the value 100-continue."""

    status = 417


class AlreadyExistsError(QuoteError):
    """The object already exists."""

    status = 422


class IdempotencyKeyReusedError(QuoteError):
    """The Idempotency-Key was used for another request. Choose a new key."""

    status = 422


class NoFeeScheduleError(QuoteError):
    """The payee has no fee schedule for this transferType and currencyCode."""

    status = 422


class AmountOutOfRangeError(QuoteError):
    """The amount is outside the range of the payee's fee schedule."""

    status = 422


class ExposureLimitError(QuoteError):
    """The quote would exceed the payee's limit for what this caller may have reserved in this currency."""

    status = 422


class TooManyRequestsError(QuoteError):
    """There were too many attempts. Retry after the seconds in the Retry-After header."""

    status = 429


class UpstreamError(QuoteError):
    """The next service gave no valid response. The outcome is unknown; repeating is safe."""

    status = 502


class UnavailableError(QuoteError):
    """The service cannot take the request now. Retry after the seconds in the Retry-After header."""

    status = 503


class UpstreamTimeoutError(QuoteError):
    """The time limit of the request has passed. The outcome is unknown; repeating is safe."""

    status = 504


class NoResponseError(QuoteError):
    """No response arrived before the deadline. The outcome is unknown; repeating is safe."""


class InvalidResponseError(QuoteError):
    """The response is not one of the Quote API. Check the URL, and the proxies on the way to it."""


def _subclasses(cls: type[QuoteError]) -> Iterator[type[QuoteError]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)


ERRORS_BY_ID: Final[Mapping[str, type[QuoteError]]] = {
    each.__name__: each for each in _subclasses(QuoteError) if each.status is not None
}
"""The classes that stand for an error id of the services."""
