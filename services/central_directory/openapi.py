"""The directory's OpenAPI document."""

from typing import Any

from marshmallow import Schema

from central_directory.schemas import NewResource, Registration
from chassis.openapi import document, errors


def openapi(title: str) -> dict[str, Any]:
    spec = document(title)
    secured: dict[str, Any] = {"security": [{"basic": []}]}

    def reply(status: str, *refused: str) -> dict[str, Any]:
        return {"responses": {status: {"description": "Done"}, **errors(*refused)}, **secured}

    def body(schema: type[Schema]) -> dict[str, Any]:
        return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}

    common = ("400", "401", "429", "503")
    changing = (*common, "408", "413", "415", "417")
    query = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("identifierType", "identifier")
    ]
    spec.path("/", operations={"get": {"summary": "Metadata", **reply("200", *common)}})
    spec.path(
        "/identifier-types", operations={"get": {"summary": "Identifier types", **reply("200", *common)}}
    )
    spec.path(
        "/resources",
        operations={
            "get": {"summary": "The DFSPs of a person", "parameters": query, **reply("200", *common, "404")},
            "post": {
                "summary": "Adds a person's account at a DFSP",
                **body(NewResource),
                **reply("201", *changing, "403"),
            },
        },
    )
    spec.path(
        "/commands/register",
        operations={
            "post": {
                "summary": "Registers a DFSP",
                **body(Registration),
                **reply("201", *changing, "403", "422"),
            }
        },
    )
    return spec.to_dict()
