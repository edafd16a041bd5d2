"""The OpenAPI document of the API."""

from typing import Any, Final

from chassis.openapi import document, errors
from integrations.api import schemas

_SECURED: Final[dict[str, Any]] = {"security": [{"basic": []}]}
_FORBIDDEN: Final = "These credentials, or the page that sends the request, do not allow this operation"
_CONFLICT: Final = "The present state does not allow this operation"


def openapi(name: str) -> dict[str, Any]:
    spec = document(name)
    body = {
        kind: {"requestBody": {"required": True, "content": {"application/json": {"schema": kind}}}}
        for kind in (schemas.NewIntegration, schemas.NewStrategy, schemas.NewSignal)
    }
    spec.path(
        "/api/integrations/v1/integrations",
        operations={
            "post": {
                "summary": "Create an integration request (guide, Creating an Integration)",
                **body[schemas.NewIntegration],
                "responses": _responses("201", "403"),
            }
        },
    )
    strategy, signals = "/v1/strategies/{strategyId}", "/v1/strategies/{strategyId}/signals"
    put = {"summary": "Create or rename a strategy", **body[schemas.NewStrategy]}
    _add(spec, strategy, "put", put, "200", "403", "404", "409")
    post = {"summary": "Send a signal of a strategy", **body[schemas.NewSignal]}
    _add(spec, signals, "post", post, "202", "403", "404", "409")
    mine, one = "/v1/me", "/v1/me/integrations/{id}"
    _add(spec, f"{mine}/integrations", "get", {"summary": "List the user's integrations"}, "200")
    _add(spec, f"{mine}/strategies", "get", {"summary": "List the user's strategies"}, "200")
    feed = {"summary": "List or stream (text/event-stream) notifications", **_query("before", "limit")}
    _add(spec, f"{mine}/notifications", "get", feed, "200")
    _add(spec, one, "delete", {"summary": "Delete an integration"}, "200", "403", "404", "409")
    for word in ("approve", "reject", "resume"):
        _add(
            spec,
            f"{one}/{word}",
            "post",
            {"summary": f"{word.title()} an integration"},
            "200",
            "403",
            "404",
            "409",
        )
    _add(spec, f"{one}/secret", "post", {"summary": "Make a new signing secret"}, "200", "403", "404", "409")
    log = {
        "summary": "List events and the attempts to deliver them",
        **_query("state", "type", "strategyId", "before", "limit"),
    }
    _add(spec, f"{one}/deliveries", "get", log, "200", "404")
    again = {"summary": "Send an event again"}
    _add(spec, f"{one}/deliveries/{{eventId}}/replay", "post", again, "202", "403", "404", "409")
    switch = f"{mine}/strategies/{{strategyId}}/integrations/{{id}}"
    for method, word in (("put", "Enable"), ("delete", "Disable")):
        summary = {"summary": f"{word} an integration for a strategy"}
        _add(spec, switch, method, summary, "200", "403", "404", "409")
    return spec.to_dict()


def _add(spec: Any, path: str, method: str, operation: dict[str, Any], status: str, *refused: str) -> None:  # noqa: ANN401
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    full = {
        **operation,
        **_SECURED,
        "parameters": [*parameters, *operation.get("parameters", [])],
        "responses": _responses(status, *refused),
    }
    spec.path(path, operations={method: full})


def _responses(status: str, *refused: str) -> dict[str, Any]:
    descriptions = {"403": _FORBIDDEN, "404": "Not found, or another user's", "409": _CONFLICT}
    return {
        status: {"description": "Done"},
        **errors(**{each: descriptions[each] for each in refused}),
    }


def _query(*names: str) -> dict[str, Any]:
    return {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
    }
