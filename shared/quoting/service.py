"""A service of the chain: its routes, and the steps from a request to a call (wire.md §1 to §4).

The chassis has checked path, method, admission, credentials, media type and size. This module then checks the headers,
the uuid and the query, in this order (wire.md §4). Each service checks the body itself.
"""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

import environ
from aiohttp import hdrs, web

from chassis.app import CONNECTION_POOL, SERVICE, add_routes, create_app
from chassis.errors import (
    InvalidHeaderError,
    InvalidUriParameterError,
    QuotingError,
    UpstreamError,
    UpstreamTimeoutError,
)
from chassis.exchange import Exchange, Routes
from chassis.http.request import Headers
from chassis.http.response import Response
from chassis.openapi import DescribedOperation
from chassis.patterns import is_uuid
from chassis.queries import query_parameters
from chassis.settings import base_url
from quoting.batch_endpoint import BatchEndpoint
from quoting.batch_format import BATCH_HEADER, BATCH_PATH
from quoting.call import (
    DEFAULT_TIMEOUT_MS,
    IDEMPOTENCY_HEADER,
    IDENTIFIER,
    IDENTIFIER_TYPE,
    LIFETIME_HEADER,
    MAX_LIFETIME_MS,
    MAX_TIMEOUT_MS,
    TIMEOUT_HEADER,
    Call,
    Operation,
    is_key,
    is_lifetime,
)
from quoting.next_hop import NextHop
from quoting.openapi import openapi
from quoting.peers import Peers
from quoting.settings import ChainSettings
from quoting.upstream_metrics import add_upstream_metrics

Handle = Callable[[Exchange, Call], None]
"""A function that does a service's own work for a call.

It settles the exchange, passes it to the next hop or to a batcher, or lets it `run` a coroutine. It raises a
QuotingError to refuse the call.
"""
Aim = Callable[[Call], tuple[Call, str]]
"""A function that returns the call to send, and the base URL of the next hop.

It raises a QuotingError to refuse the call.
"""
Query = tuple[tuple[str, str], ...]
"""The parameters of a query: names and values."""

PEERS: Final = web.AppKey("peers", Peers)

_MAX_DIGITS: Final = len(str(MAX_TIMEOUT_MS))
_DEFAULT_SECONDS: Final = DEFAULT_TIMEOUT_MS / 1_000
_KEY: Final = IDEMPOTENCY_HEADER.lower()
_LIFETIME: Final = LIFETIME_HEADER.lower()
_TIMEOUT: Final = TIMEOUT_HEADER.lower()


@environ.config(prefix="QUOTES", frozen=True)
class ForwarderSettings(ChainSettings):
    """Settings of a service that sends every call to one next hop."""

    next_hop: str = environ.var(converter=base_url, help="base URL of the next service of the chain")


@dataclass(frozen=True)
class OwnOperation:
    """A read-only operation that one service answers itself. It does not travel through the chain, and not in batches."""

    path: str
    parameters: frozenset[str]
    """Names of the query parameters that it may have."""
    work: Callable[[Exchange, Query], Coroutine[Any, Any, Response]]
    description: DescribedOperation


def create_chain_app(
    name: str,
    settings: ChainSettings,
    handle: Handle,
    *,
    log_name: str | None = None,
    query: Sequence[str] = (IDENTIFIER_TYPE, IDENTIFIER),
    required: Sequence[str] = (),
    errors: Sequence[type[QuotingError]] = (),
    own: Sequence[OwnOperation] = (),
    max_lifetime_ms: int = MAX_LIFETIME_MS,
) -> web.Application:
    """Create a service of the chain.

    `query` names the parameters that look up may bring to this service, `required` those that it must bring. `errors` are
    those of this service and the ones behind it that the payee does not give; the service's document lists them. `own`
    are further operations of this service alone. A reservation may ask for a lifetime up to `max_lifetime_ms`.
    """
    document = openapi(
        name,
        tuple(query),
        tuple(required),
        tuple(errors),
        tuple((each.path, each.description) for each in own),
    )
    app = create_app(name, settings, log_name=log_name, openapi=document)
    add_peers(app, settings.batch_lines)
    routes = Routes()
    for operation in Operation:
        parameters = frozenset[str]() if operation.has_body else frozenset(query)
        routes.add(operation.method, ChainRoute(operation, handle, parameters, max_lifetime_ms))
    add_routes_and_batches(app, routes, settings.batch_lines, [OwnRoute(each) for each in own])
    return app


