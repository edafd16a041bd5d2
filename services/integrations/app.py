"""integrations: the service of the provider (docs/integration-guide.md).

Partners request integrations. Users approve them and enable them for strategies. The service then sends the signals of
these strategies to the partners' webhooks.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final
from uuid import UUID

from aiohttp import web

from chassis.app import SERVICE
from chassis.app import create_app as create_service
from chassis.csrf import own_pages_only
from chassis.database import Database
from chassis.measurements import seldom
from chassis.periodic import periodically
from chassis.service import Service
from chassis.watched_files import WatchedFile
from integrations import operator_repository, signal_repository
from integrations.api.handlers import EngineApi, PartnerApi, UserApi
from integrations.api.openapi import openapi
from integrations.api.operator_handlers import OperatorApi
from integrations.api.rate_limit import RateLimit
from integrations.delivery import metrics, queue
from integrations.delivery.circuit_breaker import CircuitBreaker
from integrations.delivery.dispatcher import Dispatcher
from integrations.delivery.endpoint_cache import EndpointCache
from integrations.delivery.metrics import BacklogMetrics, DeliveryMetrics
from integrations.delivery.outbox import WORK_READY
from integrations.delivery.pg_notify import PgNotifyListener
from integrations.delivery.process_identity import this_process
from integrations.delivery.queue import MIGRATIONS, LaneQueue
from integrations.encryption import Encryption
from integrations.notifications import CHANNEL, NOTIFICATIONS_STORED, NotificationFeed
from integrations.operations import Operations
from integrations.operator_operations import OperatorOperations
from integrations.page import views
from integrations.replays import ReplayLimit
from integrations.retention import EVERY_SECONDS, delete_old
from integrations.settings import IntegrationsSettings
from integrations.signals import SignalPublisher
from integrations.webhook.client import WebhookClient
from integrations.webhook.ssrf_guard import SsrfGuard

NAME: Final = "integrations"
STATEMENTS: Final = {
    **metrics.STATEMENTS,
    **queue.STATEMENTS,
    **signal_repository.STATEMENTS,
    **operator_repository.STATEMENTS,
}

OPERATIONS: Final = web.AppKey("operations", Operations)
SIGNALS: Final = web.AppKey("signals", SignalPublisher)
NOTIFICATIONS: Final = web.AppKey("notifications", NotificationFeed)
DISPATCHER: Final = web.AppKey("dispatcher", Dispatcher)
WEBHOOK_CLIENT: Final = web.AppKey("webhook_client", WebhookClient)


def create_app(settings: IntegrationsSettings) -> web.Application:
    pages = views.create_pages(settings.encryption_keys)
    app = create_service(
        NAME, settings, middlewares=[pages.middleware, own_pages_only], openapi=openapi(NAME)
    )
    service = app[SERVICE]
    database = Database(
        settings.database_url, settings.database_connections, MIGRATIONS, statements=STATEMENTS
    )
    encryption = Encryption(settings.encryption_keys)
    guard = SsrfGuard(settings.allow_networks, http=settings.allow_http)
    ca_file = WatchedFile("the file of webhook CAs", settings.webhook_ca)
    app[WEBHOOK_CLIENT] = WebhookClient(guard, settings.webhook_ca)
    app[DISPATCHER] = dispatcher = _dispatcher(settings, database, encryption, app[WEBHOOK_CLIENT], service)
    service.add_database(database)
    service.checks.append(dispatcher.missing)
    backlog = BacklogMetrics(database)
    service.measurements.add(seldom(backlog.measure))
    service.metrics.registry.register(backlog)
    app[OPERATIONS] = Operations(database, encryption, guard, dispatcher)
    operators = OperatorOperations(
        database,
        encryption,
        app[WEBHOOK_CLIENT],
        app[OPERATIONS],
        ReplayLimit(settings.replays_per_minute),
    )
    app[SIGNALS] = SignalPublisher(database, dispatcher)
    app[NOTIFICATIONS] = NotificationFeed(database)
    _add_api(app, settings)
    _add_operators_api(app, OperatorApi(operators))
    app.add_routes(views.routes(app[OPERATIONS], app[NOTIFICATIONS], pages))
    app.cleanup_ctx.append(_running(settings, database))
    if settings.webhook_ca is not None:
        service.files.add(ca_file, app[WEBHOOK_CLIENT].reload)
    return app


def _dispatcher(
    settings: IntegrationsSettings,
    database: Database,
    encryption: Encryption,
    client: WebhookClient,
    service: Service,
) -> Dispatcher:
    def on_pause(id_: UUID) -> None:
        dispatcher.invalidate(id_)
        dispatcher.wake()

    dispatcher = Dispatcher(
        LaneQueue(database, this_process()),
        client,
        EndpointCache(database, encryption, service.logs.error),
        CircuitBreaker(database, service.logs.error, on_pause),
        service.logs,
        DeliveryMetrics(service.metrics.registry),
        settings.deliveries_at_once,
        service.tracer,
    )
    return dispatcher


def _add_api(app: web.Application, settings: IntegrationsSettings) -> None:
    partners = PartnerApi(
        app[OPERATIONS], RateLimit(settings.requests_per_address), RateLimit(settings.requests_per_email)
    )
    engine = EngineApi(app[SIGNALS], settings.engine)
    users = UserApi(app[OPERATIONS], app[NOTIFICATIONS])
    mine, one = "/v1/me", "/v1/me/integrations/{id}"
    switch = f"{mine}/strategies/{{strategyId}}/integrations/{{id}}"
    for method, path, handler in (
        ("POST", "/api/integrations/v1/integrations", partners.without_credentials()),
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
        app.router.add_route(method, path, handler)


def _add_operators_api(app: web.Application, api: OperatorApi) -> None:
    root, one = "/v1/operations", "/v1/operations/integrations/{id}"
    for method, path, handler in (
        ("GET", f"{root}/backlog", api.backlog),
        ("GET", f"{root}/integrations", api.integrations),
        ("GET", one, api.integration),
        ("POST", f"{one}/resume", api.resume),
        ("POST", f"{one}/retry", api.retry_now),
        ("GET", f"{one}/deliveries", api.deliveries),
        ("GET", f"{one}/deliveries/{{eventId}}", api.delivery),
        ("POST", f"{one}/deliveries/{{eventId}}/replay", api.replay),
        ("GET", f"{one}/replays", api.failed),
        ("POST", f"{one}/replays", api.replay_failed),
    ):
        app.router.add_route(method, path, handler)


def _running(
    settings: IntegrationsSettings, database: Database
) -> Callable[[web.Application], AsyncIterator[None]]:
    async def run(app: web.Application) -> AsyncIterator[None]:
        logs = app[SERVICE].logs
        dispatcher, notifications = app[DISPATCHER], app[NOTIFICATIONS]
        await database.open(lambda cause: logs.error("the database is away", cause=cause))
        app[WEBHOOK_CLIENT].open()
        listener = PgNotifyListener(
            settings.database_url,
            CHANNEL,
            _on_message(dispatcher, notifications),
            _on_connected(dispatcher, notifications),
        )
        listener.open()
        dispatcher.open()

        async def delete_old_data() -> bool:
            return await delete_old(database, settings.retention_days)

        async with periodically("retention", EVERY_SECONDS, delete_old_data, logs.error):
            yield
        await app[SIGNALS].close()
        await dispatcher.close()
        await listener.close()
        await app[WEBHOOK_CLIENT].close()
        await database.close()

    return run


def _on_message(dispatcher: Dispatcher, notifications: NotificationFeed) -> Callable[[str], None]:
    def on_message(message: str) -> None:
        if message == NOTIFICATIONS_STORED:
            notifications.wake()
        elif message == WORK_READY:
            dispatcher.wake()
        else:
            dispatcher.invalidate(UUID(message))
            dispatcher.wake()

    return on_message


def _on_connected(dispatcher: Dispatcher, notifications: NotificationFeed) -> Callable[[], None]:
    def on_connected() -> None:
        dispatcher.invalidate()
        dispatcher.wake()
        notifications.wake()

    return on_connected
