"""Find the addresses of the service's replicas, and check which replicas are ready.

A replica that shuts down reports "not ready" for its grace period before it stops listening (wire.md §6). A check every
half second finds this out in time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from chassis.http.resolver import ReplicaAddress, resolve
from chassis.logs import Logs
from chassis.tls import Tls

MAX_ATTEMPTS: Final = 3
"""Maximum number of replicas that are tried for one connection."""
CHECK_INTERVAL_SECONDS: Final = 0.5
CHECK_TIMEOUT_SECONDS: Final = 1.0


class HealthCheck:
    """Resolves the service's name and checks the readiness of each replica, every half second."""

    def __init__(self, base_url: str, tls: Tls, logs: Logs) -> None:
        self._base_url = base_url
        self._logs = logs
        self._tls = tls
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=CHECK_TIMEOUT_SECONDS), trust_env=False
        )
        self._replicas: list[ReplicaAddress] = []
        self._ready: list[ReplicaAddress] = []
        self._turn = 0

    def candidates(self) -> list[ReplicaAddress]:
        """Return the replicas to try for the next connection. Ready ones come first, in turn (round robin).

        Replicas that were not ready come after them, because they may have become ready since the last check.
        """
        self._turn += 1
        others = [replica for replica in self._replicas if replica not in self._ready]
        return [*_rotated(self._ready, self._turn), *_rotated(others, self._turn)][:MAX_ATTEMPTS]

    async def check(self) -> None:
        """Resolve the service's name, and check the readiness of each replica once."""
        # when the name cannot be resolved, its last known addresses may still work
        self._replicas = await resolve(self._base_url) or self._replicas
        results = await asyncio.gather(*(self._is_ready(replica) for replica in self._replicas))
        ready = [replica for replica, is_ready in zip(self._replicas, results, strict=True) if is_ready]
        if ready != self._ready:
            log = self._logs.info if ready else self._logs.warning
            log("ready replicas changed", ready=[replica.base for replica in ready])
        self._ready = ready

    async def _is_ready(self, replica: ReplicaAddress) -> bool:
        try:
            async with self._session.get(
                f"{replica.base}/health/ready",
                headers=replica.headers,
                ssl=self._tls.client,
                server_hostname=replica.server_hostname,
                allow_redirects=False,
            ) as response:
                return response.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Check once at the start, then every half second while the ``async with`` block runs."""
        await self.check()
        checking = asyncio.create_task(self._check_forever())
        try:
            yield
        finally:
            checking.cancel()
            await self._session.close()

    async def _check_forever(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_SECONDS)
            await self.check()


def _rotated(replicas: list[ReplicaAddress], turn: int) -> list[ReplicaAddress]:
    first = turn % len(replicas) if replicas else 0
    return replicas[first:] + replicas[:first]
