"""signal-receiver: settings, and the application with its routes."""

from collections.abc import AsyncIterator, Callable
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

import environ
from aiohttp import web

from chassis.app import SERVICE, accept_any_expectation
from chassis.app import create_app as create_service
from chassis.auth import is_loopback
from chassis.csrf import own_pages_only
from chassis.database import Connection, Database
from chassis.intake import Routes, serve_routes
from chassis.periodic import periodically
from chassis.run import StartError
from chassis.settings import Secret, Settings, number, optional_path, whole
from signal_receiver import accounts_file, instruments
from signal_receiver.account_repository import AccountRepository
from signal_receiver.api import AccountApi
from signal_receiver.event_repository import MIGRATIONS, SETTINGS
from signal_receiver.executor import EventExecutor
from signal_receiver.openapi import openapi
from signal_receiver.webhook import WebhookRoute

NAME: Final = "signal-receiver"
SAMPLE_INSTRUMENTS: Final = Path(str(files("signal_receiver") / "sample_instruments.toml"))

T = TypeVar("T")


@environ.config(prefix="QUOTES", frozen=True)
class ReceiverSettings(Settings):
    """Settings of the receiver."""

    port: int = environ.var(8018, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(
        converter=Secret, help="URL of the Postgres that stores accounts and trades"
    )
    database_connections: int = environ.var(
        16, converter=whole(1, 1_000), help="maximum number of connections to Postgres"
    )
    accounts_file: Path | None = environ.var(None, converter=optional_path, help="TOML file of accounts")
    instruments: Path = environ.var(SAMPLE_INSTRUMENTS, converter=Path, help="TOML file of instruments")
    price_feeder: str = environ.var("receiver", help="user who may set prices")
    inbox_sweep_seconds: float = environ.var(
        60.0, converter=number(0.05, 86_400), help="how often expired inbox entries are deleted"
    )


def create_app(settings: ReceiverSettings) -> web.Application:
    """Raises StartError if the accounts or the instruments are refused."""
    app = create_service(
        NAME, settings, middlewares=[own_pages_only], shown_path=shown_path, openapi=openapi(NAME)
    )
    catalogue = _parsed(settings.instruments, instruments.parse)
    sample_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    accounts = (
        _parsed(settings.accounts_file, lambda text: accounts_file.parse(text, sample_allowed=sample_allowed))
        if settings.accounts_file
        else ()
    )

    async def seed(connection: Connection) -> None:
        await repository.store_accounts(connection, accounts)
        await repository.store_first_prices(connection, catalogue)

    database = Database(
        settings.database_url,
        settings.database_connections,
        MIGRATIONS,
        seed=seed,
        settings=SETTINGS,
    )
    repository = AccountRepository(database)
    executor = EventExecutor(database, catalogue)
    app.cleanup_ctx.append(_running(database, repository, executor, settings.inbox_sweep_seconds))
    app[SERVICE].checks.append(database.missing)
    _add_routes(app, executor, AccountApi(repository, catalogue, settings.price_feeder))
    return app


def _add_routes(app: web.Application, executor: EventExecutor, api: AccountApi) -> None:
    routes = Routes()
    routes.add("POST", WebhookRoute(executor, app[SERVICE].logs, app[SERVICE].metrics.registry))
    serve_routes(app, routes)
    for method, path, handler in (
        ("GET", "/v1/accounts/{id}/positions", api.positions),
        ("GET", "/v1/accounts/{id}/trades", api.trades),
        ("PUT", "/v1/accounts/{id}/webhook-secret", api.set_webhook_secret),
        ("PUT", "/v1/prices/{ticker}", api.set_price),
    ):
        app.router.add_route(method, path, handler, expect_handler=accept_any_expectation)


def shown_path(path: str, pattern: str | None) -> str:
    """Return the path for log lines. A path outside the API may contain an account token, so its pattern is shown."""
    return path if path.startswith("/v1/") else pattern or "***"


def _parsed(file: Path, parse: Callable[[str], T]) -> T:
    """Return the content of a file. Raises StartError that names it."""
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StartError(f"{file}: {error}") from error


def _running(
    database: Database, repository: AccountRepository, executor: EventExecutor, sweep_seconds: float
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def running(app: web.Application) -> AsyncIterator[None]:
        logs = app[SERVICE].logs
        await database.open(lambda cause: logs.error("the database is unavailable", cause=cause))
        async with periodically(
            "deleting expired inbox entries failed", sweep_seconds, repository.delete_expired, logs.error
        ):
            yield
        await executor.close()
        await database.close()

    return running
