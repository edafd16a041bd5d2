"""Settings of the console."""

import environ

from chassis.settings import Secret, Settings, whole
from console.service_list import WatchedService, watched_services


@environ.config(prefix="QUOTES", frozen=True)
class ConsoleSettings(Settings):
    """Settings of the console."""

    port: int = environ.var(8019, converter=whole(0, 65_535), help="port to listen on")
    database_url: Secret = environ.var(
        converter=Secret, help="URL of the Postgres that stores what the console keeps"
    )
    database_connections: int = environ.var(
        16, converter=whole(2, 1_000), help="maximum number of connections to Postgres"
    )
    console_services: tuple[WatchedService, ...] = environ.var(
        converter=watched_services,
        help="services to watch, such as dfsp-api=http://127.0.0.1:8015, separated by commas, in the order of the chain",
    )
    service_user: str = environ.var("console", help="user name with which the console calls the services")
    service_password: Secret = environ.var(
        converter=Secret, help="password with which the console calls the services"
    )
