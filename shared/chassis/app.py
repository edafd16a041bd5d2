"""The app factory: what every service answers, refuses and says in the same way.

A request passes three middlewares in this order (wire.md §4): the boundary gives it a trace id, turns what
is raised into the error object and writes the log line; the gate refuses unknown paths and methods, and
what comes while the service stops or has its hands full; then come the credentials.
"""

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.auth import CALLER, BasicAuth, Credentials, HashOf, UsersFile, is_loopback, without_credentials
from chassis.errors import (
    ExpectationFailedError,
    InvalidHeaderError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    QuotingError,
    UnauthorizedError,
    UnavailableError,
    error_object,
)
from chassis.outbound import Outbound
from chassis.settings import Settings
from chassis.telemetry import TRACE_HEADER, Telemetry, trace_id_from
from chassis.tls import Tls

MOST_BODY_BYTES: Final = 64 * 1024
KEEPALIVE_SECONDS: Final = 75.0

Check = Callable[[], Awaitable[Sequence[str]]]


@dataclass(slots=True)
class Exchange:
    """One request on its way through this service."""

    trace_id: str
    began: float
    reply_headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Service:
    """What one running service shares among its requests."""

    name: str
    settings: Settings
    telemetry: Telemetry
    credentials: Credentials
    checks: list[Check]
    tls: Tls
    in_hand: int = 0
    is_leaving: bool = False
    """Readiness is gone: still serving, but each reply closes its connection."""
    is_closed: bool = False
    """Nothing new is taken."""


SERVICE: Final = web.AppKey("service", Service)
OUTBOUND: Final = web.AppKey("outbound", Outbound)
EXCHANGE: Final = web.RequestKey("exchange", Exchange)
PASSED_ON: Final = web.RequestKey("passed_on", tuple[str, str | None])
"""Id and cause of an error that another service raised, for this service's log line."""


