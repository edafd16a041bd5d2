"""The service's OpenAPI document."""

from typing import Any

from marshmallow import Schema

from chassis.openapi import document, errors
from signal_receiver.event_errors import ERROR_HEADER, EventError
from signal_receiver.schemas import (
    AccountPositions,
    EventErrorBody,
    NewPrice,
    NewSecret,
    StoredPrice,
    TradePage,
)


def openapi(title: str) -> dict[str, Any]:
    spec = document(title)
    spec.path("/webhook/{accountToken}", operations={"post": _webhook()})
    for path, method, operation in (
        (
            "/v1/accounts/{id}/positions",
            "get",
            _described("An account's open positions", AccountPositions, "id"),
        ),
        ("/v1/accounts/{id}/trades", "get", _trades()),
        (
            "/v1/accounts/{id}/webhook-secret",
            "put",
            _described(
                "Set or remove the secret that an account's events must be signed with",
                None,
                "id",
                body=NewSecret,
            ),
        ),
        (
            "/v1/prices/{ticker}",
            "put",
            _described("Set an instrument's price", StoredPrice, "ticker", body=NewPrice),
        ),
    ):
        spec.path(path, operations={method: operation})
    return spec.to_dict()


def _described(
    summary: str, reply: type[Schema] | None, *path: str, body: type[Schema] | None = None
) -> dict[str, Any]:
    done: dict[str, Any] = {"description": "Done"}
    if reply is not None:
        done["content"] = {"application/json": {"schema": reply}}
    described: dict[str, Any] = {
        "summary": summary,
        "security": [{"basic": []}],
        "parameters": [_parameter(name, "path") for name in path],
        "responses": {
            "204" if reply is None else "200": done,
            **errors(**{"403": "Not allowed for this user, or sent by a browser from another site's page"}),
            **errors("404"),
        },
    }
    if body is not None:
        described["requestBody"] = _body(body)
    return described


def _trades() -> dict[str, Any]:
    described = _described("An account's trades, newest first", TradePage, "id")
    described["parameters"] += [_parameter("before", "query"), _parameter("limit", "query")]
    return described


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}


def _body(schema: object) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _webhook() -> dict[str, Any]:
    typed: dict[str, list[str]] = {}
    for error in EventError:
        typed.setdefault(str(error.status), []).append(error.type)
    header = {"description": "1", "required": True, "schema": {"type": "string", "enum": ["1"]}}
    return {
        "summary": "Execute an event",
        "parameters": [_parameter("accountToken", "path")],
        "requestBody": _body({"type": "object"}),
        "responses": {
            "200": {"description": "Executed, or not relevant; the body is empty"},
            **errors(
                "400",
                "408",
                "413",
                "415",
                "417",
                "503",
                **{"403": "Sent by a browser from another site's page"},
            ),
            **{
                status: {
                    "description": ", ".join(types),
                    "headers": {ERROR_HEADER: header},
                    "content": {"application/json": {"schema": EventErrorBody}},
                }
                for status, types in typed.items()
            },
        },
    }
