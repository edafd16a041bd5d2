"""Ports: which of those a network needs are taken, and where there is room for one."""

import errno
import random
import socket
from collections.abc import Sequence

from network.plan import HOST, PORTS, ServiceSpec

# below what Linux (32768) and others (49152) give to outgoing connections
_LOWEST, _HIGHEST = 20_000, 32_000


def complaints(specs: Sequence[ServiceSpec]) -> list[str]:
    """Return a sentence for every port that cannot be had, by number and service."""
    return [
        f"port {spec.port} ({spec.name}) {why}" for spec in specs if (why := _why_not(spec.port)) is not None
    ]


def find_first_port(count: int = PORTS) -> int:
    """Return a first port with `count` free ones from it on: for tests."""
    while True:
        first = random.randrange(_LOWEST, _HIGHEST)  # noqa: S311 - no secret
        if all(_why_not(port) is None for port in range(first, first + count)):
            return first


def _why_not(port: int) -> str | None:
    with socket.socket() as probe:
        # as servers do: connections of an earlier run that linger (TIME_WAIT) are no hindrance
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
    return None
