"""``/openapi.json`` of the chain. It describes the operations with the schemas that also check them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from marshmallow import Schema

from chassis.content import JSON
from chassis.errors import (
    AmountOutOfRangeError,
    ExposureLimitError,
    IdempotencyKeyReusedError,
    InvalidQueryParameterError,
    NoFeeScheduleError,
    QuoteExecutedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    QuoteReleasedError,
    QuotingError,
    UnavailableError,
    UpstreamTimeoutError,
)
from chassis.openapi import (
    Answer,
    DescribedOperation,
    Document,
    header_parameter,
    json_reply,
    path_parameter,
    query_parameter,
    schema_of,
)
from chassis.patterns import pattern_of
from chassis.schemas import Text
from chassis.tracing import TRACEPARENT_HEADER
from quoting import json_schema, schemas
from quoting.call import (
    DEFAULT_TIMEOUT_MS,
    IDEMPOTENCY_HEADER,
    KEY,
    LIFETIME_HEADER,
    MAX_TIMEOUT_MS,
    SUBMISSION_URL,
    TIMEOUT_HEADER,
    Operation,
)

_RESERVE, _PAY, _RELEASE, LOOK_UP_TAG = "Reserve", "Pay", "Release", "Look up"
_TAGS: Final = {
    _RESERVE: "Agree on the terms of a transfer.",
    _PAY: "Carry out a transfer on the terms that were reserved.",
    _RELEASE: "Give up a quote that was not paid.",
    LOOK_UP_TAG: "Read a quote.",
}
_IDEMPOTENCY: Final = (
    f"A key in `{IDEMPOTENCY_HEADER}` stands for one attempt to agree on terms. The same request with the same key gives"
    " the same quote, however often it is sent, also after the quote has expired or was paid. So repeat a request whose"
    " outcome is unknown (no response, 502, 503, 504) with the same key: at most one quote comes of it. To get new terms,"
    " for example after `expires`, send a new key. A request without a key gets one: it is on the response."
)
_ABOUT: Final = (
    "One of the services that carry a quote from the payer's DFSP to the payee's. Reserve a quote, pay it before it"
    f" expires, or look it up.\n\n**Idempotency.** {_IDEMPOTENCY} Paying and looking up need no key: they can be repeated"
    " as they are."
)
_TIMEOUT: Final = header_parameter(
    TIMEOUT_HEADER,
    f"The time that the caller waits, in milliseconds. More than {MAX_TIMEOUT_MS:,} counts as {MAX_TIMEOUT_MS:,}. After it"
    " comes a 504, and nothing is begun any more.",
    {"type": "integer", "minimum": 1, "default": DEFAULT_TIMEOUT_MS},
)
_TRACEPARENT: Final = header_parameter(
    TRACEPARENT_HEADER,
    "W3C trace context, passed on to the next service. One that is malformed is left out.",
    {"type": "string", "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]},
)
COMMON_HEADERS: Final = (_TIMEOUT, _TRACEPARENT)
"""The headers that a request to any operation may have."""
_KEY_SCHEMA: Final = {"type": "string", "pattern": pattern_of(KEY), "examples": ["invoice-2026-0815"]}
_KEY: Final = header_parameter(
    IDEMPOTENCY_HEADER,
    "Names this attempt to agree on terms: 1 to 128 visible ASCII characters. Repeat the request with the same key; send a"
    " new key for new terms.",
    _KEY_SCHEMA,
)
_LIFETIME: Final = header_parameter(
    LIFETIME_HEADER,
    "Lifetime of the quote in milliseconds, up to a maximum of the payee; absent: the payee's default. Like the body,"
    " it must be the same when an Idempotency-Key is used again.",
    {"type": "integer", "minimum": 1, "maximum": 86_400_000},
)
_SAMPLE_UUID: Final = "729bce92-cf6b-81d3-9085-437ed128fe45"
_UUID: Final = path_parameter(
    "uuid", "The quote's id.", {"type": "string", "format": "uuid"}, example=_SAMPLE_UUID
)

_REQUEST: Final = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": json_schema.ACCOUNT["examples"][0],
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
_EXPIRES: Final = "2026-11-21T02:23:51.099Z"
_CREATED: Final = "2026-11-21T02:18:51.099Z"
_AMOUNTS: Final = {"sourceAmount": "13.75", "destinationAmount": "12.50", "fee": "1.25"}
_EXECUTION: Final = {
    "uuid": _SAMPLE_UUID,
    "state": "EXECUTED",
    **_AMOUNTS,
    "executed": "2026-11-21T02:18:51.322Z",
}
EXPLANATION_EXAMPLE: Final[dict[str, Any]] = {
    "schedule": "d037ef7bbdecfa56e69801686c129b0a1bb8534dc906a7db5ab94138fc0c988d",
    "rule": {"transferType": "p2p", "currencyCode": "USD"},
    "step": {"from": "0.01", "to": "1000000.00", "flat": "0.00", "percent": "10"},
    "least": "0.01",
    "most": None,
    "rounding": "up",
    "unrounded": "1.25",
}
_RELEASED: Final = {"uuid": _SAMPLE_UUID, "state": "RELEASED", "released": "2026-11-21T02:19:51.322Z"}
QUOTE_EXAMPLE: Final = {
    "uuid": _SAMPLE_UUID,
    "state": "RESERVED",
    "operation": "quoteSourceAmount",
    "amount": "13.75",
    **_AMOUNTS,
    "expires": _EXPIRES,
    "created": _CREATED,
    "executed": None,
    "released": None,
    "request": _REQUEST,
    "explanation": EXPLANATION_EXAMPLE,
}

_SUBMISSION_URL: Final = "Where spsp-client sends the request: a URL that its operator has allowed, with the path of this operation."
_LINKS: Final = {
    "pay": {
        "operationId": "pay",
        "parameters": {"uuid": "$response.body#/uuid"},
        "requestBody": "$request.body",
        "description": "Pay with the same body.",
    },
    "lookUp": {
        "operationId": "lookUpQuote",
        "parameters": {
            "uuid": "$response.body#/uuid",
            "identifierType": "$request.body#/identifierType",
            "identifier": "$request.body#/identifier",
        },
        "description": "Look the quote up with the receiver of the reservation.",
    },
}

_RESERVE_ERRORS: Final = (
    QuoteExpiredError,
    IdempotencyKeyReusedError,
    NoFeeScheduleError,
    AmountOutOfRangeError,
    ExposureLimitError,
)
_PAY_ERRORS: Final = (QuoteNotFoundError, QuoteMismatchError, QuoteReleasedError, QuoteExpiredError)
_RELEASE_ERRORS: Final = (QuoteNotFoundError, QuoteExecutedError, QuoteExpiredError)
_COMMON_ERRORS: Final = (InvalidQueryParameterError, UnavailableError, UpstreamTimeoutError)


def openapi(
    title: str,
    query: Sequence[str],
    required: Sequence[str] = (),
    errors: Sequence[type[QuotingError]] = (),
    further: Sequence[tuple[str, DescribedOperation]] = (),
) -> dict[str, Any]:
    """Return the document of a service whose look-up has the parameters in `query`, and must have those in `required`.

    `errors` are those of this service and the ones behind it that the payee does not give. `further` are the paths and
    descriptions of operations with the method GET that this service alone has.
    """
    document = Document(title, _ABOUT, _TAGS)
    document.header(IDEMPOTENCY_HEADER, "The key of the request: repeat it with this key.", _KEY_SCHEMA)
    of_hop = _Hop(query, required, (*_COMMON_ERRORS, *errors))
    for operation, described in {
        Operation.QUOTE_SOURCE_AMOUNT: of_hop.reservation(
            operation_id="quoteSourceAmount",
            summary="Reserve by the amount that arrives",
            description="`amount` is what shall arrive. The answer is what the payer must send, fee included.",
            answered="13.75",
        ),
        Operation.QUOTE_DESTINATION_AMOUNT: of_hop.reservation(
            operation_id="quoteDestinationAmount",
            summary="Reserve by the amount that is sent",
            description="`amount` is what the payer sends, fee included. The answer is what arrives.",
            answered="11.25",
        ),
        Operation.EXECUTE: of_hop.payment(),
        Operation.LOOK_UP: of_hop.look_up(),
        Operation.RELEASE: of_hop.release(),
    }.items():
        document.add(operation.method, operation.path, described)
    for path, own in further:
        document.add("GET", path, own)
    return document.to_dict()


class _Hop:
    """The operations as one service of the chain takes them."""

    def __init__(
        self, query: Sequence[str], required: Sequence[str], errors: Sequence[type[QuotingError]]
    ) -> None:
        self._query = query
        self._required = required
        self._errors = errors
        self._needs_url = SUBMISSION_URL in query

    def reservation(
        self, *, operation_id: str, summary: str, description: str, answered: str
    ) -> DescribedOperation:
        quote = {"amount": answered, "expires": _EXPIRES, "uuid": _SAMPLE_UUID}
        return DescribedOperation(
            id=operation_id,
            summary=summary,
            tag=_RESERVE,
            description=f"{description} The difference is the fee.\n\n{_IDEMPOTENCY}",
            parameters=[_KEY, _LIFETIME, *COMMON_HEADERS],
            body=self._body(schemas.Reservation),
            body_examples={"sample": self._example(f"/v1/{operation_id}")},
            answers={
                200: Answer(
                    description="The terms are reserved until `expires`, under the uuid.",
                    content={JSON: schemas.Quote},
                    example=quote,
                    links={} if self._needs_url else _LINKS,
                )
            },
            errors=(*_RESERVE_ERRORS, *self._errors),
            reply_headers=[IDEMPOTENCY_HEADER],
        )

    def payment(self) -> DescribedOperation:
        return DescribedOperation(
            id="pay",
            summary="Pay a reserved quote",
            tag=_PAY,
            description="The body has the fields as they were reserved; one that differs is a 409. The quote is paid at"
            " most once, and not at or after `expires`. The same request again gives the same response, so repeat it if"
            " the outcome is unknown.",
            parameters=[_UUID, *COMMON_HEADERS],
            body=self._body(schemas.Payment),
            body_examples={"sample": self._example(f"/v1/payments/{_SAMPLE_UUID}")},
            answers={200: json_reply("The quote is paid.", schemas.Execution, _EXECUTION)},
            errors=(*_PAY_ERRORS, *self._errors),
        )

    def release(self) -> DescribedOperation:
        return DescribedOperation(
            id="releaseQuote",
            summary="Release a reserved quote",
            tag=_RELEASE,
            description="A released quote cannot be paid any more, and one that was paid cannot be released. The same"
            " request again gives the same response, so repeat it if the outcome is unknown. The Idempotency-Key of the"
            " reservation still gives this quote: reserve with a new key to get new terms.",
            parameters=[_UUID, *map(self._query_parameter, self._query), *COMMON_HEADERS],
            answers={200: json_reply("The quote is released.", schemas.Release, _RELEASED)},
            errors=(*_RELEASE_ERRORS, *self._errors),
        )

    def look_up(self) -> DescribedOperation:
        return DescribedOperation(
            id="lookUpQuote",
            summary="Look up a quote",
            tag=LOOK_UP_TAG,
            description="A caller sees its own quotes only.",
            parameters=[_UUID, *map(self._query_parameter, self._query), *COMMON_HEADERS],
            answers={200: json_reply("The quote as it is now.", schemas.QuoteState, QUOTE_EXAMPLE)},
            errors=(QuoteNotFoundError, *self._errors),
        )

    def _query_parameter(self, name: str) -> dict[str, Any]:
        is_required = name in self._required
        if name == SUBMISSION_URL:
            return query_parameter(name, _SUBMISSION_URL, required=is_required)
        field = schemas.RECEIVER.fields[name]
        schema = schema_of(field) if is_required else None
        return query_parameter(name, field.metadata["description"], schema, required=is_required)

    def _body(self, schema: type[Schema]) -> type[Schema]:
        return _with_submission_url(schema) if self._needs_url else schema

    def _example(self, path: str) -> dict[str, str]:
        return {**_REQUEST, SUBMISSION_URL: f"http://127.0.0.1:8013{path}"} if self._needs_url else _REQUEST


@cache
def _with_submission_url(schema: type[Schema]) -> type[Schema]:
    url = Text(required=True, metadata={"description": _SUBMISSION_URL})
    return type(
        f"{schema.__name__}WithSubmissionUrl", (schema,), {"__doc__": schema.__doc__, SUBMISSION_URL: url}
    )
