"""The aiohttp application of a service: routes, middlewares, and the endpoints for operators (wire.md §6).

A request to an ordinary aiohttp handler passes three middlewares in this order: `envelope` makes the exchange, `gate`
refuses unknown paths and admits the request, `BasicAuth` checks the credentials. A request to a `Route` passes none of
them: the route's exchange does the same work.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any, Final

import orjson
from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware
from aiohttp_basicauth import BasicAuthMiddleware
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis import configuration, docs_page
from chassis.addresses import is_loopback
from chassis.admission import AdmissionQueue, LoadMonitor
from chassis.auth import CALLER, Credentials, HashOf, without_credentials
from chassis.errors import UnauthorizedError, UnavailableError
from chassis.exchange import Exchange, Route, Routes, accept
from chassis.http.adapter import aiohttp_handler, aiohttp_response, from_aiohttp, request_of
from chassis.http.body_budget import BodyBudget
from chassis.http.connection_limit import ConnectionLimit
from chassis.http.pool import ConnectionPool
from chassis.http.request import Request
from chassis.http.response import Respond, Response
from chassis.logs import Logs
from chassis.metrics import RequestMetrics
from chassis.process_metrics import add_process_metrics
from chassis.service import OVERLOADED, Service, ShownPath, whole_path
from chassis.settings import Settings, SettingsError
from chassis.spans import SpanMetrics, Tracer
from chassis.tls import Tls
from chassis.users_file import UsersFile
from chassis.watched_files import WatchedFile

SERVICE: Final = web.AppKey("service", Service)
CONNECTION_POOL: Final = web.AppKey("connection_pool", ConnectionPool)
OPENAPI: Final = web.AppKey("openapi", dict[str, Any])
EXCHANGE: Final = web.RequestKey("exchange", Exchange)

_IS_FOR_OPERATORS: Final = "__is_for_operators__"
_IS_ROUTE: Final = "__is_route__"

Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_app(
    name: str,
    settings: Settings,
    *,
    log_name: str | None = None,
    also: HashOf = lambda _name: None,
    middlewares: Sequence[Middleware] = (),
    shown_path: ShownPath = whole_path,
    openapi: dict[str, Any],
) -> web.Application:
    """Create an application that has the endpoints for operators; `add_routes` adds the service's own routes.

    `name` is the service's name in responses. `log_name` is its name in the log; it differs if one machine runs the
    same service in two roles. `also` returns the password hash of a user who is not in the users file, or None.
    `middlewares` run after `envelope` and before `gate`. `shown_path` returns the path for the log line, without
    secrets.
    """
    logs = Logs(log_name or name)
    samples_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    users_file = WatchedFile("the users file", settings.users_file)
    users = UsersFile(settings.users_file, samples_allowed=samples_allowed)
    request_metrics = RequestMetrics(settings.metrics_callers)
    monitor = LoadMonitor(settings.max_wait_seconds, settings.max_in_flight)
    app = web.Application(middlewares=[envelope, *middlewares, gate, BasicAuth()])
    service = app[SERVICE] = Service(
        name,
        settings,
        logs,
        request_metrics,
        Credentials(users, also, registry=request_metrics.registry),
        Tls(settings),
        monitor,
        AdmissionQueue(monitor),
        BodyBudget(settings.max_unread_bytes),
        ConnectionLimit(settings.max_connections, request_metrics.registry),
        shown_path,
        _tracer(log_name or name, settings, logs, request_metrics),
    )
    service.files.add(users_file, service.credentials.reload)
    if service.tls.is_used:
        service.files.add(service.tls.files, service.tls.reload)
    add_process_metrics(service, log_name or name)
    app[CONNECTION_POOL] = ConnectionPool(service.tls)
    app.cleanup_ctx.append(_resources)
    app[OPENAPI] = openapi
    document = orjson.dumps(openapi)

    async def openapi_json(_request: web.Request) -> web.Response:
        return web.Response(body=document, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        return await docs_page.page(log_name or name)

    async def docs_file(request: web.Request) -> web.FileResponse:
        return await docs_page.file(request.match_info["file"])

    for path, handler in {
        "/health/live": live,
        "/health/ready": ready,
        "/metrics": metrics,
        "/openapi.json": openapi_json,
        docs_page.PATH: docs,
        f"{docs_page.PATH}/{{file}}": docs_file,
    }.items():
        app.router.add_get(path, _for_operators(handler))
    app.router.add_get(configuration.PATH, configuration_in_force)
    return app


def _tracer(name: str, settings: Settings, logs: Logs, metrics: RequestMetrics) -> Tracer | None:
    """Return the tracer of a service; None if no URL for traces is configured. Raises SettingsError."""
    if settings.traces_url is None:
        return None
    try:
        # its packages are optional, and to import them takes a third of a second
        from chassis.otlp import OtlpExporter
    except ImportError as error:
        raise SettingsError(
            f"QUOTES_TRACES_URL is set, but the extra `tracing` is not installed ({error}). Install "
            "dfsp-quoting[tracing], or remove the variable"
        ) from error
    span_metrics = SpanMetrics(metrics.registry)
    return Tracer(settings, OtlpExporter(name, settings, span_metrics, logs), span_metrics)


def add_routes(app: web.Application, routes: Routes) -> None:
    """Serve `routes`, both for requests that `HttpProtocol` reads and for requests that aiohttp reads."""
    service = app[SERVICE]
    service.accept = partial(accept, service, routes)
    answers: list[tuple[str, str, Callable[[Request, Respond], None]]]
    answers = [(method, route.pattern, partial(_answer, service, route)) for method, route in routes.all]
    answers += [(hdrs.METH_ANY, path, endpoint) for path, endpoint in routes.endpoints.items()]
    for method, path, answer in answers:
        handler = aiohttp_handler(service, answer)
        setattr(handler, _IS_ROUTE, True)
        app.router.add_route(method, path, handler)


def _answer(service: Service, route: Route, request: Request, respond: Respond) -> None:
    Exchange(service, request, respond, route.pattern).answer(route)


def _for_operators(handler: Handler) -> Handler:
    """Mark and return a handler that needs no credentials, is not logged, and still answers during shutdown."""
    setattr(handler, _IS_FOR_OPERATORS, True)
    marked: Handler = without_credentials(handler)
    return marked


async def _resources(app: web.Application) -> AsyncIterator[None]:
    """Run the load monitor and watch files while the application runs; close its resources when it ends."""
    service = app[SERVICE]
    service.monitor.start()
    if service.tracer is not None:
        service.tracer.exporter.start()
    async with service.files.watched():
        yield
    service.monitor.stop()
    service.deadlines.close()
    await app[CONNECTION_POOL].close()
    service.credentials.close()
    if service.tracer is not None:
        service.flush_log()
        await service.tracer.exporter.close()


@web.middleware
async def envelope(request: web.Request, handler: Next) -> web.StreamResponse:
    """Make an exchange for a request to an aiohttp handler. It adds trace id, error object, log line and metrics."""
    if hasattr(handler, _IS_ROUTE):
        route_response: web.StreamResponse = await request.match_info.handler(request)
        return route_response
    service = request.app[SERVICE]
    resource = request.match_info.route.resource
    pattern = resource.canonical if resource is not None else None
    settled: list[Response] = []
    exchange = Exchange(
        service,
        request_of(request, service.monitor),
        lambda response, _headers: settled.append(response),
        pattern,
    )
    exchange.is_logged = not hasattr(handler, _IS_FOR_OPERATORS)
    request[EXCHANGE] = exchange
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as raised:
        exchange.fail(from_aiohttp(raised))
        # a reference cycle: the request's match_info holds the exception, and its frames hold the request
        raised.__traceback__ = None
    except Exception as error:  # noqa: BLE001 - the one place where an error of a handler becomes a response
        exchange.fail(error)
    except BaseException as error:  # the connection is being closed
        exchange.is_logged = False
        exchange.fail(error)
        raise
    else:
        exchange.caller = request.get(CALLER)
        exchange.reply(Response(response.status, b""))
        response.headers.update({**service.headers, **exchange.reply_headers})
        return response
    return aiohttp_response(service, settled[0], exchange.reply_headers)


@web.middleware
async def gate(request: web.Request, handler: Next) -> web.StreamResponse:
    """Answer 404 or 405 for an unknown path or method, and 503 if the service cannot take the request."""
    unmatched = request.match_info.http_exception
    if unmatched is not None:
        raise unmatched
    if not hasattr(handler, _IS_FOR_OPERATORS):
        exchange = request[EXCHANGE]
        if not exchange.service.admits(exchange.request, exchange.began, exchange.deadline):
            raise UnavailableError(OVERLOADED.message)
    return await handler(request)


class BasicAuth(BasicAuthMiddleware):  # type: ignore[misc]
    """aiohttp-basicauth with the service's credentials and error object. Sets `request[CALLER]`."""

    async def authenticate(self, request: web.Request) -> bool:
        exchange = request[EXCHANGE]
        await exchange.authenticate()
        request[CALLER] = exchange.caller or ""
        return True

    def challenge(self) -> web.StreamResponse:
        raise UnauthorizedError


