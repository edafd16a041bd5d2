"""``/openapi.json`` of the chain: the four operations, from the schemas that check them."""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from marshmallow import Schema, fields

from chassis.openapi import document, errors
from quoting import schemas
from quoting.call import SUBMISSION_URL, Operation

_ERRORS: Final = {
    "403": "A submissionUrl that is not allowed (spsp-client)",
    "404": "There is no such receiver or quote",
    "409": "Execute: a field differs from the reserved one",
    "410": "Execute: at or after expires",
    "422": "The Idempotency-Key was used for another request, or no fee schedule fits",
    "502": "The next service gave no valid response; repeating is safe",
    "504": "The time limit has passed; repeating is safe",
}
_SUMMARIES: Final = {
    Operation.QUOTE_SOURCE_AMOUNT: "Reserve: the amount to send so that `amount` arrives",
    Operation.QUOTE_DESTINATION_AMOUNT: "Reserve: the amount that arrives if `amount`, which includes the fee, is sent",
    Operation.EXECUTE: "Execute a reserved quote",
    Operation.LOOK_UP: "Look up a quote",
}


def openapi(title: str, query: Sequence[str]) -> dict[str, Any]:
    """Return the document of a service whose look-up has the parameters in ``query``."""
    spec = document(title)
    needs_url = SUBMISSION_URL in query
    bodies: dict[Operation, type[Schema]] = {
        Operation.QUOTE_SOURCE_AMOUNT: schemas.Reservation,
        Operation.QUOTE_DESTINATION_AMOUNT: schemas.Reservation,
        Operation.EXECUTE: schemas.Payment,
    }
    if needs_url:
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
                    "description": "Success",
                    "content": {"application/json": {"schema": replies[operation]}},
                },
                **errors(**_ERRORS),
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


def _parameter(name: str, location: str, schema: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "in": location, "required": location == "path", "schema": schema}
