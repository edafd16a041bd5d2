"""The app factory: what every service answers, refuses and says in the same way.

A request passes three middlewares in this order (wire.md §4): the boundary gives it a trace id, turns what
is raised into the error object and writes the log line; the gate refuses unknown paths and methods, and
what comes while the service stops or has its hands full; then come the credentials.
"""

import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.addresses import is_loopback
from chassis.asked import Asked, Here, Response
from chassis.auth import CALLER, BasicAuth, Credentials, HashOf, without_credentials
from chassis.content import MAX_BODY_BYTES
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
from chassis.http.pool import ConnectionPool
from chassis.logs import URGENT_STATUS, Logs, iso_time
from chassis.messages import JSON
from chassis.metrics import RequestMetrics
from chassis.pace import Pace
from chassis.plain import Plain
from chassis.room import WaitingRoom
from chassis.settings import Settings
from chassis.tls import Tls
from chassis.tracing import TRACE_HEADER, trace_id_from
from chassis.users_file import UsersFile

KEEPALIVE_SECONDS: Final = 75.0

_IS_ASIDE: Final = "__is_aside__"

Check = Callable[[], Awaitable[Sequence[str]]]
ShownPath = Callable[[str, str | None], str]
"""What log lines say of a path, from the path as it came and the pattern of its route, if it has one."""


def as_it_came(path: str, _pattern: str | None) -> str:
    return path


@dataclass(slots=True)
class Exchange:
    """One request on its way through this service."""

    trace_id: str
    began: float
    reply_headers: dict[str, str] = field(default_factory=dict)


Express = Callable[[Here, Callable[[Response], None]], bool]


class TurnAway(Protocol):
    """The whole response to a request that there is no room for, None to any other.

    ``waited`` is how long it has in the waiting room, in seconds; None where it has not been in there.
    """

    def __call__(self, request: Plain, waited: float | None, *, is_last: bool) -> bytes | None: ...


@dataclass(slots=True)
class Service:
    """What one running service shares among its requests."""

    name: str
    settings: Settings
    logs: Logs
    metrics: RequestMetrics
    credentials: Credentials
    checks: list[Check]
    tls: Tls
    shown_path: ShownPath
    pace: Pace
    room: WaitingRoom
    direct: list[Callable[[Asked], Awaitable[Response] | None]] = field(default_factory=list)
    """Asked in turn before aiohttp's router: what answers here passes neither router nor middlewares."""
    express: Express | None = None
    """Asked before that for what is here in whole: whether it has taken it and will give the response."""
    turned_away: TurnAway | None = None
    """Asked before that."""
    announces: dict[str, str] = field(default_factory=dict)
    """What each reply says of this service."""
    envelopes: int = 0
    """Of what is in hand: batches read whole, whose lines are in hand, each for itself."""
    is_leaving: bool = False
    """Readiness is gone: still serving, but each reply closes its connection."""
    is_closed: bool = False
    """Nothing new is taken."""

    @property
    def in_hand(self) -> int:
        """Requests that are being worked on."""
        return self.pace.in_hand

    @in_hand.setter
    def in_hand(self, number: int) -> None:
        self.pace.in_hand = number

    def headers(self, trace_id: str) -> dict[str, str]:
        """What every reply carries."""
        return {TRACE_HEADER: trace_id, hdrs.SERVER: self.name, **self.announces}

    def refuse_new(self) -> None:
        """Raises UnavailableError where the service stops or has its hands full."""
        if self.is_closed:
            raise UnavailableError("The service is stopping.")
        if self.pace.in_hand - self.envelopes > self.settings.max_in_flight:
            raise UnavailableError("The service has its hands full.")

    def refuse_late(self, waited: float, left: float) -> None:
        """Raises UnavailableError where what has ``waited`` and has ``left`` seconds would be answered too late."""
        if self.pace.is_too_late_for(waited, left):
            raise overloaded()


def overloaded() -> UnavailableError:
    return UnavailableError("The service is overloaded: the answer would come too late.")


SERVICE: Final = web.AppKey("service", Service)
CONNECTION_POOL: Final = web.AppKey("connection_pool", ConnectionPool)
EXCHANGE: Final = web.RequestKey("exchange", Exchange)


