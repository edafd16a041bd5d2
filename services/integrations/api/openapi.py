"""What ``/openapi.json`` says."""

from typing import Any, Final

from chassis.openapi import document, errors
from integrations.api import schemas

_SECURED: Final[dict[str, Any]] = {"security": [{"basic": []}]}
_FOREIGN: Final = "Not allowed with these credentials, or from this page"
_CONFLICT: Final = "Not as things stand"


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
                "summary": "A partner asks to be integrated (guide, Creating an Integration)",
                **body[schemas.NewIntegration],
                "responses": _responses("201", "403"),
            }
        },
    )
    strategy, signals = "/v1/strategies/{strategyId}", "/v1/strategies/{strategyId}/signals"
    put = {"summary": "The engine names a strategy", **body[schemas.NewStrategy]}
    _add(spec, strategy, "put", put, "200", "403", "404", "409")
    post = {"summary": "A strategy's signal", **body[schemas.NewSignal]}
    _add(spec, signals, "post", post, "202", "403", "404", "409")
    mine, one = "/v1/me", "/v1/me/integrations/{id}"
    _add(spec, f"{mine}/integrations", "get", {"summary": "The user's integrations"}, "200")
    _add(spec, f"{mine}/strategies", "get", {"summary": "The user's strategies"}, "200")
    told = {"summary": "What the user was told; also as text/event-stream", **_query("before", "limit")}
    _add(spec, f"{mine}/notifications", "get", told, "200")
    _add(spec, one, "delete", {"summary": "Ends an integration"}, "200", "403", "404", "409")
    for word in ("approve", "reject", "resume"):
        _add(spec, f"{one}/{word}", "post", {"summary": word.title()}, "200", "403", "404", "409")
    _add(spec, f"{one}/secret", "post", {"summary": "A new signing secret"}, "200", "403", "404", "409")
    log = {"summary": "The attempt log", **_query("state", "type", "strategyId", "before", "limit")}
    _add(spec, f"{one}/deliveries", "get", log, "200", "404")
    again = {"summary": "Sends an event again"}
    _add(spec, f"{one}/deliveries/{{eventId}}/replay", "post", again, "202", "403", "404", "409")
    switch = f"{mine}/strategies/{{strategyId}}/integrations/{{id}}"
    for method, word in (("put", "Enables"), ("delete", "Disables")):
        summary = {"summary": f"{word} an integration for a strategy"}
        _add(spec, switch, method, summary, "200", "403", "404", "409")
    return spec.to_dict()


def _add(spec: Any, path: str, method: str, said: dict[str, Any], status: str, *refused: str) -> None:  # noqa: ANN401
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    operation = {
        **said,
        **_SECURED,
        "parameters": [*parameters, *said.get("parameters", [])],
        "responses": _responses(status, *refused),
    }
    spec.path(path, operations={method: operation})


def _responses(status: str, *refused: str) -> dict[str, Any]:
    told = {"403": _FOREIGN, "404": "Not there, or another user's", "409": _CONFLICT}
    return {
        status: {"description": "Done"},
        **errors(**{each: told[each] for each in refused}),
    }


def _query(*names: str) -> dict[str, Any]:
    return {
        "parameters": [{"name": name, "in": "query", "schema": {"type": "string"}} for name in names],
    }
