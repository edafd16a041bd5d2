"""Which services a network on one machine has, and with which environment each is started. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

HOST = "127.0.0.1"
PREFIX = "QUOTES_"
DATABASE_URL = "QUOTES_DATABASE_URL"
LOG_FILE = "QUOTES_LOG_FILE"


class PortError(ValueError):
    """Said to be the first port, but is none."""


@dataclass(frozen=True)
class ServiceSpec:
    """One service as it is started: `python -m <module>` with `env` (QUOTES_… variables alone)."""

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
    """A line of the table; `<name>` in a value is that service's origin, `<data>` the data folder.

    `wiring` is what makes the chain and holds whatever the caller's environment says; `defaults` give way.
    """

    name: str
    module: str
    wiring: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    stops_last: bool = False
    has_database: bool = False


# in the order of a call's way; a row's place is its port's offset, so new ones go to the end
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
    _Row("dfsp-api", "dfsp_api", {"QUOTES_ROLE": "payee"}, stops_last=True, has_database=True),
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
            # the sample's webhook is on this machine
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
)
PORTS = len(_TABLE)
LAST_FIRST_PORT = 65_535 - PORTS + 1
_SHARED_DEFAULTS = {
    "QUOTES_USERS_FILE": "<data>/users",
    # nobody asks these services for readiness before sending them work
    "QUOTES_STOP_GRACE_SECONDS": "0",
}
NAMES = tuple(row.name for row in _TABLE)
ENTRY, RECEIVER = "dfsp-api-payer", "spsp-server"
INTEGRATIONS, SIGNAL_RECEIVER = "integrations", "signal-receiver"
# a call passes the directory between the proxy and the client
CHAIN = (*NAMES[:2], "central-directory", *NAMES[2:6])


def services(
    first_port: int,
    *,
    data: Path,
    database_url: str,
    environment: Mapping[str, str] | None = None,
) -> tuple[ServiceSpec, ...]:
    """Return the network's services; `environment` is the caller's, of which QUOTES_… passes through.

    The database's address goes to those alone that keep something there: it may hold a password.
    """
    check_first_port(first_port)
    origins = {row.name: f"http://{HOST}:{first_port + offset}" for offset, row in enumerate(_TABLE)}
    own = {name: value for name, value in (environment or {}).items() if name.startswith(PREFIX)}
    own.pop(DATABASE_URL, None)
    specs = []
    for offset, row in enumerate(_TABLE):
        port = first_port + offset
        defaults = {**_SHARED_DEFAULTS, **row.defaults}
        env = {
            **_filled(_without_own(defaults, own), origins, data),
            **own,
            **_filled(row.wiring, origins, data),
            "QUOTES_HOST": HOST,
            "QUOTES_PORT": str(port),
        }
        if row.has_database:
            env[DATABASE_URL] = database_url
        specs.append(ServiceSpec(row.name, row.module, port, env, row.stops_last))
    return tuple(specs)


def check_first_port(port: int) -> None:
    """Raise `PortError` where there is no room for all services from `port` on."""
    if not 1 <= port <= LAST_FIRST_PORT:
        raise PortError(f"PORT is the first of {PORTS} ports: from 1 to {LAST_FIRST_PORT}, and {port} is not")


def rank(service: str) -> int:
    """Return a service's place on a call's way; services off the chain come after it."""
    return CHAIN.index(service) if service in CHAIN else len(CHAIN)


def _without_own(defaults: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """Leave out a file of what the caller's environment says without one: a service takes only one of both."""
    return {name: value for name, value in defaults.items() if name.removesuffix("_FILE") not in own}


def _filled(values: Mapping[str, str], origins: Mapping[str, str], data: Path) -> dict[str, str]:
    filled = dict(values)
    for variable, value in values.items():
        if value.startswith("<data>"):
            filled[variable] = str(data) + value.removeprefix("<data>")
        elif value.startswith("<"):
            filled[variable] = origins[value.strip("<>")]
    return filled
