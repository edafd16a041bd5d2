"""Settings of the console."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import urlsplit

import environ

from chassis.settings import Secret, Settings, number, optional_path, whole
from console.service_list import WatchedService, watched_services

Network: TypeAlias = IPv4Network | IPv6Network

LOOPBACK: Final = "127.0.0.0/8,::1/128"
TRACE_ID: Final = "{trace_id}"
L1P_TRACE_ID: Final = "{l1p_trace_id}"


def networks(value: str | tuple[Network, ...]) -> tuple[Network, ...]:
    """Convert networks such as 10.0.0.0/8, separated by commas. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(ip_network(each.strip()) for each in value.split(",") if each.strip())
    except ValueError as error:
        raise ValueError(f"must be networks such as 127.0.0.0/8, separated by commas: {error}") from None


def trace_link(value: str | None) -> str | None:
    """Convert the URL of a trace in a tracing system, with a place for the trace's id. Raises ValueError."""
    if not value:
        return None
    parts = urlsplit(value.replace(TRACE_ID, "x").replace(L1P_TRACE_ID, "x"))
    is_url = parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc
    if not is_url or not (TRACE_ID in value or L1P_TRACE_ID in value):
        raise ValueError(f"must be an http or https URL with {TRACE_ID} or {L1P_TRACE_ID}, without a user")
    return value


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
    log_folder: Path | None = environ.var(
        None,
        converter=optional_path,
        help="folder with the services' log files, <service>.log; the console searches them for the lines of a trace",
    )
    traces_from: tuple[Network, ...] = environ.var(
        LOOPBACK,
        converter=networks,
        help="networks whose services may send spans without credentials; other senders need those of a user",
    )
    traces_keep_seconds: float = environ.var(
        86_400.0, converter=number(60, 31_536_000), help="seconds after which spans are deleted"
    )
    traces_max_rows: int = environ.var(
        1_000_000, converter=whole(1_000, 1_000_000_000), help="maximum number of spans that are kept"
    )
    traces_link: str | None = environ.var(
        None,
        converter=trace_link,
        help="URL of a trace in a tracing system, with {trace_id} (W3C) or {l1p_trace_id} in place of its id",
    )
