"""The services of a network on one machine, and the environment of each. The module does no input or output."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
PREFIX = "QUOTES_"
DATABASE_URL = "QUOTES_DATABASE_URL"
LOG_FILE = "QUOTES_LOG_FILE"

_NAME = re.compile(r"<([a-z-]+)>")


class PortError(ValueError):
    """The number cannot be the first port of a network."""


@dataclass(frozen=True)
class ServiceSpec:
    """A service that `python -m <module>` starts. `env` contains only the variables whose names start with QUOTES_."""

    name: str
    module: str
    port: int
    env: Mapping[str, str] = field(repr=False)
    stops_last: bool = False

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"


@dataclass(frozen=True)
class _Row:
    """One service and its variables. In a value, `<name>` stands for that service's origin, `<data>` for the data folder.

    `<services>` stands for the name and origin of each other service, for the console. `wiring` connects the services;
    it overrides the caller's environment. `defaults` apply to the variables that the caller's environment does not set.
    """

    name: str
    module: str
    wiring: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    stops_last: bool = False
    has_database: bool = False


# in the order in which a request passes them; the index is the port's offset, so new rows go to the end
_TABLE = (
    _Row(
        "dfsp-api-payer",
        "dfsp_api",
        {"QUOTES_ROLE": "payer", "QUOTES_NEXT_HOP": "<spsp-client-proxy>"},
    ),
    _Row(
        "spsp-client-proxy",
        "spsp_client_proxy",
        {"QUOTES_NEXT_HOP": "<spsp-client>"},
        {"QUOTES_DIRECTORY_URL": "<central-directory>"},
    ),
    _Row("spsp-client", "spsp_client", defaults={"QUOTES_SUBMISSION_URLS": "<spsp-server>"}),
    _Row("spsp-server", "spsp_server", {"QUOTES_NEXT_HOP": "<spsp-server-backend>"}),
    _Row("spsp-server-backend", "spsp_server_backend", {"QUOTES_NEXT_HOP": "<dfsp-api>"}),
    _Row(
        "dfsp-api",
        "dfsp_api",
        {"QUOTES_ROLE": "payee"},
        {"QUOTES_AUDIT_KEY_FILE": "<data>/audit-key"},
        stops_last=True,
        has_database=True,
    ),
    _Row(
        "central-directory",
        "central_directory",
        defaults={
            "QUOTES_DIRECTORY_FILE": "<data>/directory.json",
            "QUOTES_DIRECTORY_ADMINISTRATOR": "admin",
        },
    ),
    _Row(
        "integrations",
        "integrations",
        defaults={
            "QUOTES_USERS_FILE": "<data>/integrations-users",
            "QUOTES_ENCRYPTION_KEYS_FILE": "<data>/encryption-keys",
            # the sample webhook is on this machine
            "QUOTES_ALLOW_HTTP": "true",
            "QUOTES_ALLOW_NETWORKS": "127.0.0.0/8,::1/128",
        },
        has_database=True,
    ),
    _Row(
        "signal-receiver",
        "signal_receiver",
        defaults={
            "QUOTES_USERS_FILE": "<data>/receiver-users",
            "QUOTES_ACCOUNTS_FILE": "<data>/accounts.toml",
        },
        has_database=True,
    ),
    _Row(
        "console",
        "console",
        # its users are people, so its operators are others than those of the services
        defaults={
            "QUOTES_CONSOLE_SERVICES": "<services>",
            "QUOTES_USERS_FILE": "<data>/console-users",
            "QUOTES_OPERATORS": "operator",
            "QUOTES_SERVICE_PASSWORD_FILE": "<data>/console-password",
            "QUOTES_LOG_FOLDER": "<data>/logs",
            # its own spans would be sent to itself
            "QUOTES_TRACES_URL": "",
        },
        has_database=True,
    ),
)
PORT_COUNT = len(_TABLE)
MAX_FIRST_PORT = 65_535 - PORT_COUNT + 1
_SHARED_DEFAULTS = {
    "QUOTES_USERS_FILE": "<data>/users",
    "QUOTES_OPERATORS": "console",
    "QUOTES_TRACES_URL": "<console>/v1/traces",
    # there is no load balancer in front of these services that has to notice their end
    "QUOTES_STOP_GRACE_SECONDS": "0",
}
SERVICE_NAMES = tuple(row.name for row in _TABLE)
FIRST_SERVICE, SPSP_SERVER, DIRECTORY = "dfsp-api-payer", "spsp-server", "central-directory"
INTEGRATIONS, SIGNAL_RECEIVER, CONSOLE = "integrations", "signal-receiver", "console"
# a request passes the directory between spsp-client-proxy and spsp-client
CHAIN = (*SERVICE_NAMES[:2], DIRECTORY, *SERVICE_NAMES[2:6])


def services(
    first_port: int,
    *,
    data: Path,
    database_url: str,
    environment: Mapping[str, str] | None = None,
) -> tuple[ServiceSpec, ...]:
    """Return the services of the network. All of them get the QUOTES_… variables of `environment`.

    Only services that use a database get its URL, because it may contain a password.
    """
    check_first_port(first_port)
    origins = {row.name: f"http://{HOST}:{first_port + offset}" for offset, row in enumerate(_TABLE)}
    watched = ",".join(f"{name}={origins[name]}" for name in sorted(origins, key=chain_position))
    names = {**origins, "data": str(data), "services": watched.removesuffix(f",{CONSOLE}={origins[CONSOLE]}")}
    passed_on = {name: value for name, value in (environment or {}).items() if name.startswith(PREFIX)}
    passed_on.pop(DATABASE_URL, None)
    specs = []
    for offset, row in enumerate(_TABLE):
        port = first_port + offset
        defaults = {**_SHARED_DEFAULTS, **row.defaults}
        env = {
            **_resolve(_without_overridden(defaults, passed_on), names),
            **passed_on,
            **_resolve(row.wiring, names),
            "QUOTES_HOST": HOST,
            "QUOTES_PORT": str(port),
        }
        if row.has_database:
            env[DATABASE_URL] = database_url
        specs.append(ServiceSpec(row.name, row.module, port, env, row.stops_last))
    return tuple(specs)


def check_first_port(port: int) -> None:
    """Raise `PortError` if the ports from `port` on are not enough for all services."""
    if not 1 <= port <= MAX_FIRST_PORT:
        raise PortError(
            f"PORT must be from 1 to {MAX_FIRST_PORT}, since it is the first of {PORT_COUNT} ports; {port} is not"
        )


def chain_position(service: str) -> int:
    """Return a service's position in the chain. Services outside the chain come after all others."""
    return CHAIN.index(service) if service in CHAIN else len(CHAIN)


def _without_overridden(defaults: Mapping[str, str], passed_on: Mapping[str, str]) -> dict[str, str]:
    """Return the defaults without `X_FILE` if `passed_on` has `X`, because a service refuses to start with both."""
    return {name: value for name, value in defaults.items() if name.removesuffix("_FILE") not in passed_on}


def _resolve(values: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
    return {variable: _NAME.sub(lambda found: names[found[1]], value) for variable, value in values.items()}
