"""Find out which ports are taken, and find free ones."""

import errno
import random
import socket
from collections.abc import Sequence

from network.topology import HOST, PORT_COUNT, ServiceSpec

# below the range that Linux (32768) and others (49152) use for outgoing connections
_MIN_PORT, _MAX_PORT = 20_000, 32_000


def unavailable_ports(specs: Sequence[ServiceSpec]) -> list[str]:
    """Return a sentence for each port that cannot be used, with its number and service."""
    return [
        f"port {spec.port} ({spec.name}) {why}"
        for spec in specs
        if (why := _why_unavailable(spec.port)) is not None
    ]


def find_first_port(count: int = PORT_COUNT) -> int:
    """Return the first of `count` free ports in a row."""
    while True:
        first = random.randrange(_MIN_PORT, _MAX_PORT)  # noqa: S311 - no secret
        if all(_why_unavailable(port) is None for port in range(first, first + count)):
            return first


def _why_unavailable(port: int) -> str | None:
    with socket.socket() as probe:
        # like servers: connections of an earlier run in TIME_WAIT do not block the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return None
