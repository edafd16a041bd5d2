"""The options of a run, and the `Role` of the implementation under test."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

SAMPLE: Final[Mapping[str, str]] = {
    "currencyCode": "USD",
    "currencySymbol": "$",
    "amount": "12.50",
    "account": "http://ec2-35-166-236-69.us-west-2.compute.amazonaws.com:8088/ilp/ledger/v1/accounts/bob",
    "identifier": "30754016",
    "identifierType": "eur",
    "transferType": "p2p",
}
"""The request of the source (Quote API §I.1)."""


class Part(StrEnum):
    """The two parts of the kit: the Quote API itself, and the stronger promises of wire.md."""

    SOURCE = "source"
    PROMISES = "promises"


class Role(StrEnum):
    """The service or services behind the URL.

    NETWORK is all of them, and PAYEE the dfsp-api that reserves quotes, or all services from spsp-server on. CHAIN is
    all services but the payee's dfsp-api, so that the kit is both the payer and the payee. PAYER is the dfsp-api that
    sends quotes into the chain. The others are one service each.
    """

    NETWORK = "network"
    PAYEE = "payee"
    CHAIN = "chain"
    PAYER = "payer"
    SPSP_CLIENT_PROXY = "spsp-client-proxy"
    SPSP_CLIENT = "spsp-client"
    SPSP_SERVER = "spsp-server"
    SPSP_SERVER_BACKEND = "spsp-server-backend"


ENDS: Final = frozenset({Role.NETWORK, Role.PAYEE})
"""Roles that answer requests themselves. The others pass requests on, and the kit also plays the next hop."""
HOPS: Final = frozenset(Role) - ENDS

RECEIVES: Final[Mapping[Role, int]] = {
    Role.NETWORK: 1,
    Role.PAYEE: 5,
    Role.CHAIN: 1,
    Role.PAYER: 1,
    Role.SPSP_CLIENT_PROXY: 1,
    Role.SPSP_CLIENT: 2,
    Role.SPSP_SERVER: 3,
    Role.SPSP_SERVER_BACKEND: 4,
}
"""The number of the hop in Quote API §I whose message the kit sends to this role."""

SENDS: Final[Mapping[Role, int]] = {
    Role.CHAIN: 5,
    Role.PAYER: 1,
    Role.SPSP_CLIENT_PROXY: 2,
    Role.SPSP_CLIENT: 3,
    Role.SPSP_SERVER: 4,
    Role.SPSP_SERVER_BACKEND: 5,
}
"""The number of the hop in Quote API §I whose message this role sends."""


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on; port 0 is any free one."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True)
class Credentials:
    """A name and a password of HTTP Basic."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Options:
    """All that a run needs to know. Times are in seconds."""

    url: str
    """Base URL of the implementation, without a trailing slash."""
    credentials: Credentials
    role: Role = Role.NETWORK
    parts: frozenset[Part] = frozenset(Part)
    request: Mapping[str, str] = field(default_factory=lambda: dict(SAMPLE))
    """The request that is sent: the seven fields of the source."""
    execute_method: str = "PUT"
    execute_path: str = "/v1/payments/{uuid}"
    """How a transfer is executed; the source leaves it open."""
    timeout: float = 10.0
    """Limit for one response."""
    max_wait: float = 30.0
    """Limit for the time until a quote expires. Checks that would wait longer are skipped."""
    clock_tolerance: float = 1.0
    """How much the clocks of the kit and of the implementation may differ."""
    lifetime_ms: int | None = None
    """Value of `X-Quote-Lifetime-Ms` where a check waits for a quote to expire; None sends no such header."""
    second_caller: Credentials | None = None
    listen: Address = Address()
    """Where the kit plays the next hop."""
    listen_url: str | None = None
    """Base URL of `listen` as the implementation reaches it; None derives it."""
    directory: Address = Address()
    """Where the kit plays the central directory."""
    restart: Callable[[], Awaitable[None]] | None = None
    """Restarts the implementation, so that the kit can check that quotes are persistent."""
    ca: Path | None = None
    """PEM file of the CA that signed the implementation's certificate; None uses the system's."""
