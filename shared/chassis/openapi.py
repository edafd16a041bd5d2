"""``/openapi.json``: operations, schemas and errors as OpenAPI 3.1, from the code that checks and answers requests.

Schemas come from the marshmallow schemas of the messages, errors from the classes in :mod:`chassis.errors`. Patterns
are in the syntax of ECMAScript, as JSON Schema wants them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import orjson
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from marshmallow import EXCLUDE, Schema, fields

from chassis.content import JSON
from chassis.errors import (
    ExpectationFailedError,
    ExposureLimitError,
    Fault,
    ForbiddenError,
    InvalidBodyError,
    InvalidHeaderError,
    InvalidQueryParameterError,
    InvalidUriParameterError,
    PayloadTooLargeError,
    QuotingError,
    RequestTimeoutError,
    TooManyRequestsError,
    UnauthorizedError,
    UnsupportedMediaTypeError,
    error_object,
)
from chassis.patterns import PRINTABLE, pattern_of
from chassis.schemas import Text
from chassis.tracing import TRACE_HEADER

ErrorClasses = Sequence[type[QuotingError]]

SAMPLE_TRACE_ID: Final = "8a1c6c1e-5a3f-4a53-9d1b-0d6f0b1f6f5e"

_ANY_REQUEST: Final[ErrorClasses] = (InvalidHeaderError, InvalidUriParameterError)
"""Malformed HTTP, and a header or URL that is too long."""
_WITH_CREDENTIALS: Final[ErrorClasses] = (UnauthorizedError, TooManyRequestsError)
_WITH_BODY: Final[ErrorClasses] = (
    InvalidBodyError,
    RequestTimeoutError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    ExpectationFailedError,
)
_FAULTY: Final = {InvalidBodyError: "amount", InvalidQueryParameterError: "identifier"}
"""Errors that name fields, with the field of the example."""
_EXCEEDED: Final = Fault(
    "amount",
    "would take the reserved source amounts from 27.50 by 13.75 above 30.00 USD",
    "12.50",
    {"limit": "30.00", "exposure": "27.50", "requested": "13.75"},
)
_OPERATORS: Final = "Operators"


class Reply(Schema):
    """The body of a response. Clients ignore fields that they do not know: later versions may add some."""

    class Meta:
        unknown = EXCLUDE


class FaultParameters(Reply):
    """The field at fault and its value, cut to 64 characters."""

    key = fields.String(required=True, metadata={"description": "Name of the field."})
    value = fields.Raw(
        required=True,
        allow_none=True,
        metadata={"type": ["string", "boolean"], "description": "Its value."},
    )
    limit = fields.String(
        metadata={"description": "ExposureLimitError: the largest sum, or the largest number of quotes."}
    )
    exposure = fields.String(metadata={"description": "ExposureLimitError: what is reserved now."})
    requested = fields.String(metadata={"description": "ExposureLimitError: what this quote would add."})


class ValidationFault(Reply):
    """One fault of one field."""

    message = fields.String(required=True, metadata={"description": "What is wrong, for people."})
    params = fields.Nested(FaultParameters, required=True)


class Error(Reply):
    """The Level One error object. Decide by `id` and the status; `message` is for people and may change."""

    id = fields.String(required=True)
    message = fields.String(required=True)
    service = fields.String(required=True, metadata={"description": "The service that found the error."})
    traceId = fields.String(required=True, metadata={"description": f"As the header {TRACE_HEADER}."})  # noqa: N815
    validationErrors = fields.List(  # noqa: N815
        fields.Nested(ValidationFault),
        metadata={
            "description": "Only where a body, a query or a payment is at fault: one entry for each fault."
        },
    )


_WARNINGS: Final = (
    "Files whose previous content stays in force because they have a fault, and other faults that do not make the service"
    " unusable. Only if there are any."
)


class _Live(Reply):
    status = fields.Constant("live", required=True)


class _Ready(Reply):
    status = fields.Constant("ready", required=True)
    warnings = fields.List(fields.String(), metadata={"description": _WARNINGS})


class _NotReady(Reply):
    """The resources that are missing."""

    status = fields.Constant("not ready", required=True)
    missing = fields.List(fields.String(), required=True)
    warnings = fields.List(fields.String(), metadata={"description": _WARNINGS})


class _Setting(Reply):
    """One setting as it is in force."""

    name = fields.String(required=True, metadata={"description": "The environment variable."})
    value = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The value as text; null if there is none. Of a secret only `set`, or its URL without a password."
        },
    )
    source = fields.String(
        required=True,
        metadata={"json_schema": {"enum": ["default", "environment", "file"]}},
    )
    variable = fields.String(
        required=True,
        allow_none=True,
        metadata={
            "description": "The variable that was set: the name, an old name, or one that ends in `_FILE`."
        },
    )
    isSecret = fields.Boolean(required=True)  # noqa: N815


class _ConfigurationTable(Reply):
    """The content of a file in force: a fee schedule, a directory."""

    title = fields.String(required=True)
    columns = fields.List(fields.String(), required=True)
    rows = fields.List(
        fields.List(fields.String()), required=True, metadata={"description": "At most 500 of them."}
    )
    total = fields.Integer(required=True, metadata={"description": "The number of all rows."})


class _Configuration(Reply):
    """The configuration of this process."""

    service = fields.String(required=True)
    version = fields.String(required=True)
    settings = fields.List(fields.Nested(_Setting), required=True)
    tables = fields.List(fields.Nested(_ConfigurationTable), required=True)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A response other than the error object. `content` maps media types to a schema; None is a response without a body."""

    description: str
    content: Mapping[str, Any] | None = None
    example: object = None
    headers: Sequence[str] = ()
    links: Mapping[str, Any] = field(default_factory=dict)


