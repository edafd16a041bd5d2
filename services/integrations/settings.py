"""Settings of the service."""

from pathlib import Path

import environ

from chassis.settings import Secret, Settings, number, optional_path, whole, yes_or_no
from integrations.encryption import encryption_keys
from integrations.webhook.ssrf_guard import Network, networks


@environ.config(prefix="QUOTES", frozen=True)
class IntegrationsSettings(Settings):
    """Settings of integrations."""

    port: int = environ.var(8017, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(
        converter=Secret, help="URL of the Postgres that stores integrations and their events"
    )
    database_connections: int = environ.var(
        16, converter=whole(2, 1_000), help="maximum number of connections to Postgres"
    )
    encryption_keys: tuple[Secret, ...] = environ.var(
        converter=encryption_keys,
        help="Fernet keys for header values and secrets, separated by commas; the first encrypts, all decrypt",
    )
    engine: str = environ.var(
        "engine", help="user name of the strategy engine, which sends strategies and their signals"
    )
    allow_http: bool = environ.var(
        default=False, converter=yes_or_no, help="allow http URLs of webhooks as well as https"
    )
    allow_networks: tuple[Network, ...] = environ.var(
        (),
        converter=networks,
        help="networks that are not public but may have webhooks, such as 127.0.0.0/8",
    )
    webhook_ca: Path | None = environ.var(
        None,
        converter=optional_path,
        help="PEM file of the CAs that sign webhooks' certificates; without it the system's CAs",
    )
    deliveries_at_once: int = environ.var(
        512,
        converter=whole(0, 10_000),
        help="maximum number of lanes in progress in this process; with 0 it delivers nothing",
    )
    requests_per_address: int = environ.var(
        60,
        converter=whole(1, 1_000_000),
        help="maximum number of integration requests per minute from one address",
    )
    requests_per_email: int = environ.var(
        10,
        converter=whole(1, 1_000_000),
        help="maximum number of integration requests per minute for one userEmail",
    )
    replays_per_minute: int = environ.var(
        600,
        converter=whole(1, 1_000_000),
        help="maximum number of events per minute that operators send again through this process",
    )
    retention_days: float = environ.var(
        30.0,
        converter=number(1, 36_500),
        help="days after which events, notifications and rejected requests are deleted",
    )
