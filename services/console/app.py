"""console: pages for the people who operate the services."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from importlib.resources import files
from typing import Any, Final

from aiohttp import web

from chassis.app import EXCHANGE, SERVICE
from chassis.app import create_app as create_service
from chassis.auth import CALLER, without_credentials
from chassis.csrf import own_pages_only
from chassis.database import Database
from chassis.errors import cause_of
from chassis.migrations import Migrations
from chassis.page.form_tokens import FormTokens
from chassis.page.pages import Handler, PageOptions, Pages, sign_out, with_error_pages
from chassis.periodic import periodically
from console.collectors.fleet import Fleet
from console.collectors.own_database import OwnDatabase
from console.collectors.service_client import ServiceClient
from console.formats import FILTERS
from console.live_stream import PATH, LiveStream
from console.openapi import openapi
from console.settings import ConsoleSettings
from console.traces.log_search import LogSearch
from console.traces.receiver import PATH as TRACES_PATH
from console.traces.receiver import TraceReceiver
from console.traces.span_repository import SpanRepository
from console.traces.timelines import Timelines
from console.view import Console
from console.views import VIEWS

NAME: Final = "console"
MIGRATIONS: Final = Migrations("console", files("console") / "migrations", schema="console")
PREPARE_SECONDS: Final = 2.0
PREPARE_POLL_SECONDS: Final = 0.05
RETENTION_SECONDS: Final = 10.0
FAILED_LOOK_SECONDS: Final = 1.0
CONSOLE: Final = web.AppKey("console", Console)


def create_app(settings: ConsoleSettings) -> web.Application:
    # a new key at each start, so a form that was loaded before a restart must be loaded again
    pages = Pages(_page_options(), FormTokens(NAME, [secrets.token_urlsafe(32)]))
    app = create_service(
        NAME, settings, middlewares=[_unmeasured, pages.middleware, own_pages_only], openapi=openapi(NAME)
    )
    service = app[SERVICE]
    database = Database(settings.database_url, settings.database_connections, MIGRATIONS)
    client = ServiceClient(
        settings.console_services, service.tls, settings.service_user, settings.service_password
    )
    spans = SpanRepository(database, settings.traces_keep_seconds, settings.traces_max_rows)
    receiver = TraceReceiver(spans, settings.traces_from)
    app[CONSOLE] = console = Console(
        settings,
        service,
        pages,
        database,
        Fleet(client, OwnDatabase(database), settings.log_file and settings.log_file.parent),
        Timelines(spans, None if settings.log_folder is None else LogSearch(settings.log_folder)),
    )
    views = [make(console) for make in VIEWS]
    pages.templates.globals["views"] = views
    pages.templates.globals["links"] = [view.path for view in views]
    pages.templates.filters.update(FILTERS)
    for view in views:
        app.add_routes(with_error_pages(pages, view.routes))
    stream = LiveStream(console.fleet).stream
    app.add_routes(with_error_pages(pages, [web.get("/sign-out", sign_out), web.get(PATH, stream)]))
    app.add_routes(pages.files())
    app.router.add_post(TRACES_PATH, without_credentials(_receive(receiver)))
    app.cleanup_ctx.append(_running(console, receiver))
    return app


@web.middleware
async def _unmeasured(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Keep the time of a response from admission: a page waits for the services, which may hang, and a stream is endless."""
    request[EXCHANGE].is_measured = False
    return await handler(request)


def _page_options() -> PageOptions:
    def context(request: web.Request) -> dict[str, Any]:
        is_operator = request.app[SERVICE].is_operator(request[CALLER])
        return {"here": request.path, "is_operator": is_operator, "now": time.time()}

    return PageOptions(
        NAME,
        home="The first page",
        sign_in="Sign in with your name and password. Load the page again, and your browser asks for both.",
        context=context,
    )


def _receive(receiver: TraceReceiver) -> Handler:
    """Return the handler of exports of spans; the receiver checks credentials where they are needed."""

    async def receive(request: web.Request) -> web.StreamResponse:
        return await receiver.handle(request)

    return receive


def _running(console: Console, receiver: TraceReceiver) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(_app: web.Application) -> AsyncIterator[None]:
        logs = console.service.logs
        console.fleet.client.open()
        await console.database.open(lambda cause: logs.error("the console's database is away", cause=cause))
        looking = asyncio.create_task(_look(console))
        spans = console.timelines.spans
        async with periodically("retention of spans", RETENTION_SECONDS, spans.delete_old, logs.error):
            yield
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        await receiver.close()
        await console.fleet.client.close()
        await console.database.close()

    return run


async def _look(console: Console) -> None:
    """Look at the services. The first look waits a moment for the migrations of the console's own Postgres."""
    log = console.service.logs.error
    with suppress(TimeoutError):
        async with asyncio.timeout(PREPARE_SECONDS):
            while await console.database.missing():
                await asyncio.sleep(PREPARE_POLL_SECONDS)
    while True:
        try:
            await console.fleet.run()
        except Exception as error:  # noqa: BLE001 - one service's figures must not end the looks at all others
            log("a look at the services has failed", cause=cause_of(error))
            await asyncio.sleep(FAILED_LOOK_SECONDS)