def add_routes_and_batches(
    app: web.Application, routes: Routes, batch_lines: int, alone: "Sequence[OwnRoute]" = ()
) -> None:
    """Serve the requests of `routes`, alone and in batches, and those of `alone`, which no batch may have.

    `batch_lines` limits a batch; 0 means no batches.
    """
    every = Routes()
    for method, route in routes.all:
        every.add(method, route)
    for own in alone:
        every.add(hdrs.METH_GET, own)
    if batch_lines:
        app[SERVICE].announce(BATCH_HEADER, str(batch_lines))
        every.endpoints[BATCH_PATH] = BatchEndpoint(app[SERVICE], routes, batch_lines)
    add_routes(app, every)


def add_peers(app: web.Application, batch_lines: int) -> None:
    """Add `Peers` to the application. They are closed before the application's connection pool."""
    app[PEERS] = Peers(app[CONNECTION_POOL], batch_lines, app[SERVICE].tracer)

    async def close_peers(app: web.Application) -> AsyncIterator[None]:
        yield
        await app[PEERS].close()

    app.cleanup_ctx.append(close_peers)


def add_next_hop(app: web.Application, name: str, next_service: str) -> NextHop:
    """Return the way to the next service, and let `/metrics` show the connections to it."""
    add_upstream_metrics(app[SERVICE].metrics.registry, app[CONNECTION_POOL], app[PEERS])
    return NextHop(app[PEERS], name, next_service)


def forwarder(
    name: str,
    settings: ChainSettings,
    aim: Aim,
    *,
    next_service: str,
    log_name: str | None = None,
    query: Sequence[str] = (IDENTIFIER_TYPE, IDENTIFIER),
    required: Sequence[str] = (),
    errors: Sequence[type[QuotingError]] = (),
) -> web.Application:
    """Create a service that sends every call where `aim` says. `next_service` is its name in messages.

    `query`, `required` and `errors` are those of `create_chain_app`.
    """

    def handle(exchange: Exchange, call: Call) -> None:
        next_hop.send(exchange, *aim(call))

    app = create_chain_app(
        name,
        settings,
        handle,
        log_name=log_name,
        query=query,
        required=required,
        errors=(*errors, UpstreamError),
    )
    next_hop = add_next_hop(app, name, next_service)
    return app


def unchanged(to: str) -> Aim:
    """Return an `Aim` that sends each call unchanged to the service at base URL `to`."""
    return lambda call: (call, to)


