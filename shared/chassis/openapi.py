"""The part of ``/openapi.json`` that all services share: errors, credentials, operators' paths."""

from importlib.metadata import version
from typing import Any, Final

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema, fields

_ERRORS: Final = {
    "400": "The body, the query, a header, the uuid or the URL is not valid",
    "401": "No valid credentials",
    "403": "Not allowed with these credentials",
    "404": "Not found",
    "408": "The body did not arrive completely within ten seconds",
    "413": "The body is longer than 64 KiB",
    "415": "The body is not application/json in UTF-8",
    "417": "The header Expect has a value other than 100-continue",
    "422": "The request is valid but was refused",
    "429": "Too many attempts",
    "503": "The service is overloaded, is shutting down, or has no database",
}


_GENERAL: Final = ("400", "401", "408", "413", "415", "417", "429", "503")


class Params(Schema):
    """The name of a field and its value."""

    key = fields.String(required=True)
    value = fields.Raw(allow_none=True)


class ValidationFault(Schema):
    """One fault of one field."""

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
    """Return a document with the error object, the credentials and the operators' paths."""
    spec = APISpec(title, version("dfsp-quoting"), "3.1.0", plugins=[MarshmallowPlugin()])
    spec.components.schema("Error", schema=Error)
    spec.components.security_scheme("basic", {"type": "http", "scheme": "basic"})
    for path, description in {
        "/health/live": "200 while the process runs",
        "/health/ready": "200 when this service's own resources are available",
        "/metrics": "Metrics in the text format of Prometheus",
        "/openapi.json": "This document",
    }.items():
        responses: dict[str, Any] = {"200": {"description": description}}
        if path == "/health/ready":
            responses["503"] = {"description": "The resources that are missing"}
        spec.path(path, operations={"get": {"summary": description, "responses": responses}})
    return spec


def errors(*statuses: str, **described: str) -> dict[str, Any]:
    """Return the OpenAPI responses for these statuses; each has the error object as its body.

    Without ``statuses`` these are the statuses that every operation can return. ``described`` maps a further status,
    or one of these, to a description.
    """
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    descriptions = {status: _ERRORS[status] for status in statuses or _GENERAL} | described
    return {
        status: {"description": descriptions[status], "content": content} for status in sorted(descriptions)
    }
