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
from prometheus_client import CollectorRegistry

from chassis.app import SERVICE, accept_any_expectation
from chassis.app import create_app as create_service
from chassis.csrf import own_pages_only
from chassis.database import Database
from chassis.errors import QuotingError
from chassis.logs import Logs
from chassis.settings import Secret, Settings, number, optional_path, whole, yes_or_no
from integrations import encryption
from integrations.api.handlers import EngineApi, PartnerApi, UserApi
from integrations.api.openapi import openapi
from integrations.api.rate_limit import RateLimit
from integrations.delivery.circuit_breaker import CircuitBreaker
from integrations.delivery.dispatcher import Dispatcher
from integrations.delivery.endpoint_cache import EndpointCache
from integrations.delivery.metrics import DeliveryMetrics
from integrations.delivery.outbox import READY
from integrations.delivery.pg_notify import PgNotifyListener
from integrations.delivery.queue import MIGRATIONS, LaneQueue
from integrations.encryption import Encryption
from integrations.notification_texts import CHANNEL, TOLD
from integrations.notifications import NotificationFeed
from integrations.operations import Operations
from integrations.page import views
from integrations.page.form_tokens import FormTokens
from integrations.retention import sweep
from integrations.signals import SignalPublisher
from integrations.webhook import ssrf_guard
from integrations.webhook.client import WebhookClient
from integrations.webhook.ssrf_guard import SsrfGuard

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
        converter=encryption.keys,
        help="Fernet keys for header values and secrets, separated by commas; the first encrypts, all decrypt",
    )
    engine: str = environ.var("engine", help="user who gives strategies and their signals")
    allow_http: bool = environ.var(
        default=False, converter=yes_or_no, help="webhooks may be http, not https alone"
    )
    allow_networks: tuple[ssrf_guard.Network, ...] = environ.var(
        (),
        converter=ssrf_guard.networks,
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
NOTIFICATIONS: Final = web.AppKey("notifications", NotificationFeed)
DISPATCHER: Final = web.AppKey("deliverer", Dispatcher)
WEBHOOK_CLIENT: Final = web.AppKey("sender", WebhookClient)


def create_app(settings: IntegrationsSettings) -> web.Application:
    app = create_service(NAME, settings, middlewares=[views.guarded, own_pages_only], openapi=openapi(NAME))
    service = app[SERVICE]
    database = Database(settings.database_url, settings.database_connections, MIGRATIONS)
    service.checks.append(database.missing)
    vault_ = Encryption(settings.encryption_keys)
    guard_ = SsrfGuard(settings.allow_networks, http=settings.allow_http)
    app[WEBHOOK_CLIENT] = WebhookClient(guard_, settings.webhook_ca)
    app[DISPATCHER] = deliverer = _deliverer(
        settings, database, vault_, app[WEBHOOK_CLIENT], service.logs, service.metrics.registry
    )
    service.checks.append(deliverer.missing)
    app[OPERATIONS] = Operations(database, vault_, guard_, deliverer)
    app[NOTIFICATIONS] = NotificationFeed(database)
    _add_routes(app, settings, SignalPublisher(database, deliverer))
    app.add_routes(views.routes(app[OPERATIONS], app[NOTIFICATIONS], FormTokens(settings.encryption_keys)))
    app.cleanup_ctx.append(_running(settings, database))
    return app


def _deliverer(
    settings: IntegrationsSettings,
    database: Database,
    vault_: Encryption,
    sender: WebhookClient,
    logs: Logs,
    registry: CollectorRegistry,
) -> Dispatcher:
    def on_pause(id_: UUID) -> None:
        deliverer.changed(id_)
        deliverer.wake()

    deliverer = Dispatcher(
        LaneQueue(database),
        sender,
        EndpointCache(database, vault_, logs.error),
        CircuitBreaker(database, logs.error, on_pause),
        logs,
        DeliveryMetrics(registry),
        settings.deliveries_at_once,
    )
    return deliverer


def _add_routes(app: web.Application, settings: IntegrationsSettings, signals: SignalPublisher) -> None:
    operations = app[OPERATIONS]
    partners = PartnerApi(
        operations, RateLimit(settings.requests_per_address), RateLimit(settings.requests_per_email)
    )
    engine = EngineApi(signals, settings.engine)
    users = UserApi(operations, app[NOTIFICATIONS])
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
        logs = app[SERVICE].logs
        deliverer, notifications = app[DISPATCHER], app[NOTIFICATIONS]
        await database.open(lambda cause: logs.error("database", cause=cause))
        app[WEBHOOK_CLIENT].open()
        listener = PgNotifyListener(
            settings.database_url, CHANNEL, _heard(deliverer, notifications), _gap(deliverer, notifications)
        )
        listener.open()
        deliverer.open()
        sweeping = asyncio.create_task(_keep_swept(settings, database, logs.error))
        yield
        sweeping.cancel()
        await deliverer.close()
        await listener.close()
        await app[WEBHOOK_CLIENT].close()
        await database.close()

    return run


def _heard(deliverer: Dispatcher, notifications: NotificationFeed) -> Callable[[str], None]:
    def heard(word: str) -> None:
        if word == TOLD:
            notifications.pulse()
        elif word == READY:
            deliverer.wake()
        else:
            deliverer.changed(UUID(word))
            deliverer.wake()

    return heard


def _gap(deliverer: Dispatcher, notifications: NotificationFeed) -> Callable[[], None]:
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