def create_app(
    name: str,
    settings: Settings,
    *,
    log_name: str | None = None,
    also: HashOf = lambda _name: None,
    middlewares: Sequence[Middleware] = (),
    shown_path: ShownPath = as_it_came,
    openapi: dict[str, Any],
) -> web.Application:
    """An app with all that wire.md §6 says; the caller adds its routes.

    ``name`` is the service's name to callers and ``log_name`` to operators, where one machine runs two roles
    of one service. ``also`` knows password hashes that are not in the users file. ``middlewares`` come
    between boundary and gate. ``shown_path`` keeps what is secret in paths out of the log.
    """
    logs = Logs(log_name or name)
    samples_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    users = UsersFile(settings.users_file, logs.error, samples_allowed=samples_allowed)
    request_metrics = RequestMetrics()
    credentials = Credentials(users, also, registry=request_metrics.registry)
    app = web.Application(
        middlewares=[boundary, *middlewares, gate, BasicAuth(credentials)],
        client_max_size=MAX_BODY_BYTES,
    )
    tls = Tls(settings, logs.error)
    pace = Pace(settings.max_wait_seconds, settings.max_in_flight)
    app[SERVICE] = Service(
        name,
        settings,
        logs,
        request_metrics,
        credentials,
        checks=[],
        tls=tls,
        shown_path=shown_path,
        pace=pace,
        room=WaitingRoom(pace),
    )
    app.cleanup_ctx.append(_connection_pool)
    document = orjson.dumps(openapi)

    async def openapi_json(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    for path, handler in {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
        "/openapi.json": openapi_json,
    }.items():
        app.router.add_get(path, _aside(handler), expect_handler=accept_any_expectation)
    return app


def _aside(handler: Handler) -> Handler:
    """Marks what operators ask: it needs no credentials, has no log line, and is answered to the end."""
    setattr(handler, _IS_ASIDE, True)
    marked: Handler = without_credentials(handler)
    return marked


async def accept_any_expectation(_request: web.Request) -> None:
    """Leaves ``Expect`` to who reads the body: aiohttp would look at it before path and credentials."""


async def _connection_pool(app: web.Application) -> AsyncIterator[None]:
    """Opens and closes what the app calls others with."""
    app[CONNECTION_POOL] = ConnectionPool(app[SERVICE].tls)
    app[SERVICE].pace.start()
    yield
    app[SERVICE].pace.stop()
    await app[CONNECTION_POOL].close()
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
    except Exception as raised:  # noqa: BLE001 - the one place for requests: whatever fails, the caller gets an answer
        error = as_error(raised)
        response = error_response(error, service.name, exchange.trace_id)
    finally:
        service.in_hand -= 1
    finish(response, service, exchange)
    if not hasattr(handler, _IS_ASIDE):
        resource = request.match_info.route.resource
        pattern = resource.canonical if resource is not None else None
        log_request(
            service,
            trace_id=exchange.trace_id,
            caller=request.get(CALLER),
            method=request.method if request.method in hdrs.METH_ALL else "OTHER",
            path=service.shown_path(request.rel_url.raw_path, pattern),
            route=pattern or "none",
            status=response.status,
            seconds=time.monotonic() - exchange.began,
            error=error,
        )
    return response


def log_request(
    service: Service,
    *,
    trace_id: str,
    caller: str | None,
    method: str,
    path: str,
    route: str,
    status: int,
    seconds: float,
    error: QuotingError | None,
) -> None:
    """Count one answered request and log it."""
    service.metrics.count(method, route, status, seconds)
    about_error = None if error is None else (error.id, error.cause or error.message)
    line = service.logs.request_line(
        iso_time(time.time()), trace_id, caller, method, path, status, seconds, about_error
    )
    service.logs.write([line], now=status >= URGENT_STATUS)


@web.middleware
async def gate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """404 and 405, then 503 for what a stopping or overloaded service does not take."""
    unmatched = request.match_info.http_exception
    if unmatched is not None:
        raise unmatched
    if not hasattr(handler, _IS_ASIDE):
        request.app[SERVICE].refuse_new()
    return await handler(request)


def finish(response: web.StreamResponse, service: Service, exchange: Exchange) -> None:
    """What every reply carries."""
    response.headers.update(service.headers(exchange.trace_id))
    response.headers.update(exchange.reply_headers)
    if service.is_leaving:
        response.force_close()


def refused(error: QuotingError, service: Service, trace_ids: Sequence[str] = ()) -> Response:
    """The response to what never became a request of the app, with its log line."""
    trace_id = trace_id_from(trace_ids)
    log_request(
        service,
        trace_id=trace_id,
        caller=None,
        method="OTHER",
        path="",
        route="none",
        status=error.status,
        seconds=0.0,
        error=error,
    )
    headers = {
        hdrs.CONTENT_TYPE: JSON,
        **error_headers(error, service.name),
        **service.headers(trace_id),
    }
    return Response(error.status, headers, error_object(error, service.name, trace_id))


def error_response(error: QuotingError, service: str, trace_id: str) -> web.Response:
    """The reply that an error is (wire.md §4)."""
    return web.Response(
        status=error.status,
        body=error_object(error, service, trace_id),
        content_type="application/json",
        headers=error_headers(error, service),
    )


def error_headers(error: QuotingError, service: str) -> dict[str, str]:
    """What an error's reply carries beyond the error object."""
    if isinstance(error, UnauthorizedError):
        return {**error.headers, hdrs.WWW_AUTHENTICATE: challenge(service)}
    return error.headers


def challenge(service: str) -> str:
    return f'Basic realm="{service}", charset="UTF-8"'


def as_error(raised: Exception) -> QuotingError:
    """The error that a caller is told for whatever was raised."""
    if isinstance(raised, QuotingError):
        return raised
    if isinstance(raised, web.HTTPException):
        return from_aiohttp(raised)
    return UnavailableError("The service failed.", cause="".join(traceback.format_exception(raised)))


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
    service.metrics.in_flight.set(service.in_hand)
    return web.Response(
        body=generate_latest(service.metrics.registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST}
    )
