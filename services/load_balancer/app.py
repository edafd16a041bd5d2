"""`python -m load_balancer`: holds a port for a service with several replicas, and passes bytes through.

For where one machine publishes a port that one process alone can hold. A connection goes whole to one replica,
in turn, so TLS, credentials and errors are the service's own, and nothing here knows what a request is. Used are
the replicas that say they are ready (wire.md §6): one that stops says so for its grace before it closes its
door. Where none says so any is tried, and where none takes the connection, the caller's is closed.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
import environ

from chassis.http.resolver import Place, places_of
from chassis.run import BACKLOG, GONE_AFTER_SECONDS, cannot_listen, stop_signalled
from chassis.settings import PREFIX, Listening, base_url
from chassis.telemetry import StandardLogging, Telemetry
from chassis.tls import Tls
from load_balancer.proxy import CallerEnd, Lines

NAME: Final = "load-balancer"
MAX_TRIES: Final = 3
LOOK_EVERY_SECONDS: Final = 0.5
LOOK_MAX_SECONDS: Final = 1.0


@environ.config(prefix=PREFIX, frozen=True)
class LoadBalancerSettings(Listening):
    """What a front can be told; the TLS files are for asking replicas whether they are ready."""

    next_hop: str = environ.var(converter=base_url, help="base URL of the service behind, by its name")


class Replicas:
    """What the service's name has for addresses, and who of them is ready."""

    def __init__(self, settings: LoadBalancerSettings, telemetry: Telemetry) -> None:
        """Raises TlsError."""
        self._base = settings.next_hop
        self._log = telemetry.log
        self._tls = Tls(settings, telemetry.log.error)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=LOOK_MAX_SECONDS), trust_env=False
        )
        self._known: list[Place] = []
        self._ready: list[Place] = []
        self._turn = 0

    def in_turn(self) -> list[Place]:
        """Where to try to connect, one after the other."""
        self._turn += 1
        others = [place for place in self._known if place not in self._ready]
        return [*_rotated(self._ready, self._turn), *_rotated(others, self._turn)][:MAX_TRIES]

    async def look(self) -> None:
        self._tls.changed()
        # a name that is not to be resolved now may be so again: what was known may still be there
        self._known = await places_of(self._base) or self._known
        answers = await asyncio.gather(*(self._is_ready(place) for place in self._known))
        ready = [place for place, is_ready in zip(self._known, answers, strict=True) if is_ready]
        if ready != self._ready:
            log = self._log.info if ready else self._log.warning
            log("replicas", ready=[place.base for place in ready])
        self._ready = ready

    async def _is_ready(self, place: Place) -> bool:
        try:
            async with self._session.get(
                f"{place.base}/health/ready",
                headers=place.headers,
                ssl=self._tls.client,
                server_hostname=place.server_hostname,
                allow_redirects=False,
            ) as reply:
                return reply.ok
        except (aiohttp.ClientError, TimeoutError):
            return False

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Looks at once, and again and again as long as this is entered."""
        await self.look()
        watching = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            watching.cancel()
            await self._session.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            await self.look()


def _rotated(places: list[Place], turn: int) -> list[Place]:
    first = turn % len(places) if places else 0
    return places[first:] + places[:first]


@contextlib.asynccontextmanager
async def listening(settings: LoadBalancerSettings, telemetry: Telemetry) -> AsyncIterator[asyncio.Server]:
    """Passes connections through while this is entered. Raises TlsError and StartError."""
    replicas = Replicas(settings, telemetry)
    lines = Lines(replicas.in_turn)
    async with replicas.watched():
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: CallerEnd(lines), settings.host, settings.port, backlog=BACKLOG
            )
        except OSError as error:
            raise cannot_listen(settings, error) from error
        sweeping = asyncio.create_task(lines.keep_swept())
        yield server
        server.close()
        sweeping.cancel()
        await lines.close(GONE_AFTER_SECONDS)


async def serve(settings: LoadBalancerSettings) -> None:
    """Passes connections through until a signal."""
    telemetry = Telemetry(NAME)
    logging.getLogger().addHandler(StandardLogging(telemetry))
    stop = stop_signalled()
    async with listening(settings, telemetry):
        telemetry.log.info("started", host=settings.host, port=settings.port)
        await stop.wait()
        telemetry.log.info("stopping")
    telemetry.log.info("stopped")
    telemetry.lines.flush()
