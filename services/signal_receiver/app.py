"""signal-receiver: creates the application with its settings and routes."""

from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Final

import environ
from aiohttp import web

from chassis.addresses import is_loopback
from chassis.app import SERVICE, add_routes
from chassis.app import create_app as create_service
from chassis.csrf import own_pages_only
from chassis.database import Connection, Database
from chassis.exchange import Routes
from chassis.measurements import seldom
from chassis.periodic import periodically
from chassis.postgres_session import PLAN_ONCE
from chassis.run import StartError
from chassis.settings import Secret, Settings, number, optional_path, whole
from chassis.watched_files import WatchedFile
from signal_receiver import event_repository, trading_metrics
from signal_receiver.account_repository import AccountRepository
from signal_receiver.accounts_file import AccountsFile
from signal_receiver.api import AccountApi
from signal_receiver.event_errors import BY_TYPE
from signal_receiver.event_repository import MIGRATIONS
from signal_receiver.executor import EventExecutor
from signal_receiver.instruments import InstrumentsFile
from signal_receiver.instruments import read as read_instruments
from signal_receiver.openapi import openapi
from signal_receiver.trading_metrics import TradingMetrics
from signal_receiver.webhook import WebhookRoute

NAME: Final = "signal-receiver"
STATEMENTS: Final = {**event_repository.STATEMENTS, **trading_metrics.STATEMENTS}
SAMPLE_INSTRUMENTS: Final = Path(str(files("signal_receiver") / "sample_instruments.toml"))


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
        60.0, converter=number(0.05, 86_400), help="seconds between two deletions of expired inbox entries"
    )


def create_app(settings: ReceiverSettings) -> web.Application:
    """Create the application. Raises StartError if the file of accounts or of instruments is not valid."""
    app = create_service(
        NAME, settings, middlewares=[own_pages_only], shown_path=shown_path, openapi=openapi(NAME)
    )
    sample_allowed = is_loopback(settings.host) or settings.allow_sample_credentials
    instruments_file = WatchedFile("the instruments file", settings.instruments)
    accounts_file = WatchedFile("the accounts file", settings.accounts_file)
    try:
        instruments = InstrumentsFile(settings.instruments)
        accounts = (
            AccountsFile(settings.accounts_file, sample_allowed=sample_allowed)
            if settings.accounts_file
            else None
        )
    except ValueError as error:
        raise StartError(str(error)) from error

    async def seed(connection: Connection) -> None:
        if accounts is not None:
            await repository.store_accounts(connection, accounts.accounts)
        await repository.store_first_prices(connection, instruments.catalogue)

    database = Database(
        settings.database_url,
        settings.database_connections,
        MIGRATIONS,
        seed=seed,
        settings=PLAN_ONCE,
        statements=STATEMENTS,
    )
    repository = AccountRepository(database)
    executor = EventExecutor(database, instruments)
    app.cleanup_ctx.append(_running(database, repository, executor, settings.inbox_sweep_seconds))
    app[SERVICE].add_database(database)
    trading = TradingMetrics(database, instruments)
    app[SERVICE].measurements.add(seldom(trading.measure))
    app[SERVICE].metrics.registry.register(trading)
    app[SERVICE].metrics.know_errors(BY_TYPE)
    _add_routes(app, executor, AccountApi(repository, instruments, settings.price_feeder))
    if accounts is not None:
        app[SERVICE].files.add(accounts_file, partial(_reload_accounts, accounts, database, repository))
    app[SERVICE].files.add(instruments_file, partial(_reload_instruments, instruments, database, repository))
    return app


async def _reload_accounts(
    file: AccountsFile, database: Database, repository: AccountRepository
) -> Mapping[str, object]:
    """Read the accounts again and store them (`chassis.watched_files.Reload`)."""
    accounts = file.read()
    await database.transaction(lambda connection: repository.store_accounts(connection, accounts))
    file.accounts = accounts
    return {"accounts": len(accounts)}


async def _reload_instruments(
    file: InstrumentsFile, database: Database, repository: AccountRepository
) -> Mapping[str, object]:
    """Read the instruments again and store their first prices (`chassis.watched_files.Reload`)."""
    catalogue = read_instruments(file.path)
    await database.transaction(lambda connection: repository.store_first_prices(connection, catalogue))
    file.catalogue = catalogue
    return {"instruments": len(catalogue)}


def _add_routes(app: web.Application, executor: EventExecutor, api: AccountApi) -> None:
    routes = Routes()
    routes.add("POST", WebhookRoute(executor, app[SERVICE].logs, app[SERVICE].metrics.registry))
    add_routes(app, routes)
    for method, path, handler in (
        ("GET", "/v1/accounts/{id}/positions", api.positions),
        ("GET", "/v1/accounts/{id}/trades", api.trades),
        ("PUT", "/v1/accounts/{id}/webhook-secret", api.set_webhook_secret),
        ("PUT", "/v1/prices/{ticker}", api.set_price),
    ):
        app.router.add_route(method, path, handler)


def shown_path(path: str, pattern: str | None) -> str:
    """Return the path to write into log lines. For a path outside the API it is only the route's pattern.

    Such a path may contain the secret token of an account.
    """
    return path if path.startswith("/v1/") else pattern or "***"


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