async def live(_request: web.Request) -> web.Response:
    return web.json_response({"status": "live"})


async def ready(request: web.Request) -> web.Response:
    """Answer 200 if this service's own resources are available, else 503. Other hops do not count (wire.md §6).

    `warnings` lists files whose previous content stays in force because they have a fault, and `Service.warnings`.
    """
    service = request.app[SERVICE]
    missing = await service.missing()
    warnings = [*service.files.warnings, *service.warnings.values()]
    content: dict[str, object] = (
        {"status": "not ready", "missing": missing} if missing else {"status": "ready"}
    )
    return web.json_response(
        {**content, "warnings": warnings} if warnings else content,
        status=503 if missing else 200,
        headers={"Retry-After": "1"} if missing else None,
    )


async def metrics(request: web.Request) -> web.Response:
    service = request.app[SERVICE]
    await service.measurements.take()
    return web.Response(
        body=generate_latest(service.metrics.registry), headers={hdrs.CONTENT_TYPE: CONTENT_TYPE_LATEST}
    )


async def configuration_in_force(request: web.Request) -> web.Response:
    """Return the settings and the configuration files in force. Raises ForbiddenError if the caller is no operator."""
    service = request.app[SERVICE]
    service.require_operator(request[CALLER])
    content = {
        "service": service.name,
        "version": version("dfsp-quoting"),
        "settings": configuration.describe(service.settings),
        "tables": [table().as_json() for table in service.tables],
    }
    return web.Response(body=orjson.dumps(content), content_type="application/json")
