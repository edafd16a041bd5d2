"""Finds out which ports are in use, and finds free ports."""

import errno
import random
import socket
import sys
from collections import deque
from collections.abc import Sequence

from network.topology import HOST, PORT_COUNT, ServiceSpec

# below the range that Linux (32768) and others (49152) use for outgoing connections
_MIN_PORT, _MAX_PORT = 10_000, 32_000
_BLOCK_SIZE = 16
_MAX_CLAIMS = 8
_claims: deque[socket.socket] = deque()


def unavailable_ports(specs: Sequence[ServiceSpec]) -> list[str]:
    """Return one sentence, with port and service, for each service whose port cannot be used."""
    return [
        f"port {spec.port} ({spec.name}) {why}"
        for spec in specs
        if (why := _why_unavailable(spec.port)) is not None
    ]


def find_first_port(count: int = PORT_COUNT) -> int:
    """Return the first of `count` free ports in a row. Claim them, so that other processes choose other ports."""
    assert count <= _BLOCK_SIZE  # noqa: S101 - a larger one could reach into another process' block
    while True:
        first = random.randrange(_MIN_PORT, _MAX_PORT, _BLOCK_SIZE)  # noqa: S311 - no secret
        are_free = all(_why_unavailable(port) is None for port in range(first, first + count))
        if are_free and _claim(first):
            return first


def _claim(first_port: int) -> bool:
    """Claim a block of ports, so that processes which start networks at the same time choose different blocks.

    Returns False if another process has claimed the block. The claim is an abstract socket (Linux). It ends when this
    process ends, or after this process has claimed some further blocks: the ports are in use by then.
    """
    if sys.platform != "linux":
        return True
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0dfsp-quoting-ports-{first_port}")
    except OSError:
        claim.close()
        return False
    if len(_claims) == _MAX_CLAIMS:
        _claims.popleft().close()
    _claims.append(claim)
    return True


def _why_unavailable(port: int) -> str | None:
    with socket.socket() as probe:
        # servers set this too: connections of an earlier run in TIME_WAIT do not block the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
    return None
