"""What every ``/openapi.json`` says: the error object, the credentials, and what any service serves."""

from importlib.metadata import version
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

_ERRORS: Final = {
    "400": "A body, query, header, uuid or URL at fault",
    "401": "No, malformed or wrong credentials",
    "403": "Not allowed with these credentials",
    "404": "Not known",
    "408": "The body did not arrive in ten seconds",
    "413": "A body over 64 KiB",
    "415": "Not application/json",
    "417": "An expectation other than 100-continue",
    "422": "Refused",
    "429": "Too many wrong passwords",
    "503": "Overloaded, stopping, or the database is away",
}


_GENERAL: Final = ("400", "401", "408", "413", "415", "417", "429", "503")


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


def errors(*statuses: str, **described: str) -> dict[str, Any]:
    """Responses with the error object: of some statuses, else of those that any operation may answer.

    ``described`` adds statuses with a description of their own, or says it better.
    """
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    told = {status: _ERRORS[status] for status in statuses or _GENERAL} | described
    return {status: {"description": told[status], "content": content} for status in sorted(told)}