def json_reply(description: str, schema: object, example: object = None) -> Answer:
    return Answer(description=description, content={JSON: schema}, example=example)


@dataclass(frozen=True, kw_only=True, eq=False)
class DescribedOperation:
    """One method of one path, and its possible responses."""

    id: str
    summary: str
    tag: str
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    body: object | None = None
    """Schema of the JSON body; None where there is none."""
    body_examples: Mapping[str, object] = field(default_factory=dict)
    errors: ErrorClasses = ()
    """Beside those of every operation, of operations with a body, and of operations with credentials."""
    is_open: bool = False
    """Whether it needs no credentials."""
    reply_headers: Sequence[str] = ()
    """Components that each response of the operation has as headers, beside the trace id."""


class Document:
    """The document of one service."""

    def __init__(self, title: str, description: str, tags: Mapping[str, str]) -> None:
        """`tags` are the groups of operations, with a description each."""
        self._service = title
        self._spec = APISpec(
            title,
            version("dfsp-quoting"),
            "3.1.0",
            plugins=[_Plugin()],
            info={"description": description, "license": {"name": "MIT", "identifier": "MIT"}},
            servers=[{"url": "/", "description": "The service that serves this document"}],
            tags=[
                *({"name": name, "description": text} for name, text in tags.items()),
                {"name": _OPERATORS, "description": "Health, metrics, documents and configuration."},
            ],
        )
        self._spec.components.schema("Error", schema=Error)
        self._spec.components.security_scheme(
            "basic", {"type": "http", "scheme": "basic", "description": "Name and password, in UTF-8."}
        )
        self.header(
            TRACE_HEADER, "Id of the request in the logs of each service that it reached.", {"type": "string"}
        )
        self.header(
            "Retry-After",
            "Seconds to wait before the request is repeated.",
            {"type": "integer", "minimum": 0},
        )
        self.header(
            "WWW-Authenticate", "`Basic`, with the service that refused the credentials.", {"type": "string"}
        )
        self._add_operators_paths()

    def header(self, name: str, description: str, schema: Mapping[str, Any]) -> None:
        """Add a header that responses may have."""
        self._spec.components.header(name, {"description": description, "schema": dict(schema)})

    def add(self, method: str, path: str, operation: DescribedOperation) -> None:
        described: dict[str, Any] = {
            "operationId": operation.id,
            "summary": operation.summary,
            "tags": [operation.tag],
            "security": [] if operation.is_open else [{"basic": []}],
            "parameters": [*map(dict, operation.parameters), _TRACE_PARAMETER],
            "responses": {
                **{str(status): self._success(each, operation) for status, each in operation.answers.items()},
                **self._errors(operation),
            },
        }
        if operation.description:
            described["description"] = operation.description
        if operation.body is not None:
            examples = {name: {"value": value} for name, value in operation.body_examples.items()}
            content = {"schema": operation.body, **({"examples": examples} if examples else {})}
            described["requestBody"] = {"required": True, "content": {JSON: content}}
        self._spec.path(path, operations={method.lower(): described})

    def to_dict(self) -> dict[str, Any]:
        return self._spec.to_dict()

    def _success(self, success: Answer, operation: DescribedOperation) -> dict[str, Any]:
        described: dict[str, Any] = {
            "description": success.description,
            "headers": _headers(TRACE_HEADER, *operation.reply_headers, *success.headers),
        }
        if success.content is not None:
            example = {} if success.example is None else {"example": success.example}
            described["content"] = {
                kind: {"schema": schema, **example} for kind, schema in success.content.items()
            }
        if success.links:
            described["links"] = dict(success.links)
        return described

    def _errors(self, operation: DescribedOperation) -> dict[str, Any]:
        classes = [*_ANY_REQUEST]
        if not operation.is_open:
            classes += _WITH_CREDENTIALS
        if operation.body is not None:
            classes += _WITH_BODY
        by_status: dict[int, list[type[QuotingError]]] = {}
        for each in sorted({*classes, *operation.errors}, key=lambda each: (each.status, each.__name__)):
            by_status.setdefault(each.status, []).append(each)
        return {str(status): self._error(found, operation) for status, found in by_status.items()}

    def _error(self, classes: ErrorClasses, operation: DescribedOperation) -> dict[str, Any]:
        ids = [each.__name__ for each in classes]
        headers = {"Retry-After" for each in classes if each.retry_after is not None}
        if UnauthorizedError in classes:
            headers.add("WWW-Authenticate")
        return {
            "description": "\n".join(f"- `{each.__name__}`: {each.__doc__}" for each in classes),
            "headers": _headers(TRACE_HEADER, *operation.reply_headers, *sorted(headers)),
            "content": {
                JSON: {
                    "schema": {
                        "allOf": [
                            {"$ref": "#/components/schemas/Error"},
                            {"type": "object", "properties": {"id": {"type": "string", "enum": ids}}},
                        ]
                    },
                    "examples": {each.__name__: {"value": self._error_example(each)} for each in classes},
                }
            },
        }

    def _error_example(self, error_class: type[QuotingError]) -> Any:  # noqa: ANN401 - JSON
        key = _FAULTY.get(error_class)
        faults = (
            [_EXCEEDED] if error_class is ExposureLimitError else [Fault(key, "is missing")] if key else ()
        )
        error = error_class(faults=faults)
        return orjson.loads(error_object(error, self._service, SAMPLE_TRACE_ID))

    def _add_operators_paths(self) -> None:
        readiness = {
            200: json_reply("They are", _Ready),
            503: Answer(
                description="Some are missing, or the service is shutting down",
                content={JSON: _NotReady},
                headers=["Retry-After"],
            ),
        }
        for path, id_, summary, answers in (
            ("/health/live", "getLiveness", "Whether the process runs", {200: json_reply("It does", _Live)}),
            (
                "/health/ready",
                "getReadiness",
                "Whether this service's own resources are available",
                readiness,
            ),
            (
                "/metrics",
                "getMetrics",
                "Metrics in the text format of Prometheus",
                _text("The metrics", "plain"),
            ),
            ("/docs", "getDocs", "This document as a page", _text("The page", "html")),
            (
                "/openapi.json",
                "getOpenapi",
                "This document",
                {200: json_reply("OpenAPI 3.1", {"type": "object"})},
            ),
        ):
            operation = DescribedOperation(
                id=id_, summary=summary, tag=_OPERATORS, answers=answers, is_open=True
            )
            self.add("GET", path, operation)
        configuration = DescribedOperation(
            id="getConfiguration",
            summary="The configuration in force, without secrets",
            tag=_OPERATORS,
            answers={200: json_reply("The settings and the files in force", _Configuration)},
            errors=[ForbiddenError],
        )
        self.add("GET", "/v1/configuration", configuration)


