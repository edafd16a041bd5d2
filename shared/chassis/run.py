"""From the environment to a running service, and from SIGTERM to its end.

Stopping: readiness turns 503 and replies close their connections (the grace); then the listener closes,
what comes on open connections is answered 503, what was taken is finished; then the process ends, ten
seconds after the signal at the latest.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Final, TypeVar

from aiohttp import web

from chassis.app import SERVICE
from chassis.auth import SampleCredentialsError
from chassis.listener import Runner
from chassis.settings import Settings, SettingsError, load
from chassis.telemetry import StandardLogging
from chassis.users import UsersFileError

# with a request that hangs, aiohttp takes twice its shutdown_timeout on top of this: ten seconds in all
GONE_AFTER_SECONDS: Final = 7.5
BACKLOG: Final = 1_024
MOST_YOUNG_OBJECTS: Final = 50_000

S = TypeVar("S", bound=Settings)


class StartError(Exception):
    """The service cannot start; the message says what to change."""


def run(settings_class: type[S], create_app: Callable[[S], web.Application]) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit status."""
    try:
        settings = load(settings_class)
        app = create_app(settings)
        with _runner() as runner:
            runner.run(serve(app, settings))
    except (SettingsError, UsersFileError, SampleCredentialsError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def serve(app: web.Application, settings: Settings) -> None:
    """Listens, waits for a signal, drains."""
    service = app[SERVICE]
    logging.getLogger().addHandler(StandardLogging(service.telemetry))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with listening(app, settings):
        service.telemetry.log.info("started", host=settings.host, port=settings.port, pid=os.getpid())
        service.telemetry.lines.flush()
        # what lives as long as the process need not be looked at again and again
        gc.collect()
        gc.freeze()
        gc.set_threshold(MOST_YOUNG_OBJECTS, 50, 50)
        await stop.wait()
        began = time.monotonic()
        service.telemetry.log.info("stopping", in_hand=service.in_hand)
        service.is_leaving = True
        await asyncio.sleep(settings.stop_grace_seconds)
    await _finish(app, began)
    service.telemetry.log.info("stopped", in_hand=service.in_hand)
    service.telemetry.lines.flush()


RUNNER: Final = web.AppKey("runner", Runner)


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    """Accepts connections; on leaving accepts no more, but keeps those there are."""
    runner = Runner(app)
    app[RUNNER] = runner
    await runner.setup()
    site = web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise StartError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        ) from error
    yield
    await site.stop()


async def _finish(app: web.Application, began: float) -> None:
    """Refuses what is new, waits for what was taken, closes all."""
    service = app[SERVICE]
    service.is_closed = True
    while service.in_hand and time.monotonic() - began < GONE_AFTER_SECONDS:
        await asyncio.sleep(0.02)  # a count that every request changes is cheaper than an event
    await app[RUNNER].cleanup()
