"""integrations: packages events of strategies and delivers them to the integrations users have turned on.

The provider's side of ProQuant's integration guide.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import environ
from aiohttp import web

from chassis.app import SERVICE, accept_any_expectation
from chassis.app import create_app as create_service
from chassis.csrf import own_pages_only
from chassis.database import Database
from chassis.errors import QuotingError
from chassis.settings import Secret, Settings, number, optional_path, whole, yes_or_no
from chassis.telemetry import Telemetry
from integrations import guard, page, vault
from integrations.api import Engine, Partners, Users
from integrations.delivery import Deliverer
from integrations.destinations import Destinations
from integrations.documents import openapi
from integrations.guard import Guard
from integrations.health import Health
from integrations.lanes import LOCK, MIGRATIONS, Lanes
from integrations.limits import Limit
from integrations.listening import Listener
from integrations.metrics import Metrics
from integrations.notices import CHANNEL, TOLD
from integrations.notifications import Notifications
from integrations.operations import Operations
from integrations.outbox import READY
from integrations.retention import sweep
from integrations.sender import Sender
from integrations.signals import Signals
from integrations.tokens import Tokens
from integrations.vault import Vault

NAME: Final = "integrations"
RETENTION_SECONDS: Final = 60.0


@environ.config(prefix="QUOTES", frozen=True)
class IntegrationsSettings(Settings):
    """Keys, the database, the engine's name, and where webhooks may be."""

    port: int = environ.var(8017, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(
        converter=Secret, help="the Postgres that keeps integrations and their events"
    )
    database_connections: int = environ.var(
        16, converter=whole(2, 1_000), help="connections to Postgres at most"
    )
    encryption_keys: tuple[Secret, ...] = environ.var(
        converter=vault.keys,
        help="Fernet keys for header values and secrets, separated by commas; the first encrypts, all decrypt",
    )
    engine: str = environ.var("engine", help="user who gives strategies and their signals")
    allow_http: bool = environ.var(
        default=False, converter=yes_or_no, help="webhooks may be http, not https alone"
    )
    allow_networks: tuple[guard.Network, ...] = environ.var(
        (),
        converter=guard.networks,
        help="networks, such as 127.0.0.0/8, that webhooks may be in although they are not public",
    )
    webhook_ca: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of the CAs of webhooks, else the system's"
    )
    deliveries_at_once: int = environ.var(
        512,
        converter=whole(0, 10_000),
        help="lanes this process works on at once; with 0 it delivers nothing",
    )
    requests_per_address: int = environ.var(
        60, converter=whole(1, 1_000_000), help="integration requests a minute from one address"
    )
    requests_per_email: int = environ.var(
        10, converter=whole(1, 1_000_000), help="integration requests a minute for one userEmail"
    )
    retention_days: float = environ.var(
        30.0,
        converter=number(1, 36_500),
        help="after how long events, notifications and refused requests are forgotten",
    )


OPERATIONS: Final = web.AppKey("operations", Operations)
NOTIFICATIONS: Final = web.AppKey("notifications", Notifications)
DELIVERER: Final = web.AppKey("deliverer", Deliverer)
SENDER: Final = web.AppKey("sender", Sender)


def create_app(settings: IntegrationsSettings) -> web.Application:
    app = create_service(NAME, settings, middlewares=[page.guarded, own_pages_only], openapi=openapi(NAME))
    service = app[SERVICE]
    database = Database(settings.database_url, settings.database_connections, MIGRATIONS, LOCK)
    service.checks.append(database.missing)
    vault_ = Vault(settings.encryption_keys)
    guard_ = Guard(settings.allow_networks, http=settings.allow_http)
    app[SENDER] = Sender(guard_, settings.webhook_ca)
    app[DELIVERER] = deliverer = _deliverer(settings, database, vault_, app[SENDER], service.telemetry)
    service.checks.append(deliverer.missing)
    app[OPERATIONS] = Operations(database, vault_, guard_, deliverer)
    app[NOTIFICATIONS] = Notifications(database)
    _add_routes(app, settings, Signals(database, deliverer))
    app.add_routes(page.routes(app[OPERATIONS], app[NOTIFICATIONS], Tokens(settings.encryption_keys)))
    app.cleanup_ctx.append(_running(settings, database))
    return app


