"""The watched services: the console looks at each of them every two seconds, and keeps what it found."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chassis.errors import QuotingError
from console.collectors.service_client import ServiceClient

EVERY_SECONDS: Final = 2.0
CHECK_SECONDS: Final = 1.5
OK: Final = 200


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The result of the last look at a service. `checked` is the time in seconds since 1970."""

    name: str
    origin: str
    checked: float
    is_ready: bool
    problem: str | None


class Fleet:
    """Looks at every service again and again; `ticked` waits for the next round."""

    def __init__(self, client: ServiceClient) -> None:
        self.client = client
        self.states: Sequence[ServiceState] = ()
        self._tick = asyncio.Event()

    async def run(self) -> None:
        """Look at the services until the task is cancelled."""
        while True:
            began = time.monotonic()
            self.states = await asyncio.gather(*(self._check(name) for name in self.client.services))
            self._tick.set()
            self._tick = asyncio.Event()
            await asyncio.sleep(max(EVERY_SECONDS - (time.monotonic() - began), 0.1))

    async def ticked(self) -> None:
        """Wait until the console has looked at all services again."""
        await self._tick.wait()

    async def _check(self, name: str) -> ServiceState:
        origin = self.client.services[name].origin
        problem = None
        try:
            replicas = await self.client.replicas(name)
            if not replicas:
                problem = "its name cannot be resolved"
            for replica in replicas:
                reply = await self.client.send(replica, "GET", "/health/ready", timeout_seconds=CHECK_SECONDS)
                if reply.status != OK:
                    problem = "not ready"
        except QuotingError as error:
            problem = error.message
        return ServiceState(name, origin, time.time(), problem is None, problem)
