"""Message -> Call -> the service's coroutine -> Reply: the same at every hop.

Checked here, after the chassis has checked path, method, readiness and credentials, in the order of wire.md
§4: content type, size, headers, uuid, query. What a body says is the service's own business.
"""

import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final
from urllib.parse import unquote

from aiohttp import hdrs, web

from chassis.app import CONNECTION_POOL, SERVICE, create_app
from chassis.deadlines import Deadlines
from chassis.errors import InvalidHeaderError, InvalidUriParameterError, UpstreamTimeoutError
from chassis.intake import Routes, serve_routes
from chassis.messages import Message, Reply
from chassis.queries import query_parameters
from quoting.batch_endpoint import Express, add_batches
from quoting.call import (
    DEFAULT_TIMEOUT_MS,
    IDEMPOTENCY_HEADER,
    IDENTIFIER,
    IDENTIFIER_TYPE,
    MAX_TIMEOUT_MS,
    TIMEOUT_HEADER,
    TRACEPARENT_HEADER,
    Call,
    Operation,
    is_key,
    is_traceparent,
)
from quoting.express import CallExpress, Start
from quoting.openapi import openapi
from quoting.peers import Peers
from quoting.settings import ChainSettings
from quoting.turned_away import TurnedAway

Answer = Callable[[Call], Awaitable[Reply]]
"""A service of the chain: one coroutine from Call to Reply; refuses by raising a QuotingError."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)
_MILLISECONDS = re.compile(r"0*([1-9][0-9]*)\Z")


def create_chain_app(
    name: str,
    settings: ChainSettings,
    *,
    log_name: str | None = None,
    query: Sequence[str] = (IDENTIFIER_TYPE, IDENTIFIER),
) -> web.Application:
    """An app for a service of the chain; :func:`add_chain` gives it its coroutine.

    ``query`` names the parameters that look up may bring to this service.
    """
    app = create_app(name, settings, log_name=log_name, openapi=openapi(name, query))
    app[LOOK_UP_PARAMETERS] = frozenset(query)
    app[MAX_LINES_OF_BATCH] = settings.batch_lines
    add_peers(app, settings.batch_lines)
    return app


LOOK_UP_PARAMETERS: Final = web.AppKey("look_up_parameters", frozenset[str])
MAX_LINES_OF_BATCH: Final = web.AppKey("max_lines_of_batch", int)
PEERS: Final = web.AppKey("peers", Peers)


def add_peers(app: web.Application, batch_lines: int) -> None:
    """Opens and closes what the app calls others of the chain with."""

    async def peers(app: web.Application) -> AsyncIterator[None]:
        app[PEERS] = Peers(app[CONNECTION_POOL], batch_lines)
        yield
        await app[PEERS].close()

    app.cleanup_ctx.append(peers)


def add_routes(
    app: web.Application, routes: Routes, batch_lines: int, express: Express | None = None
) -> None:
    """Serves messages: each alone, and in batches."""
    serve_routes(app, routes)
    add_batches(app, routes, batch_lines, express)


def add_chain(app: web.Application, answer: Answer, start: Start | None = None) -> None:
    """Routes the four operations to ``answer``; lines that are plainly right to ``start`` first."""
    routes, deadlines = Routes(), Deadlines()
    express = CallExpress(app[SERVICE], start, deadlines) if start is not None else None
    if express is not None:
        app[SERVICE].express = express.take_whole
        app[SERVICE].turned_away = TurnedAway(app[SERVICE], express.tell_later).response
    for operation in Operation:
        route = _ChainRoute(operation, answer, app[LOOK_UP_PARAMETERS], deadlines)
        routes.add(operation.method, route)
    add_routes(app, routes, app[MAX_LINES_OF_BATCH], express)


class _ChainRoute:
    """One operation: from the message to the call, and from the call to the reply."""

    is_open = False

    def __init__(
        self, operation: Operation, answer: Answer, parameters: frozenset[str], deadlines: Deadlines
    ) -> None:
        self.pattern = operation.path
        self._operation = operation
        self._answer = answer
        self._parameters = frozenset() if operation.has_body else parameters
        self._deadlines = deadlines

    def begin(self, message: Message) -> None:
        """Each reply to a reservation, a refusal too, tells the Idempotency-Key to repeat with (wire.md §3)."""
        message.time_left = _time_left(message.headers.get(TIMEOUT_HEADER)) - message.waited
        if self._operation.reserves:
            given = message.headers.getall(IDEMPOTENCY_HEADER, ())
            if not given:
                message.reply_headers[IDEMPOTENCY_HEADER] = secrets.token_urlsafe(24)
            elif _is_key(given):
                message.reply_headers[IDEMPOTENCY_HEADER] = given[0]

    async def answer(self, message: Message) -> Reply:
        call = self._call(message, await message.body() if self._operation.has_body else None)
        if call.deadline <= time.monotonic():
            raise UpstreamTimeoutError  # the body took all the time
        try:
            return await self._deadlines.within(call.deadline, self._answer(call))
        except TimeoutError:
            raise UpstreamTimeoutError from None

    def _call(self, message: Message, body: bytes | None) -> Call:
        """Headers, then uuid, then query: wire.md §4's order."""
        headers = message.headers
        deadline = message.began + _timeout_ms(headers.getall(TIMEOUT_HEADER, ())) / 1000
        key = None
        if self._operation.reserves:
            key = message.reply_headers.get(IDEMPOTENCY_HEADER)
            if key is None:
                raise InvalidHeaderError(
                    f"{IDEMPOTENCY_HEADER} must be given once: 1 to 128 visible ASCII characters."
                )
        traceparent = headers.getall(TRACEPARENT_HEADER, ())
        return Call(
            self._operation,
            message.caller or "",
            headers[hdrs.AUTHORIZATION],
            message.trace_id,
            deadline,
            None if self._operation.reserves else _uuid(message.path),
            query_parameters(message.query, self._parameters) if message.query else (),
            body,
            key,
            traceparent[0] if len(traceparent) == 1 and is_traceparent(traceparent[0]) else None,
        )


def _is_key(given: Sequence[str]) -> bool:
    return len(given) == 1 and is_key(given[0]) is not None


def _uuid(path: str) -> str:
    """The uuid at the end of a path, in lower case. Raises InvalidUriParameterError."""
    uuid = unquote(path.rpartition("/")[2])
    if not _UUID.match(uuid):
        raise InvalidUriParameterError("The uuid in the path must be 8-4-4-4-12 hex digits.")
    return uuid.lower()


def _time_left(said: str | None) -> float:
    """Seconds that a caller gives, as far as that is plain: what is wrong with the header is said in its turn."""
    return int(said) / 1_000 if said and said.isascii() and said.isdigit() and len(said) < 6 else 10.0  # noqa: PLR2004


def _timeout_ms(given: Sequence[str]) -> int:
    """What is left of the caller's time, in milliseconds. Raises InvalidHeaderError."""
    if not given:
        return DEFAULT_TIMEOUT_MS
    match = _MILLISECONDS.match(given[0])
    if len(given) > 1 or match is None:
        raise InvalidHeaderError(f"{TIMEOUT_HEADER} must be given once: digits, 1 to {MAX_TIMEOUT_MS}.")
    digits = match[1]
    return MAX_TIMEOUT_MS if len(digits) > len(str(MAX_TIMEOUT_MS)) else min(int(digits), MAX_TIMEOUT_MS)
