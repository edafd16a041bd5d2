"""signal-receiver: a webhook that trades on paper what strategies signal (guide; design, "Receiver")."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

import asyncpg
import environ
from aiohttp import web

from chassis.app import SERVICE, accept_any_expectation
from chassis.app import create_app as create_service
from chassis.auth import is_loopback
from chassis.csrf import own_pages_only
from chassis.database import Connection, Database
from chassis.errors import QuotingError
from chassis.intake import Routes, serve_routes
from chassis.run import StartError
from chassis.settings import Secret, Settings, number, optional_path, whole
from signal_receiver import accounts, instruments
from signal_receiver.desk import Desk
from signal_receiver.documents import openapi
from signal_receiver.repository import MIGRATIONS, SETTINGS
from signal_receiver.store import Store
from signal_receiver.views import Views
from signal_receiver.webhook import Webhook

NAME: Final = "signal-receiver"
SAMPLE_INSTRUMENTS: Final = Path(str(files("signal_receiver") / "sample_instruments.toml"))

T = TypeVar("T")


@environ.config(prefix="QUOTES", frozen=True)
class ReceiverSettings(Settings):
    """Accounts, instruments, and the database that keeps what has been traded."""

    port: int = environ.var(8018, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(converter=Secret, help="the Postgres that keeps accounts and trades")
    database_connections: int = environ.var(
        16, converter=whole(1, 1_000), help="connections to Postgres at most"
    )
    accounts_file: Path | None = environ.var(
        None, converter=optional_path, help="TOML file of accounts to begin with"
    )
    instruments: Path = environ.var(SAMPLE_INSTRUMENTS, converter=Path, help="TOML file of instruments")
    price_feeder: str = environ.var("receiver", help="user who may tell prices")
    inbox_sweep_seconds: float = environ.var(
        60.0, converter=number(0.05, 86_400), help="how often answers are cleared away that are not kept"
    )


def create_app(settings: ReceiverSettings) -> web.Application:
    """Raises StartError where the accounts or the instruments are refused."""
    app = create_service(
        NAME, settings, middlewares=[own_pages_only], shown_path=shown_path, openapi=openapi(NAME)
    )
    catalogue = _parsed(settings.instruments, instruments.parse)
    samples_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    known = (
        _parsed(settings.accounts_file, lambda text: accounts.parse(text, samples_allowed=samples_allowed))
        if settings.accounts_file
        else ()
    )

    async def seed(connection: Connection) -> None:
        await accounts.seed(connection, known)
        await store.seed_prices(connection, catalogue)

    database = Database(
        settings.database_url,
        settings.database_connections,
        MIGRATIONS,
        seed=seed,
        settings=SETTINGS,
    )
    store = Store(database)
    app.cleanup_ctx.append(_running(database, store, settings.inbox_sweep_seconds))
    app[SERVICE].checks.append(database.missing)
    desk = Desk(database, catalogue)
    _add_routes(app, desk, Views(store, catalogue, settings.price_feeder))
    return app


def _add_routes(app: web.Application, desk: Desk, views: Views) -> None:
    routes = Routes()
    routes.add("POST", Webhook(desk, app[SERVICE].logs, app[SERVICE].metrics.registry))
    serve_routes(app, routes)
    for method, path, handler in (
        ("GET", "/v1/accounts/{id}/positions", views.positions),
        ("GET", "/v1/accounts/{id}/trades", views.trades),
        ("PUT", "/v1/accounts/{id}/webhook-secret", views.set_webhook_secret),
        ("PUT", "/v1/prices/{ticker}", views.set_price),
    ):
        app.router.add_route(method, path, handler, expect_handler=accept_any_expectation)


def shown_path(path: str, pattern: str | None) -> str:
    """What a log may show: paths of the API hold no token, and nobody knows what others were meant to be."""
    return path if path.startswith("/v1/") else pattern or "***"


def _parsed(file: Path, parse: Callable[[str], T]) -> T:
    """What a file says. Raises StartError that names it."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"{file}: {error}") from error


def _running(
    database: Database, store: Store, every_seconds: float
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(app: web.Application) -> AsyncIterator[None]:
        logs = app[SERVICE].logs
        await database.open(lambda cause: logs.error("the database is away", cause=cause))
        sweeping = asyncio.create_task(_keep_swept(store.sweep, every_seconds, logs.error))
        yield
        sweeping.cancel()
        await asyncio.wait([sweeping])
        await database.close()

    return running


async def _keep_swept(
    sweep: Callable[[], Awaitable[bool]], every_seconds: float, on_fault: Callable[..., object]
) -> None:
    """For as long as the service runs: small batches, one after the other."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            while await sweep():
                await asyncio.sleep(0.01)
        except (QuotingError, asyncpg.PostgresError) as error:
            on_fault("sweeping the inbox", cause=str(getattr(error, "cause", None) or error))