def _text(description: str, subtype: str) -> dict[int, Answer]:
    return {200: Answer(description=description, content={f"text/{subtype}": {"type": "string"}})}


def path_parameter(
    name: str, description: str, schema: Mapping[str, Any] | None = None, *, example: str
) -> dict[str, Any]:
    return {**_parameter(name, "path", description, schema, required=True), "example": example}


def query_parameter(
    name: str, description: str, schema: Mapping[str, Any] | None = None, *, required: bool = False
) -> dict[str, Any]:
    return _parameter(
        name, "query", description, schema or {"type": "string", "pattern": PRINTABLE}, required=required
    )


def header_parameter(name: str, description: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    return _parameter(name, "header", description, schema, required=False)


def _parameter(
    name: str, place: str, description: str, schema: Mapping[str, Any] | None, *, required: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": dict(schema or {"type": "string"}),
    }


_TRACE_PARAMETER: Final = header_parameter(
    TRACE_HEADER,
    "One id for all requests of a unit of work: 1 to 64 of `A-Z a-z 0-9 - _ .`. Any other value is replaced by a new"
    " id. It is on every response and in every log line.",
    {"type": "string", "examples": [SAMPLE_TRACE_ID]},
)


def schema_of(of: fields.Field[Any]) -> dict[str, Any]:
    """Return the JSON Schema of a field, for a parameter that is checked by it."""
    converter = _Plugin.Converter("3.1.0", lambda _schema: None, APISpec("", "", "3.1.0"))
    found: dict[str, Any] = converter.field2property(of)
    return found


class _Converter(OpenAPIConverter):
    """Converts patterns to ECMAScript; adds docstrings.

    A schema says more in its attribute `further_json_schema`, a field in its metadata `json_schema`.
    """

    def field2pattern(self, field: fields.Field[Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        del kwargs
        expressions = [each.regex for each in field.validators if hasattr(each, "regex")]
        if expressions:
            return {"pattern": pattern_of(expressions[0])}
        return {"pattern": PRINTABLE} if isinstance(field, Text) else {}

    def field2property(self, field: fields.Field[Any]) -> dict[str, Any]:
        found: dict[str, Any] = super().field2property(field)
        return {**found, **field.metadata.get("json_schema", {})}

    def schema2jsonschema(self, schema: Any) -> dict[str, Any]:  # noqa: ANN401 - class or instance
        found: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        cls = schema if isinstance(schema, type) else type(schema)
        if cls.__doc__:
            found["description"] = cls.__doc__
        return {**found, **getattr(cls, "further_json_schema", {})}


class _Plugin(MarshmallowPlugin):
    Converter = _Converter


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