def create_app(
    name: str,
    settings: Settings,
    *,
    log_name: str | None = None,
    also: HashOf = lambda _name: None,
    middlewares: Sequence[Middleware] = (),
    openapi: dict[str, Any],
) -> web.Application:
    """An app with all that wire.md §6 says; the caller adds its routes.

    ``name`` is the service's name to callers and ``log_name`` to operators, where one machine runs two roles
    of one service. ``also`` knows password hashes that are not in the users file. ``middlewares`` come
    between boundary and gate.
    """
    telemetry = Telemetry(log_name or name)
    samples_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    users = UsersFile(settings.users_file, telemetry.log.error, samples_allowed=samples_allowed)
    credentials = Credentials(users, also)
    app = web.Application(
        middlewares=[boundary, *middlewares, gate, BasicAuth(credentials)],
        client_max_size=MOST_BODY_BYTES,
    )
    tls = Tls(settings, telemetry.log.error)
    app[SERVICE] = Service(name, settings, telemetry, credentials, checks=[], tls=tls)
    app.cleanup_ctx.append(_outbound)
    document = orjson.dumps(openapi)

    async def openapi_json(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    for path, handler in {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
        "/openapi.json": openapi_json,
    }.items():
        app.router.add_get(path, without_credentials(handler), expect_handler=accept_any_expectation)
    return app


async def accept_any_expectation(_request: web.Request) -> None:
    """Leaves ``Expect`` to who reads the body: aiohttp would look at it before path and credentials."""


async def expect_continue(request: web.Request) -> None:
    """Asks for the body where the caller waits to be asked. Raises ExpectationFailedError."""
    expected = request.headers.getall(hdrs.EXPECT, [])
    if not expected:
        return
    if len(expected) > 1 or expected[0].lower() != "100-continue":
        raise ExpectationFailedError
    if request.version == aiohttp.HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _outbound(app: web.Application) -> AsyncIterator[None]:
    """Opens and closes what the app calls others with."""
    app[OUTBOUND] = Outbound(app[SERVICE].tls)
    yield
    await app[OUTBOUND].close()
    app[SERVICE].credentials.close()


@web.middleware
async def boundary(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Trace id, errors, log line and metrics: the same for every request of every service."""
    service = request.app[SERVICE]
    exchange = Exchange(trace_id_from(request.headers.getall(TRACE_HEADER, ())), time.monotonic())
    request[EXCHANGE] = exchange
    service.in_hand += 1
    error: QuotingError | None = None
    try:
        response = await handler(request)
    except QuotingError as raised:
        error = raised
        response = error_response(raised, service.name, exchange.trace_id)
    except web.HTTPException as raised:
        error = from_aiohttp(raised)
        response = error_response(error, service.name, exchange.trace_id)
    except Exception:  # noqa: BLE001 - the one place: whatever fails, the caller gets an answer
        error = UnavailableError("The service failed.", cause=traceback.format_exc())
        response = error_response(error, service.name, exchange.trace_id)
    finally:
        service.in_hand -= 1
    finish(response, service, exchange)
    if not getattr(handler, "__basic_auth_ignore__", False):
        route = request.match_info.route.resource
        service.telemetry.request(
            trace_id=exchange.trace_id,
            caller=request.get(CALLER),
            method=request.method if request.method in hdrs.METH_ALL else "OTHER",
            path=request.rel_url.raw_path,
            route=route.canonical if route is not None else "none",
            status=response.status,
            seconds=time.monotonic() - exchange.began,
            error=(error.id, error.cause or error.message) if error is not None else request.get(PASSED_ON),
        )
    return response


@web.middleware
async def gate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """404 and 405, then 503 for what a stopping or overloaded service does not take."""
    unmatched = request.match_info.http_exception
    if unmatched is not None:
        raise unmatched
    if not getattr(handler, "__basic_auth_ignore__", False):
        service = request.app[SERVICE]
        if service.is_closed:
            raise UnavailableError("The service is stopping.")
        if service.in_hand > service.settings.most_in_hand:
            raise UnavailableError("The service has its hands full.")
    return await handler(request)


def finish(response: web.StreamResponse, service: Service, exchange: Exchange) -> None:
    """What every reply carries."""
    response.headers[TRACE_HEADER] = exchange.trace_id
    response.headers[hdrs.SERVER] = service.name
    response.headers.update(exchange.reply_headers)
    if service.is_leaving:
        response.force_close()


def error_response(error: QuotingError, service: str, trace_id: str) -> web.Response:
    """The reply that an error is (wire.md §4)."""
    headers = dict(error.headers)
    if isinstance(error, UnauthorizedError):
        headers[hdrs.WWW_AUTHENTICATE] = challenge(service)
    return web.Response(
        status=error.status,
        body=error_object(error, service, trace_id),
        content_type="application/json",
        headers=headers,
    )


def challenge(service: str) -> str:
    return f'Basic realm="{service}", charset="UTF-8"'


def from_aiohttp(raised: web.HTTPException) -> QuotingError:
    """Our error for what aiohttp itself would answer in plain text."""
    match raised:
        case web.HTTPNotFound():
            return NotFoundError()
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowedError(headers={hdrs.ALLOW: ", ".join(sorted(raised.allowed_methods))})
        case web.HTTPRequestEntityTooLarge():
            return PayloadTooLargeError()
        case web.HTTPExpectationFailed():
            return ExpectationFailedError()
        case web.HTTPClientError():
            return InvalidHeaderError(raised.reason)
    return UnavailableError("The service failed.", cause=repr(raised))


async def live(_request: web.Request) -> web.Response:
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """Whether this service's own resources are there; never asks another hop (wire.md §6)."""
    service = request.app[SERVICE]
    missing = [problem for check in service.checks for problem in await check()]
    if service.is_leaving:
        missing.append("a future: the service is stopping")
    return web.json_response(
        {"status": "not ready", "missing": missing} if missing else {"status": "ready"},
        status=503 if missing else 200,
        headers={"Retry-After": "1"} if missing else None,
    )


async def metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    service.telemetry.in_hand.set(service.in_hand)
    return web.Response(
        body=generate_latest(service.telemetry.registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST}
    )
