"""Where a request goes, of the places that a service's name stands for."""

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
SHUN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaAddress:
    """Where one request goes."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    server_hostname: str | None = None
    connect_seconds: float = CONNECT_SECONDS


@dataclass(slots=True)
class _Host:
    """One host's places, as its name was resolved last."""

    places: list[ReplicaAddress]
    resolved: float
    turn: int = 0


class Resolver:
    """A service's replicas, in turn.

    A name with several addresses is a service with several replicas (as in compose, or a headless service of
    Kubernetes): each request goes to the next one. The name is resolved again every second, behind the
    requests, so that replicas which come are used and those that go are not; after a pause, before the request:
    an address that was a replica's may be another service's by now. Where no connection came about is left out
    for two seconds, as long as there is another: a replica that stops is gone before its address is.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._shunned: dict[str, float] = {}

    async def next(self, base: str) -> ReplicaAddress:
        host = self._hosts.get(base)
        if host is None:
            await asyncio.shield(self._resolve(base))
            host = self._hosts[base]
        elif (age := time.monotonic() - host.resolved) > RESOLVE_EVERY_SECONDS:
            resolving = self._resolve(base)
            if age > STALE_AFTER_SECONDS:
                await self._wait_for(resolving)
                host = self._hosts[base]
        return self._choose(host)

    async def instead_of(self, replica: ReplicaAddress, base: str, *, is_away: bool) -> ReplicaAddress:
        """Where to repeat what ``replica`` did not answer: elsewhere, if there is anywhere else."""
        if is_away:
            self._shunned[replica.base] = time.monotonic() + SHUN_SECONDS
        if not self._others(replica, base):
            await self._wait_for(self._resolve(base))
        others = self._others(replica, base)
        return self._choose(self._hosts[base], others) if others else replica

    async def _wait_for(self, resolving: asyncio.Task[None]) -> None:
        """No longer for a name than for a connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESOLVE_MAX_SECONDS):
                await asyncio.shield(resolving)

    def close(self) -> None:
        for task in self._resolving.values():
            task.cancel()

    def _others(self, replica: ReplicaAddress, base: str) -> list[ReplicaAddress]:
        return [other for other in self._hosts[base].places if other.base != replica.base]

    def _choose(self, host: _Host, places: Sequence[ReplicaAddress] = ()) -> ReplicaAddress:
        """The next in turn among ``places``, or all of the host's; of those left out only if there is no other."""
        host.turn += 1
        places = places or host.places
        if self._shunned and len(places) > 1:
            now = time.monotonic()
            self._shunned = {base: until for base, until in self._shunned.items() if until > now}
            places = [replica for replica in places if replica.base not in self._shunned] or places
        return places[host.turn % len(places)]

    def _resolve(self, base: str) -> asyncio.Task[None]:
        """The resolution under way; one at a time for each host."""
        task = self._resolving.get(base)
        if task is None:
            task = asyncio.create_task(self._resolve_now(base))
            self._resolving[base] = task
            task.add_done_callback(lambda _: self._resolving.pop(base, None))
        return task

    async def _resolve_now(self, base: str) -> None:
        places = await resolve(base)
        before = self._hosts.get(base)
        if places is None:  # not to be resolved now: what was known may still be there
            places = before.places if before is not None else [ReplicaAddress(base)]
        self._hosts[base] = _Host(places, time.monotonic(), before.turn if before is not None else 0)


async def resolve(base: str) -> list[ReplicaAddress] | None:
    """Each address that a base URL's name has; None where it is not to be resolved now."""
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
    if (
        len(addresses) == 1 and len(families) > 1
    ):  # one of each family is one host: asyncio takes what answers
        return [ReplicaAddress(base)]
    seconds = CONNECT_SECONDS if len(addresses) == 1 else REPLICA_CONNECT_SECONDS
    return [_place(base, address, seconds) for address in sorted(addresses)]


def _place(base: str, address: str, connect_seconds: float) -> ReplicaAddress:
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
