"""Handlers of the JSON API: read a request, call the operation, and return its result as a response."""

from functools import partial
from typing import Any, Final
from uuid import UUID

import orjson
from aiohttp import hdrs, web

from chassis.addresses import network_of
from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER, without_credentials
from chassis.errors import (
    ForbiddenError,
    InvalidHeaderError,
)
from chassis.http.adapter import AiohttpConnection
from chassis.http.body import read_json
from chassis.queries import query_of
from chassis.schemas import parse
from chassis.tracing import TRACE_HEADER
from chassis.users import key_of
from integrations.api import schemas
from integrations.api.parameters import (
    WHOLE_NUMBER,
    delivery_query,
    event_id,
    integration_id,
    limit_of,
    number_of,
    strategy_id,
)
from integrations.api.rate_limit import RateLimit
from integrations.engine_signal import engine_signal
from integrations.notifications import NotificationFeed
from integrations.operations import Operations
from integrations.signals import SignalPublisher

EVENT_STREAM: Final = "text/event-stream"

json_response: Final = partial(web.json_bytes_response, dumps=orjson.dumps)


class PartnerApi:
    """The partner's only call, which requests an integration and needs no credentials.

    The response is the same whether the e-mail address belongs to a user or not.
    """

    def __init__(self, operations: Operations, per_address: RateLimit, per_email: RateLimit) -> None:
        self._operations = operations
        self._per_address = per_address
        self._per_email = per_email

    async def request(self, request: web.Request) -> web.Response:
        self._per_address.count(network_of(request.remote or ""))
        body = parse(schemas.NEW_INTEGRATION, await read_json(request))
        self._per_email.count(key_of(body["userEmail"]))
        created = await self._operations.request(body)
        webhook = body.pop("webhook")
        return json_response(
            {
                "id": str(created.id),
                "status": "PENDING",
                **body,
                "webhook": {"url": webhook["url"], "headerNames": list(webhook["headers"])},
                "signingSecret": created.signing_secret,
            },
            status=201,
        )

    def without_credentials(self) -> Any:  # noqa: ANN401 - aiohttp's type of a handler
        async def handler(request: web.Request) -> web.Response:
            return await self.request(request)

        return without_credentials(handler)


class EngineApi:
    """The strategy engine's calls. They are allowed only with the engine's user name, which is a setting."""

    def __init__(self, signals: SignalPublisher, name: str) -> None:
        self._signals = signals
        self._name = name

    async def put_strategy(self, request: web.Request) -> web.Response:
        id_ = self._strategy(request)
        body = parse(schemas.NEW_STRATEGY, await read_json(request))
        await self._signals.put_strategy(id_, body["name"], body["userEmail"])
        return json_response({"id": id_, **body})

    async def send(self, request: web.Request) -> web.Response:
        id_ = self._strategy(request)
        body = schemas.parse_signal(await read_json(request))
        return json_response(
            {"events": await self._signals.send(engine_signal(id_, body, request[EXCHANGE].trace_id))},
            status=202,
        )

    def _strategy(self, request: web.Request) -> str:
        if key_of(request[CALLER]) != key_of(self._name):
            raise ForbiddenError("Only the strategy engine's user may call this operation.")
        return strategy_id(request)


class UserApi:
    """The calls of a user, whose user name in the credentials is the e-mail address."""

    def __init__(self, operations: Operations, notifications: NotificationFeed) -> None:
        self._operations = operations
        self._notifications = notifications

    async def integrations(self, request: web.Request) -> web.Response:
        query_of(request)
        return json_response({"integrations": await self._operations.integrations(request[CALLER])})

    async def strategies(self, request: web.Request) -> web.Response:
        query_of(request)
        return json_response({"strategies": await self._operations.strategies(request[CALLER])})

    async def approve(self, request: web.Request) -> web.Response:
        await self._operations.approve(request[CALLER], integration_id(request))
        return await self._integration(request)

    async def reject(self, request: web.Request) -> web.Response:
        await self._operations.reject(request[CALLER], integration_id(request))
        return await self._integration(request)

    async def resume(self, request: web.Request) -> web.Response:
        await self._operations.resume(request[CALLER], integration_id(request))
        return await self._integration(request)

    async def delete(self, request: web.Request) -> web.Response:
        await self._operations.delete(request[CALLER], integration_id(request))
        return await self._integration(request)

    async def rotate_secret(self, request: web.Request) -> web.Response:
        secret = await self._operations.rotate_secret(request[CALLER], integration_id(request))
        return json_response({"signingSecret": secret})

    async def enable(self, request: web.Request) -> web.Response:
        id_, strategy = integration_id(request), strategy_id(request)
        await self._operations.enable(request[CALLER], id_, strategy)
        return _switched(id_, strategy, is_enabled=True)

    async def disable(self, request: web.Request) -> web.Response:
        id_, strategy = integration_id(request), strategy_id(request)
        await self._operations.disable(request[CALLER], id_, strategy)
        return _switched(id_, strategy, is_enabled=False)

    async def deliveries(self, request: web.Request) -> web.Response:
        query = delivery_query(query_of(request, "state", "type", "strategyId", "before", "limit"))
        found = await self._operations.deliveries(request[CALLER], integration_id(request), query)
        return json_response({"deliveries": found})

    async def replay(self, request: web.Request) -> web.Response:
        id_ = event_id(request)
        await self._operations.replay(request[CALLER], integration_id(request), id_)
        return json_response({"eventId": str(id_), "state": "WAITING"}, status=202)

    async def notifications(self, request: web.Request) -> web.StreamResponse:
        if EVENT_STREAM in request.headers.get(hdrs.ACCEPT, ""):
            query_of(request)
            return await self._stream(request)
        query = query_of(request, "before", "limit")
        limit, before = limit_of(query), number_of(query, "before")
        found = await self._notifications.latest(request[CALLER], before, limit)
        return json_response({"notifications": found})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Send notifications as server-sent events, beginning after the id in the header Last-Event-ID."""
        last = request.headers.get("Last-Event-ID")
        if last is not None and not WHOLE_NUMBER.match(last):
            raise InvalidHeaderError("Last-Event-ID must be the id of an event of this stream.")
        service = request.app[SERVICE]
        after = None if last is None else int(last)

        def has_gone() -> bool:
            return isinstance(request.protocol, AiohttpConnection) and request.protocol.is_ending

        async with self._notifications.stream(request[CALLER], after, has_gone) as batches:
            response = web.StreamResponse(
                headers={
                    hdrs.CONTENT_TYPE: EVENT_STREAM,
                    hdrs.CACHE_CONTROL: "no-store",
                    # without this, a proxy that collects whole responses would delay the events
                    "X-Accel-Buffering": "no",
                    TRACE_HEADER: request[EXCHANGE].trace_id,
                    hdrs.SERVER: service.name,
                }
            )
            await response.prepare(request)
            async for batch in batches:
                lines = [f"id: {each['id']}\ndata: {orjson.dumps(each).decode()}\n\n" for each in batch]
                try:
                    await response.write("".join(lines or [": no news\n\n"]).encode())
                except ConnectionResetError:  # the client has closed its connection
                    break
                if service.is_leaving or service.is_closed or has_gone():
                    break
        return response

    async def _integration(self, request: web.Request) -> web.Response:
        return json_response(await self._operations.integration(request[CALLER], integration_id(request)))


def _switched(id_: UUID, strategy: str, *, is_enabled: bool) -> web.Response:
    return json_response({"strategyId": strategy, "integrationId": str(id_), "enabled": is_enabled})
