"""The JSON API: HTTP to operations and back."""

import re
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import hdrs, web

from chassis.addresses import network_of
from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER, without_credentials
from chassis.content import read_json
from chassis.errors import (
    Fault,
    ForbiddenError,
    InvalidHeaderError,
    InvalidQueryParameterError,
    NotFoundError,
)
from chassis.listener import Handler
from chassis.queries import query_parameters
from chassis.schemas import parse
from chassis.tracing import TRACE_HEADER
from integrations.api import schemas
from integrations.api.rate_limit import RateLimit
from integrations.events import EventType
from integrations.notifications import NotificationFeed
from integrations.operations import DeliveryQuery, Operations
from integrations.signals import SignalPublisher, given

MAX_LISTED: Final = 100
MAX_BY_DEFAULT: Final = 50
STATES: Final = ("WAITING", "DELIVERED", "REFUSED", "FAILED", "EXPIRED", "CANCELLED")
EVENT_STREAM: Final = "text/event-stream"

_WHOLE: Final = re.compile(r"[0-9]{1,18}\Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)


def reply(content: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(content), content_type="application/json")


class PartnerApi:
    """Anybody's: the guide's one call. It answers the same whether the e-mail is known or not."""

    def __init__(self, operations: Operations, per_address: RateLimit, per_email: RateLimit) -> None:
        self._operations = operations
        self._per_address = per_address
        self._per_email = per_email

    async def request(self, request: web.Request) -> web.Response:
        self._per_address.take(network_of(request.remote or ""))
        body = parse(schemas.NEW_INTEGRATION, await read_json(request))
        self._per_email.take(body["userEmail"].lower())
        created = await self._operations.request(body)
        webhook = body.pop("webhook")
        return reply(
            {
                "id": str(created.id),
                "status": "PENDING",
                **body,
                "webhook": {"url": webhook["url"], "headerNames": list(webhook["headers"])},
                "signingSecret": created.signing_secret,
            },
            status=201,
        )

    def open_to_all(self) -> Any:  # noqa: ANN401 - what aiohttp takes as a handler
        async def handler(request: web.Request) -> web.Response:
            return await self.request(request)

        return without_credentials(handler)


class EngineApi:
    """The strategy engine's calls, under its own name."""

    def __init__(self, signals: SignalPublisher, name: str) -> None:
        self._signals = signals
        self._name = name

    async def put_strategy(self, request: web.Request) -> web.Response:
        id_ = self._strategy(request)
        body = parse(schemas.NEW_STRATEGY, await read_json(request))
        await self._signals.put_strategy(id_, body["name"], body["userEmail"])
        return reply({"id": id_, **body})

    async def send(self, request: web.Request) -> web.Response:
        id_ = self._strategy(request)
        body = schemas.signal(await read_json(request))
        return reply({"events": await self._signals.send(given(id_, body))}, status=202)

    def _strategy(self, request: web.Request) -> str:
        if request[CALLER] != self._name:
            raise ForbiddenError("Only the strategy engine may do this.")
        return strategy_id(request)


class UserApi:
    """A user's calls, about what is that user's."""

    def __init__(self, operations: Operations, notifications: NotificationFeed) -> None:
        self._operations = operations
        self._notifications = notifications

    async def integrations(self, request: web.Request) -> web.Response:
        query_parameters(request.rel_url.raw_query_string, frozenset())
        return reply({"integrations": await self._operations.integrations(request[CALLER])})

    async def strategies(self, request: web.Request) -> web.Response:
        query_parameters(request.rel_url.raw_query_string, frozenset())
        return reply({"strategies": await self._operations.strategies(request[CALLER])})

    async def approve(self, request: web.Request) -> web.Response:
        await self._operations.approve(request[CALLER], id_of(request))
        return await self._integration(request)

    async def reject(self, request: web.Request) -> web.Response:
        await self._operations.reject(request[CALLER], id_of(request))
        return await self._integration(request)

    async def resume(self, request: web.Request) -> web.Response:
        await self._operations.resume(request[CALLER], id_of(request))
        return await self._integration(request)

    async def delete(self, request: web.Request) -> web.Response:
        await self._operations.delete(request[CALLER], id_of(request))
        return await self._integration(request)

    async def rotate_secret(self, request: web.Request) -> web.Response:
        secret = await self._operations.rotate_secret(request[CALLER], id_of(request))
        return reply({"signingSecret": secret})

    async def enable(self, request: web.Request) -> web.Response:
        await self._operations.enable(request[CALLER], id_of(request), strategy_id(request))
        return _switched(request, is_enabled=True)

    async def disable(self, request: web.Request) -> web.Response:
        await self._operations.disable(request[CALLER], id_of(request), strategy_id(request))
        return _switched(request, is_enabled=False)

    async def deliveries(self, request: web.Request) -> web.Response:
        found = await self._operations.deliveries(request[CALLER], id_of(request), delivery_query(request))
        return reply({"deliveries": found})

    async def replay(self, request: web.Request) -> web.Response:
        event_id = event_id_of(request)
        await self._operations.replay(request[CALLER], id_of(request), event_id)
        return reply({"eventId": str(event_id), "state": "WAITING"}, status=202)

    async def notifications(self, request: web.Request) -> web.StreamResponse:
        is_stream = EVENT_STREAM in request.headers.get(hdrs.ACCEPT, "")
        allowed = frozenset() if is_stream else frozenset({"before", "limit"})
        query = dict(query_parameters(request.rel_url.raw_query_string, allowed))
        if is_stream:
            return await self._stream(request)
        limit, before = _limit(query), _number(query, "before")
        return reply({"notifications": await self._notifications.latest(request[CALLER], before, limit)})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events; a browser that comes back says which it saw last."""
        last = request.headers.get("Last-Event-ID")
        if last is not None and not _WHOLE.match(last):
            raise InvalidHeaderError("Last-Event-ID must be the id of an event of this stream.")
        service = request.app[SERVICE]
        after = None if last is None else int(last)

        def has_gone() -> bool:
            return isinstance(request.protocol, Handler) and request.protocol.is_ending

        async with self._notifications.stream(request[CALLER], after, has_gone) as told:
            response = web.StreamResponse(
                headers={
                    hdrs.CONTENT_TYPE: EVENT_STREAM,
                    hdrs.CACHE_CONTROL: "no-store",
                    TRACE_HEADER: request[EXCHANGE].trace_id,
                    hdrs.SERVER: service.name,
                }
            )
            await response.prepare(request)
            async for some in told:
                lines = [f"id: {each['id']}\ndata: {orjson.dumps(each).decode()}\n\n" for each in some]
                try:
                    await response.write("".join(lines or [": still here\n\n"]).encode())
                except ConnectionResetError:  # the reader has left, as all do in the end
                    break
                if service.is_leaving or service.is_closed or has_gone():
                    break
        return response

    async def _integration(self, request: web.Request) -> web.Response:
        return reply(await self._operations.integration(request[CALLER], id_of(request)))


def _switched(request: web.Request, *, is_enabled: bool) -> web.Response:
    id_ = str(id_of(request))
    return reply({"strategyId": strategy_id(request), "integrationId": id_, "enabled": is_enabled})


def id_of(request: web.Request) -> UUID:
    """The integration's id in the path. Raises NotFoundError: what is no id is nobody's."""
    return _uuid(request.match_info["id"], "There is no such integration.")


def event_id_of(request: web.Request) -> UUID:
    """Raises NotFoundError."""
    return _uuid(request.match_info["eventId"], "There is no such event.")


def strategy_id(request: web.Request) -> str:
    """Raises NotFoundError."""
    id_ = request.match_info["strategyId"]
    if not schemas.ID.match(id_):
        raise NotFoundError("A strategy's id is 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'.")
    return id_


def _uuid(text: str, otherwise: str) -> UUID:
    if not _UUID.match(text):
        raise NotFoundError(otherwise)
    return UUID(text)


def delivery_query(request: web.Request) -> DeliveryQuery:
    """Raises InvalidQueryParameterError."""
    allowed = frozenset({"state", "type", "strategyId", "before", "limit"})
    return asked_deliveries(dict(query_parameters(request.rel_url.raw_query_string, allowed)))


def asked_deliveries(query: dict[str, str]) -> DeliveryQuery:
    """Raises InvalidQueryParameterError."""
    before = query.get("before")
    if before is not None and not _UUID.match(before):
        raise _query_fault("before", "must be an eventId", before)
    for name, known in (("state", STATES), ("type", tuple(EventType))):
        if name in query and query[name] not in known:
            raise _query_fault(name, f"must be one of {', '.join(known)}", query[name])
    return DeliveryQuery(
        query.get("state"),
        query.get("type"),
        query.get("strategyId"),
        None if before is None else UUID(before),
        _limit(query),
    )


def _limit(query: dict[str, str]) -> int:
    limit = _number(query, "limit")
    if limit is None:
        return MAX_BY_DEFAULT
    if not 1 <= limit <= MAX_LISTED:
        raise _query_fault("limit", f"must be from 1 to {MAX_LISTED}", str(limit))
    return limit


def _number(query: dict[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is not None and not _WHOLE.match(text):
        raise _query_fault(name, "must be a whole number", text)
    return None if text is None else int(text)


def _query_fault(name: str, message: str, value: str) -> InvalidQueryParameterError:
    return InvalidQueryParameterError(faults=[Fault(name, message, value)])
