"""Resolves the names of services to the addresses of their replicas."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from aiohttp import hdrs

CONNECT_SECONDS: Final = 5.0
REPLICA_CONNECT_SECONDS: Final = 1.0
RESOLVE_EVERY_SECONDS: Final = 1.0
RESOLVE_MAX_SECONDS: Final = 1.0
STALE_AFTER_SECONDS: Final = 2.0
AVOID_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaAddress:
    """Address of one replica: a base URL with an IP address instead of the name, headers to send, and a time limit."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    server_hostname: str | None = None
    connect_seconds: float = CONNECT_SECONDS


@dataclass(slots=True)
class _Host:
    """The replicas that one name had when it was last resolved."""

    replicas: list[ReplicaAddress]
    resolved: float
    turn: int = 0


class Resolver:
    """Chooses a replica for each request; the replicas take turns.

    A name with several addresses is a service with several replicas, as in compose or a headless service of
    Kubernetes. While there are requests, the name is resolved every second in the background. After a pause it is
    resolved before the request is sent, because the address may belong to another service by then. A replica that did
    not accept a connection is avoided for two seconds if there is another replica: after a replica stops, its name
    keeps its address for a moment.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._avoided: dict[str, float] = {}

    async def next(self, base: str) -> ReplicaAddress:
        """Return the replica for the next request to the service at base URL ``base``."""
        host = self._hosts.get(base)
        if host is None:
            await asyncio.shield(self._resolve(base))
            host = self._hosts[base]
        elif (age := time.monotonic() - host.resolved) > RESOLVE_EVERY_SECONDS:
            resolving = self._resolve(base)
            if age > STALE_AFTER_SECONDS:
                await self._wait_for(resolving)
                host = self._hosts[base]
        return self._choose(host, host.replicas)

    async def instead_of(self, failed: ReplicaAddress, base: str, *, is_away: bool) -> ReplicaAddress:
        """Return the replica to which a request is repeated: another one than ``failed`` if there is one.

        ``is_away`` means that ``failed`` did not accept a connection; it is then avoided for a while.
        """
        if is_away:
            self._avoided[failed.base] = time.monotonic() + AVOID_SECONDS
        if is_away or not self._others(failed, base):  # those that are known may be old
            await self._wait_for(self._resolve(base))
        others = self._others(failed, base)
        return self._choose(self._hosts[base], others) if others else failed

    async def _wait_for(self, resolving: asyncio.Task[None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESOLVE_MAX_SECONDS):
                await asyncio.shield(resolving)

    def close(self) -> None:
        for task in self._resolving.values():
            task.cancel()

    def _others(self, failed: ReplicaAddress, base: str) -> list[ReplicaAddress]:
        return [replica for replica in self._hosts[base].replicas if replica.base != failed.base]

    def _choose(self, host: _Host, replicas: Sequence[ReplicaAddress]) -> ReplicaAddress:
        host.turn += 1
        if self._avoided and len(replicas) > 1:
            now = time.monotonic()
            self._avoided = {base: until for base, until in self._avoided.items() if until > now}
            replicas = [replica for replica in replicas if replica.base not in self._avoided] or replicas
        return replicas[host.turn % len(replicas)]

    def _resolve(self, base: str) -> asyncio.Task[None]:
        """Return the running task that resolves the name; start one if none is running."""
        task = self._resolving.get(base)
        if task is None:
            task = asyncio.create_task(self._resolve_now(base))
            self._resolving[base] = task
            task.add_done_callback(lambda _: self._resolving.pop(base, None))
        return task

    async def _resolve_now(self, base: str) -> None:
        before = self._hosts.get(base)
        replicas = await resolve(base)
        if replicas is None:  # the name server may be away, while the replicas are not
            replicas = before.replicas if before is not None else [ReplicaAddress(base)]
        self._hosts[base] = _Host(replicas, time.monotonic(), before.turn if before is not None else 0)


async def resolve(base: str) -> list[ReplicaAddress] | None:
    """Return one replica for each address of the name in a base URL; None if the name cannot be resolved now."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    if _is_address(host):
        return [ReplicaAddress(base)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 0, type=1)
    except OSError:
        return None
    families: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, set()).add(str(address[0]))
    addresses = max(families.values(), key=len, default=set())
    if len(addresses) == 1 and len(families) > 1:
        # one IPv4 and one IPv6 address are one host: asyncio connects to the address that accepts
        return [ReplicaAddress(base)]
    seconds = CONNECT_SECONDS if len(addresses) == 1 else REPLICA_CONNECT_SECONDS
    return [_replica(base, address, seconds) for address in sorted(addresses)]


def _replica(base: str, address: str, connect_seconds: float) -> ReplicaAddress:
    parts = urlsplit(base)
    literal = f"[{address}]" if ":" in address else address
    netloc = literal if parts.port is None else f"{literal}:{parts.port}"
    return ReplicaAddress(
        parts._replace(netloc=netloc).geturl(),
        {hdrs.HOST: parts.netloc},
        parts.hostname if parts.scheme == "https" else None,
        connect_seconds,
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
