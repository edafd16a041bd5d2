"""Handlers of the directory's requests, in both forms of the Level One central directory's API (wire.md §5)."""

from typing import Final

import orjson

from central_directory.content import Resource
from central_directory.registry import Registry
from central_directory.schemas import NewResource, Registration
from chassis.errors import Fault, ForbiddenError, InvalidQueryParameterError, ReceiverNotFoundError
from chassis.exchange import Exchange
from chassis.http.response import Response
from chassis.queries import query_parameters
from chassis.schemas import check_query, parse
from chassis.users import key_of
from quoting.schemas import RECEIVER

LOOK_UP_PARAMETERS: Final = frozenset({"identifierType", "identifier"})


class DirectoryHandlers:
    def __init__(self, registry: Registry, administrator: str) -> None:
        self._registry = registry
        self._administrator = administrator

    async def metadata(self, exchange: Exchange) -> Response:
        base = exchange.request.origin
        return _json(
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

    async def identifier_types(self, _exchange: Exchange) -> Response:
        return _json(
            [
                {"identifierType": name, "description": description}
                for name, description in self._registry.types.items()
            ]
        )

    async def resources(self, exchange: Exchange) -> Response:
        """Return a person's primary DFSP for `identifierType=eur&identifier=1`, or all for `identifier=eur:1`."""
        query = query_parameters(exchange.request.query, LOOK_UP_PARAMETERS)
        values = dict(query)
        if "identifierType" in values:
            return _json({"spspReceiver": self._default_dfsp(check_query(RECEIVER, query)).url})
        identifier_type, colon, identifier = values.get("identifier", "").partition(":")
        if not colon:
            raise InvalidQueryParameterError(
                faults=[
                    Fault(
                        "identifier",
                        "must be an identifier type, a colon and an identifier",
                        values.get("identifier"),
                    )
                ]
            )
        found = check_query(RECEIVER, (("identifierType", identifier_type), ("identifier", identifier)))
        self._default_dfsp(found)
        return _json(
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

    async def add_resource(self, exchange: Exchange) -> Response:
        self._require_administrator(exchange)
        body = parse(NewResource(), exchange.request.body)
        resource = await self._registry.add(
            body["identifierType"],
            body["identifier"],
            body["spspReceiver"].rstrip("/"),
            is_primary=body["primary"],
        )
        return _json({**body, "spspReceiver": resource.url, "primary": resource.is_primary}, 201)

    async def register(self, exchange: Exchange) -> Response:
        self._require_administrator(exchange)
        body = parse(Registration(), exchange.request.body)
        key, secret = await self._registry.register(body["name"])
        return _json({"name": body["name"], "key": key, "secret": secret}, 201)

    def _require_administrator(self, exchange: Exchange) -> None:
        if key_of(exchange.caller or "") != key_of(self._administrator):
            raise ForbiddenError("Only the directory's administrator may change the directory.")


def _json(content: object, status: int = 200) -> Response:
    return Response(status, orjson.dumps(content))
