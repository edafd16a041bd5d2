"""The limit for the connections of one service, and which of them are closed to make room."""

import socket
import time
from collections.abc import Iterable
from itertools import islice
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from chassis.addresses import network_of

SHARE: Final = 0.75
"""Share of the connections that one network of callers may have. A load balancer is one network."""
MAX_CLOSED: Final = 16
"""Idle connections that are closed together, so that not each new connection has to look for one."""
LOOK_AGAIN_SECONDS: Final = 0.05
"""Pause after a search that found no idle connection: a search looks at every connection of the network."""


class ServedConnection(Protocol):
    """A connection that a protocol serves."""

    @property
    def is_idle(self) -> bool:
        """Whether no request has begun."""

    def close(self) -> None:
        """Close an idle connection."""


class ConnectionLimit:
    """The connections of one service, by the network of their peers, those that opened first at the front.

    At the limit, idle connections of the network with the most connections are closed. Where none is idle, the new
    connection is refused: closed before a byte is read, so that the caller may try another replica.
    """

    def __init__(self, max_connections: int, registry: CollectorRegistry | None = None) -> None:
        self._max = max_connections
        self._max_of_network = max(1, int(max_connections * SHARE))
        self._max_closed = max(1, min(MAX_CLOSED, max_connections // 64))
        self._networks: dict[str, dict[socket.socket | None, ServedConnection | None]] = {}
        self._network_of: dict[socket.socket | None, str] = {}
        self._look_at = {"limit": 0.0, "share": 0.0}
        opened = Gauge("connections_open", "Connections that are open", registry=registry)
        opened.set_function(lambda: len(self._network_of))
        self._shed = Counter(
            "connections_shed", "Idle connections that were closed to make room", registry=registry
        )
        self._refused = Counter(
            "connections_refused",
            "Connections that were refused: at the limit of the service (limit) or of one network (share), or without a"
            " free file descriptor (descriptors)",
            ["reason"],
            registry=registry,
        )
        for reason in ("limit", "share", "descriptors"):
            # 0 from the start: else Prometheus sees no increase at the first refusal
            self._refused.labels(reason)

    def take(self, connection: socket.socket, address: str) -> str | None:
        """Count a connection until `release`. Returns why it must be refused, or None."""
        network = network_of(address)
        if len(self._networks.get(network, ())) >= self._max_of_network:
            if not self._make_room("share", [network]):
                return f"one network has {self._max_of_network:,} of at most {self._max:,} connections"
        elif len(self._network_of) >= self._max and not self._make_room("limit", self._largest_first()):
            return f"{self._max:,} connections are open, as many as QUOTES_MAX_CONNECTIONS allows"
        self._networks.setdefault(network, {})[connection] = None
        self._network_of[connection] = network
        return None

    def attach(self, connection: socket.socket | None, served: ServedConnection) -> None:
        """Name the protocol that serves a counted connection from now on."""
        network = self._network_of.get(connection)
        if network is not None:
            self._networks[network][connection] = served

    def release(self, connection: socket.socket | None) -> None:
        """The connection is closed. Connections that are not counted are ignored."""
        network = self._network_of.pop(connection, None)
        if network is not None:
            del self._networks[network][connection]
            if not self._networks[network]:
                del self._networks[network]

    def close_idle(self) -> int:
        """Close a few idle connections of the networks with the most connections; return their number."""
        return self._close_idle(self._largest_first(), MAX_CLOSED)

    def count_refused(self, reason: str, number: int = 1) -> None:
        self._refused.labels(reason).inc(number)

    def _make_room(self, reason: str, networks: Iterable[str]) -> bool:
        now = time.monotonic()
        if now >= self._look_at[reason]:
            if self._close_idle(networks, self._max_closed):
                return True
            self._look_at[reason] = now + LOOK_AGAIN_SECONDS
        self.count_refused(reason)
        return False

    def _largest_first(self) -> list[str]:
        return sorted(self._networks, key=lambda network: len(self._networks[network]), reverse=True)

    def _close_idle(self, networks: Iterable[str], number: int) -> int:
        idle = (
            (connection, served)
            for network in networks
            for connection, served in self._networks[network].items()
            if served is not None and served.is_idle
        )
        found = list(islice(idle, number))
        for connection, served in found:
            served.close()
            self.release(connection)
        self._shed.inc(len(found))
        return len(found)
