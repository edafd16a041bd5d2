"""Detects peers that have disappeared, for example because a firewall forgot the connection and drops its data."""

import socket
import sys
from typing import Final

IDLE_SECONDS: Final = 10
INTERVAL_SECONDS: Final = 3
PROBES: Final = 3
USER_TIMEOUT_MS: Final = 5_000
"""The kernel closes a connection if its peer does not acknowledge data for this long."""


def detect_dead_peer(connection: socket.socket | None) -> None:
    """Make the kernel close a TCP connection if its peer disappears."""
    if connection is None or connection.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