def _deliverer(
    settings: IntegrationsSettings, database: Database, vault_: Vault, sender: Sender, telemetry: Telemetry
) -> Deliverer:
    def on_pause(id_: UUID) -> None:
        deliverer.changed(id_)
        deliverer.wake()

    deliverer = Deliverer(
        Lanes(database),
        sender,
        Destinations(database, vault_, telemetry.log.error),
        Health(database, telemetry.log.error, on_pause),
        telemetry,
        Metrics(telemetry.registry),
        settings.deliveries_at_once,
    )
    return deliverer


def _add_routes(app: web.Application, settings: IntegrationsSettings, signals: Signals) -> None:
    operations = app[OPERATIONS]
    partners = Partners(operations, Limit(settings.requests_per_address), Limit(settings.requests_per_email))
    engine = Engine(signals, settings.engine)
    users = Users(operations, app[NOTIFICATIONS])
    mine, one = "/v1/me", "/v1/me/integrations/{id}"
    switch = f"{mine}/strategies/{{strategyId}}/integrations/{{id}}"
    for method, path, handler in (
        ("POST", "/api/integrations/v1/integrations", partners.open_to_all()),
        ("PUT", "/v1/strategies/{strategyId}", engine.put_strategy),
        ("POST", "/v1/strategies/{strategyId}/signals", engine.send),
        ("GET", f"{mine}/integrations", users.integrations),
        ("GET", f"{mine}/strategies", users.strategies),
        ("GET", f"{mine}/notifications", users.notifications),
        ("DELETE", one, users.delete),
        ("POST", f"{one}/approve", users.approve),
        ("POST", f"{one}/reject", users.reject),
        ("POST", f"{one}/resume", users.resume),
        ("POST", f"{one}/secret", users.rotate_secret),
        ("GET", f"{one}/deliveries", users.deliveries),
        ("POST", f"{one}/deliveries/{{eventId}}/replay", users.replay),
        ("PUT", switch, users.enable),
        ("DELETE", switch, users.disable),
    ):
        app.router.add_route(method, path, handler, expect_handler=accept_any_expectation)


def _running(
    settings: IntegrationsSettings, database: Database
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        log = app[SERVICE].telemetry.log
        deliverer, notifications = app[DELIVERER], app[NOTIFICATIONS]
        await database.open(lambda cause: log.error("database", cause=cause))
        app[SENDER].open()
        listener = Listener(
            settings.database_url, CHANNEL, _heard(deliverer, notifications), _gap(deliverer, notifications)
        )
        listener.open()
        deliverer.open()
        sweeping = asyncio.create_task(_keep_swept(settings, database, log.error))
        yield
        sweeping.cancel()
        await deliverer.close()
        await listener.close()
        await app[SENDER].close()
        await database.close()

    return run


def _heard(deliverer: Deliverer, notifications: Notifications) -> Callable[[str], None]:
    def heard(word: str) -> None:
        if word == TOLD:
            notifications.pulse()
        elif word == READY:
            deliverer.wake()
        else:
            deliverer.changed(UUID(word))
            deliverer.wake()

    return heard


def _gap(deliverer: Deliverer, notifications: Notifications) -> Callable[[], None]:
    def gap() -> None:
        deliverer.changed()
        deliverer.wake()
        notifications.pulse()

    return gap


async def _keep_swept(
    settings: IntegrationsSettings, database: Database, on_fault: Callable[..., object]
) -> None:
    """Retention, for as long as the service runs: small batches, one after the other."""
    while True:
        await asyncio.sleep(RETENTION_SECONDS)
        try:
            while await sweep(database, settings.retention_days):
                await asyncio.sleep(0.01)
        except (QuotingError, asyncpg.PostgresError) as error:
            on_fault("retention", cause=str(getattr(error, "cause", None) or error))
