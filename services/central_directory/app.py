"""central-directory: answers who the recipient's default DFSP is, in both generations (wire.md §5)."""

from pathlib import Path
from typing import Any, Final

import environ
import orjson
from aiohttp import web
from marshmallow import Schema, ValidationError, fields, validate

from central_directory.registry import Registry, Resource
from chassis.app import create_app as create_service
from chassis.errors import Fault, ForbiddenError, InvalidQueryParameterError, ReceiverNotFoundError
from chassis.intake import Plain, Routes
from chassis.messages import Message, Reply
from chassis.openapi import document, errors
from chassis.queries import query_parameters
from chassis.schemas import Text, check_query, parse
from chassis.settings import base_url, optional_path, whole
from quoting.schemas import RECEIVER, Receiver
from quoting.server import add_routes
from quoting.settings import ChainSettings

NAME: Final = "central-directory"


@environ.config(prefix="QUOTES", frozen=True)
class CentralDirectorySettings(ChainSettings):
    """Where the content is, and who may change it."""

    port: int = environ.var(8016, converter=whole(0, 65_535), help="port to listen on")
    directory_file: Path = environ.var(converter=Path, help="JSON file of identifiers and DFSPs")
    directory_seed: Path | None = environ.var(
        None, converter=optional_path, help="JSON file to begin with where there is no directory file yet"
    )
    directory_administrator: str = environ.var("admin", help="user who may register DFSPs and resources")


class Registration(Schema):
    """The body of POST /commands/register."""

    name = Text(required=True, validate=validate.Length(1, 64, error="must be 1 to 64 characters"))

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012


def _is_base_url(value: str) -> None:
    try:
        base_url(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None


class _Flag(fields.Boolean):
    """A JSON boolean; marshmallow would take ``"yes"`` and 1 for true, too."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ANN401
        del attr, data, kwargs
        if not isinstance(value, bool):
            raise ValidationError("must be true or false")
        return value


class NewResource(Receiver):
    """The body of POST /resources."""

    class Meta:
        unknown = "raise"

    error_messages = {"unknown": "is not a field of this message"}  # noqa: RUF012

    spspReceiver = Text(  # noqa: N815 - the source's name
        required=True,
        validate=[validate.Length(1, 2_048, error="must be 1 to 2,048 characters"), _is_base_url],
    )
    primary = _Flag(load_default=True)


def create_app(settings: CentralDirectorySettings) -> web.Application:
    registry = Registry.load(settings.directory_file, settings.directory_seed)
    app = create_service(NAME, settings, also=registry.hash_of, openapi=_openapi())
    views = _Views(registry, settings.directory_administrator)
    routes = Routes()
    for method, path, work in (
        ("GET", "/", views.metadata),
        ("GET", "/identifier-types", views.identifier_types),
        ("GET", "/resources", views.resources),
        ("POST", "/resources", views.add_resource),
        ("POST", "/commands/register", views.register),
    ):
        routes.add(method, Plain(path, work))
    add_routes(app, routes, settings.batch_lines)
    return app


class _Views:
    def __init__(self, registry: Registry, administrator: str) -> None:
        self._registry = registry
        self._administrator = administrator

    async def metadata(self, message: Message) -> Reply:
        base = message.origin
        return _told(
            {
                "directory": base,
                "urls": {
                    "resources": f"{base}/resources",
                    "identifier_types": f"{base}/identifier-types",
                    "register": f"{base}/commands/register",
                    "health": f"{base}/health/live",
                },
            }
        )

    async def identifier_types(self, _message: Message) -> Reply:
        return _told(
            [
                {"identifierType": name, "description": description}
                for name, description in self._registry.types.items()
            ]
        )

    async def resources(self, message: Message) -> Reply:
        """The earlier form names type and identifier and gets the default DFSP; the later gives a list."""
        query = query_parameters(message.query, _LOOK_UP)
        values = dict(query)
        if "identifierType" in values:
            return _told({"spspReceiver": self._default_dfsp(check_query(RECEIVER, query)).url})
        identifier_type, colon, identifier = values.get("identifier", "").partition(":")
        if not colon:
            raise InvalidQueryParameterError(
                faults=[Fault("identifier", "must be type:identifier", values.get("identifier"))]
            )
        found = check_query(RECEIVER, (("identifierType", identifier_type), ("identifier", identifier)))
        self._default_dfsp(found)
        return _told(
            [
                {
                    "name": each.dfsp,
                    "shortName": each.dfsp,
                    "providerUrl": each.url,
                    "primary": each.is_primary,
                    "registered": True,
                }
                for each in self._registry.find(found["identifierType"], found["identifier"])
            ]
        )

    def _default_dfsp(self, receiver: dict[str, str]) -> Resource:
        found = self._registry.find(receiver["identifierType"], receiver["identifier"])
        primary = next((each for each in found if each.is_primary), None)
        if primary is None:
            raise ReceiverNotFoundError
        return primary

    async def add_resource(self, message: Message) -> Reply:
        self._require_administrator(message)
        body = parse(NewResource(), await message.body())
        resource = await self._registry.add(
            body["identifierType"],
            body["identifier"],
            body["spspReceiver"].rstrip("/"),
            is_primary=body["primary"],
        )
        return _told({**body, "spspReceiver": resource.url, "primary": resource.is_primary}, 201)

    async def register(self, message: Message) -> Reply:
        self._require_administrator(message)
        body = parse(Registration(), await message.body())
        key, secret = await self._registry.register(body["name"])
        return _told({"name": body["name"], "key": key, "secret": secret}, 201)

    def _require_administrator(self, message: Message) -> None:
        if message.caller != self._administrator:
            raise ForbiddenError("Only the directory's administrator may do this.")


_LOOK_UP: Final = frozenset({"identifierType", "identifier"})


def _told(content: object, status: int = 200) -> Reply:
    return Reply(status, orjson.dumps(content))


def _openapi() -> dict[str, Any]:
    spec = document(NAME)
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
    spec.path("/identifier-types", operations={"get": {"summary": "Types", **reply("200", *common)}})
    spec.path(
        "/resources",
        operations={
            "get": {"summary": "Whose is this?", "parameters": query, **reply("200", *common, "404")},
            "post": {"summary": "Adds an account", **body(NewResource), **reply("201", *changing, "403")},
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
