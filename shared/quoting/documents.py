"""What ``/openapi.json`` says: the four operations, drawn from the schemas that check them."""

from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

from quoting import schemas
from quoting.call import SUBMISSION_URL, Operation

_ERRORS: Final = {
    "400": "A body, query, header, uuid or URL at fault",
    "401": "No, malformed or wrong credentials",
    "403": "A submissionUrl that is not allowed (spsp-client)",
    "404": "The receiver or the quote is not known",
    "408": "The body did not arrive in ten seconds",
    "409": "Execute: a parameter differs from the reserved one",
    "410": "Execute: at or after expires",
    "413": "A body over 64 KiB",
    "415": "Not application/json",
    "417": "An expectation other than 100-continue",
    "422": "The key is another request's, there is no fee schedule, or the amount is outside it",
    "429": "Too many wrong passwords",
    "502": "The next service gave no answer; repeating is safe",
    "503": "Overloaded, stopping, or the database is away",
    "504": "The time is used up; repeating is safe",
}


class Params(Schema):
    """Which field, and what it held."""

    key = fields.String(required=True)
    value = fields.Raw(allow_none=True)


class ValidationFault(Schema):
    """One thing wrong with one field."""

    message = fields.String(required=True)
    params = fields.Nested(Params, required=True)


class Error(Schema):
    """The Level One error object."""

    id = fields.String(required=True)
    message = fields.String(required=True)
    service = fields.String(required=True)
    traceId = fields.String(required=True)  # noqa: N815
    validationErrors = fields.List(fields.Nested(ValidationFault))  # noqa: N815


_SUMMARIES: Final = {
    Operation.QUOTE_SOURCE_AMOUNT: "Reserve: what must be sent so that `amount` arrives?",
    Operation.QUOTE_DESTINATION_AMOUNT: "Reserve: what arrives if `amount` is sent, fee included?",
    Operation.EXECUTE: "Execute: pay against a reserved quote",
    Operation.LOOK_UP: "Look up a quote",
}


def document(title: str) -> APISpec:
    """An empty document with the error object and the credentials."""
    spec = APISpec(title, version("dfsp-quoting"), "3.1.0", plugins=[MarshmallowPlugin()])
    spec.components.schema("Error", schema=Error)
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for path, what in {
        "/health/live": "200 while the process runs",
        "/health/ready": "200 when this service's own resources are there",
        "/metrics": "Prometheus text",
        "/openapi.json": "This document",
    }.items():
        responses: dict[str, Any] = {"200": {"description": what}}
        if path == "/health/ready":
            responses["503"] = {"description": "What is missing"}
        spec.path(path, operations={"get": {"summary": what, "responses": responses}})
    return spec


def errors(*statuses: str) -> dict[str, Any]:
    """Responses with the error object."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": _ERRORS[status], "content": content} for status in statuses or _ERRORS}


def openapi(title: str, query: Sequence[str]) -> dict[str, Any]:
    """The document of a service of the chain, whose look up takes the parameters of ``query``."""
    spec = document(title)
    takes_url = SUBMISSION_URL in query
    bodies: dict[Operation, type[Schema]] = {
        Operation.QUOTE_SOURCE_AMOUNT: schemas.Reservation,
        Operation.QUOTE_DESTINATION_AMOUNT: schemas.Reservation,
        Operation.EXECUTE: schemas.Payment,
    }
    if takes_url:
        bodies = {operation: _with_submission_url(body) for operation, body in bodies.items()}
    replies: dict[Operation, type[Schema]] = {
        Operation.QUOTE_SOURCE_AMOUNT: schemas.Quote,
        Operation.QUOTE_DESTINATION_AMOUNT: schemas.Quote,
        Operation.EXECUTE: schemas.Execution,
        Operation.LOOK_UP: schemas.QuoteState,
    }
    for operation in Operation:
        parameters = []
        if "{uuid}" in operation.path:
            parameters.append(_parameter("uuid", "path", {"type": "string", "format": "uuid"}))
        if operation is Operation.LOOK_UP:
            parameters += [_parameter(name, "query", {"type": "string"}) for name in query]
        described: dict[str, Any] = {
            "operationId": operation.name.lower(),
            "summary": _SUMMARIES[operation],
            "security": [{"basic": []}],
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "Done",
                    "content": {"application/json": {"schema": replies[operation]}},
                },
                **errors(),
            },
        }
        if operation in bodies:
            described["requestBody"] = {
                "required": True,
                "content": {"application/json": {"schema": bodies[operation]}},
            }
        spec.path(operation.path, operations={operation.method.lower(): described})
    return spec.to_dict()


@cache
def _with_submission_url(schema: type[Schema]) -> type[Schema]:
    return type(f"{schema.__name__}To", (schema,), {SUBMISSION_URL: fields.String(required=True)})


def _parameter(name: str, place: str, schema: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}
