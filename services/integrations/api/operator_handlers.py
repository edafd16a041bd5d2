"""Handlers of the operators' calls. Only the users in QUOTES_OPERATORS may make them.

Each change is logged with its caller. A console that many people use has one name as a caller; it gives the person's name
in the header OPERATOR_HEADER, which is logged, too.
"""

from typing import Any, Final
from urllib.parse import unquote
from uuid import UUID

from aiohttp import web

from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER
from chassis.http.body import read_json
from chassis.queries import query_of
from chassis.schemas import parse
from integrations.api import schemas
from integrations.api.handlers import json_response
from integrations.api.parameters import (
    delivery_filter,
    event_id,
    failed_events,
    failed_query,
    integration_id,
    integration_query,
    text_of,
)
from integrations.operator_operations import OperatorOperations

OPERATOR_HEADER: Final = "Quotes-Operator"
MAX_OPERATOR_CHARACTERS: Final = 128


class OperatorApi:
    """The operators' calls."""

    def __init__(self, operations: OperatorOperations) -> None:
        self._operations = operations

    async def backlog(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query_of(request)
        return json_response(await self._operations.backlog())

    async def integrations(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query = integration_query(query_of(request, "state", "userEmail", "after", "limit"))
        return _page(await self._operations.integrations(query))

    async def integration(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query_of(request)
        return json_response(await self._operations.integration(integration_id(request)))

    async def deliveries(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query = query_of(request, "state", "type", "strategyId", "since", "after", "limit")
        return _page(await self._operations.deliveries(integration_id(request), delivery_filter(query)))

    async def delivery(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query_of(request)
        return json_response(await self._operations.delivery(integration_id(request), event_id(request)))

    async def resume(self, request: web.Request) -> web.Response:
        _require_operator(request)
        id_ = integration_id(request)
        await self._operations.resume(id_)
        _log(request, "resume", id_)
        return json_response(await self._operations.integration(id_))

    async def retry_now(self, request: web.Request) -> web.Response:
        _require_operator(request)
        id_ = integration_id(request)
        lanes = await self._operations.retry_now(id_)
        _log(request, "retry now", id_, lanes=lanes)
        return json_response({"lanes": lanes}, status=202)

    async def replay(self, request: web.Request) -> web.Response:
        _require_operator(request)
        id_, event = integration_id(request), event_id(request)
        await self._operations.replay(id_, event)
        _log(request, "replay", id_, webhook_id=str(event))
        return json_response({"eventId": str(event), "state": "WAITING"}, status=202)

    async def failed(self, request: web.Request) -> web.Response:
        _require_operator(request)
        query = failed_query(query_of(request, "since", "until", "state"))
        return json_response(await self._operations.failed(integration_id(request), query))

    async def replay_failed(self, request: web.Request) -> web.Response:
        _require_operator(request)
        id_ = integration_id(request)
        body = parse(schemas.NEW_REPLAY, await read_json(request))
        query = failed_events(body["since"], body.get("until"), body.get("state"))
        found = await self._operations.replay_failed(id_, query)
        _log(request, "replay of failed events", id_, events=found["replayed"], since=found["since"])
        return json_response(found, status=202)


def _require_operator(request: web.Request) -> None:
    request.app[SERVICE].require_operator(request[CALLER])


def _page(found: dict[str, Any]) -> web.Response:
    return json_response({**found, "next": text_of(found["next"])})


def _log(request: web.Request, action: str, id_: UUID, **fields: object) -> None:
    given = request.headers.get(OPERATOR_HEADER)
    request.app[SERVICE].logs.info(
        "operator",
        action=action,
        traceId=request[EXCHANGE].trace_id,
        caller=request[CALLER],
        operator=None if given is None else unquote(given)[:MAX_OPERATOR_CHARACTERS],
        integration=str(id_),
        **fields,
    )