class ChainRoute:
    """The route of one operation. It makes a `Call` from an exchange and passes it to `handle`."""

    is_open = False

    def __init__(
        self, operation: Operation, handle: Handle, parameters: frozenset[str], max_lifetime_ms: int
    ) -> None:
        self.pattern = operation.path
        self.has_body = operation.has_body
        self._operation = operation
        self._handle = handle
        self._parameters = parameters
        self._max_lifetime_ms = max_lifetime_ms
        self._reserves = operation.reserves
        self._has_uuid = "{uuid}" in operation.path

    def prepare(self, exchange: Exchange) -> None:
        """Set the deadline. For a reservation, also set the Idempotency-Key header of every response.

        With this key the caller can repeat the reservation after any response, also after an error (wire.md §3).
        """
        _set_deadline(exchange)
        if self._reserves:
            key = exchange.request.headers.get(_KEY)
            if key is None:
                key = secrets.token_urlsafe(24)
            if is_key(key):
                exchange.idempotency_key = exchange.reply_headers[IDEMPOTENCY_HEADER] = key
            elif exchange.header_error is None:
                message = f"{IDEMPOTENCY_HEADER} must be given once, with 1 to 128 visible ASCII characters."
                exchange.header_error = InvalidHeaderError(message)
        elif self._has_uuid:
            exchange.uuid = _uuid(exchange.request.path)

    def handle(self, exchange: Exchange) -> None:
        if exchange.header_error is not None:
            raise exchange.header_error
        lifetime_ms = (
            _lifetime_ms(exchange.request.headers, self._max_lifetime_ms) if self._reserves else None
        )
        if self._has_uuid and exchange.uuid is None:
            raise InvalidUriParameterError("The uuid in the path must be 8-4-4-4-12 hex digits.")
        request = exchange.request
        headers = request.headers
        call = Call(
            self._operation,
            exchange.caller or "",
            headers["authorization"],
            exchange.trace_id,
            exchange.deadline,
            exchange.uuid,
            query_parameters(request.query, self._parameters) if request.query else (),
            request.body if self.has_body else None,
            exchange.idempotency_key,
            exchange.traceparent(),
            lifetime_ms,
        )
        if exchange.deadline <= time.monotonic():
            raise UpstreamTimeoutError  # the request was not read, or its body not complete, in time
        self._handle(exchange, call)


class OwnRoute:
    """The route of an operation that one service answers itself."""

    is_open = False
    has_body = False

    def __init__(self, operation: OwnOperation) -> None:
        self.pattern = operation.path
        self._operation = operation

    def prepare(self, exchange: Exchange) -> None:
        """Set the deadline. How long the answer takes says nothing about the answers of the chain's operations."""
        exchange.is_measured = False
        _set_deadline(exchange)

    def handle(self, exchange: Exchange) -> None:
        if exchange.header_error is not None:
            raise exchange.header_error
        query = query_parameters(exchange.request.query, self._operation.parameters)
        if exchange.deadline <= time.monotonic():
            raise UpstreamTimeoutError
        exchange.run(self._operation.work(exchange, query))


def _set_deadline(exchange: Exchange) -> None:
    headers = exchange.request.headers
    seconds: float | None = _DEFAULT_SECONDS
    if _TIMEOUT in headers and (seconds := _timeout_seconds(headers[_TIMEOUT])) is None:
        message = f"{TIMEOUT_HEADER} must be given once, as a whole number from 1 to {MAX_TIMEOUT_MS}."
        exchange.header_error = InvalidHeaderError(message)
    exchange.deadline = exchange.request.received + (seconds or _DEFAULT_SECONDS)


def _lifetime_ms(headers: Headers, maximum: int) -> int | None:
    """Return the lifetime that a reservation asks for; None without the header. Raises InvalidHeaderError."""
    given = headers.get(_LIFETIME)
    if given is None:
        return None
    if not is_lifetime(given):
        raise InvalidHeaderError(
            f"{LIFETIME_HEADER} must be given once, as a whole number of milliseconds above 0."
        )
    lifetime_ms = int(given)
    if lifetime_ms > maximum:
        raise InvalidHeaderError(f"{LIFETIME_HEADER} must be at most {maximum}.")
    return lifetime_ms


def _timeout_seconds(given: str) -> float | None:
    """Return the time limit that a caller gives in a header, or None if the header is malformed."""
    if len(given) <= _MAX_DIGITS:
        return _short_timeout_seconds(given)
    is_number = given.isdecimal() and given.isascii()
    return _short_timeout_seconds(given.lstrip("0")[: _MAX_DIGITS + 1]) if is_number else None


@lru_cache(maxsize=2_048)  # callers give few different times, and hops pass on what is left of them
def _short_timeout_seconds(given: str) -> float | None:
    if not (given.isdecimal() and given.isascii()):
        return None
    return min(int(given), MAX_TIMEOUT_MS) / 1_000 or None


def _uuid(path: str) -> str | None:
    """Return the uuid at the end of a path, in lower case; None if it is malformed."""
    uuid = unquote(path.rpartition("/")[2])
    return uuid.lower() if is_uuid(uuid) else None
