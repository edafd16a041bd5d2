"""load-balancer: its settings, and how it listens and shuts down.

The load balancer passes bytes through. It does not terminate TLS and does not parse HTTP. So certificates, credentials
and error responses come from the service behind it. Use it on a machine where several replicas of a service share one
published port.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Final

import environ

from chassis.logs import Logs, StandardLogging
from chassis.run import BACKLOG, GONE_AFTER_SECONDS, cannot_listen, reload_at_sighup, stop_signalled
from chassis.settings import PREFIX, Listening, base_url
from chassis.tls import Tls
from chassis.watched_files import WatchedFiles
from load_balancer.connections import ClientSide, OpenConnections
from load_balancer.health_check import HealthCheck

NAME: Final = "load-balancer"


@environ.config(prefix=PREFIX, frozen=True)
class LoadBalancerSettings(Listening):
    """Settings of the load balancer.

    It uses the TLS files only for its own requests to the replicas' ``/health/ready``.
    """

    next_hop: str = environ.var(
        converter=base_url,
        help="base URL of the service; its host name must resolve to the addresses of all replicas",
    )


@contextlib.asynccontextmanager
async def listening(settings: LoadBalancerSettings, tls: Tls, logs: Logs) -> AsyncIterator[asyncio.Server]:
    """Accept connections and pass them through while the ``async with`` block runs. Raises StartError."""
    health_check = HealthCheck(settings.next_hop, tls, logs)
    connections = OpenConnections(health_check.candidates, logs)
    async with health_check.running():
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: ClientSide(connections), settings.host, settings.port, backlog=BACKLOG
            )
        except OSError as error:
            raise cannot_listen(settings, error) from error
        closing_idle = asyncio.create_task(connections.close_idle())
        yield server
        server.close()
        closing_idle.cancel()
        await connections.drain(GONE_AFTER_SECONDS)


async def serve(settings: LoadBalancerSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises TlsError and StartError."""
    logs = Logs(NAME)
    logging.getLogger().addHandler(StandardLogging(logs))
    stop = stop_signalled()
    tls = Tls(settings)
    files = WatchedFiles(logs)
    if tls.is_used:
        files.add(tls.files, tls.reload)
    reload_at_sighup(files.reload)
    async with files.watched(), listening(settings, tls, logs):
        logs.info("started", host=settings.host, port=settings.port)
        await stop.wait()
        logs.info("stopping")
    logs.info("stopped")
    logs.writer.flush()
