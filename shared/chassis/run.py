"""From the environment to a running service, and from SIGTERM to its end.

Stopping: readiness turns 503 and replies close their connections (the grace); then the listener and all
idle connections close, so that callers go to another replica, and what was taken is finished. Without a grace
nobody knows of another replica: what is new is answered 503 for as long as what was taken takes. The process
ends ten seconds after the signal at the latest.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

from aiohttp import web

from chassis.app import SERVICE, Service
from chassis.http.acceptor import Acceptor
from chassis.listener import Runner, Server
from chassis.log_file import LogFile
from chassis.logs import StandardLogging
from chassis.settings import Listening, Settings, SettingsError, deprecations, load
from chassis.tls import TlsError
from chassis.users import UsersFileError
from chassis.users_file import SampleCredentialsError

# with a request that hangs, aiohttp takes twice its shutdown_timeout on top of this: ten seconds in all
GONE_AFTER_SECONDS: Final = 7.5
READY_WITHIN_SECONDS: Final = 2.0
BACKLOG: Final = 4_096
YOUNG_OBJECTS: Final = 20_000
COLLECTIONS: Final = 10
"""Rarely enough to cost nothing, often enough that what closed connections leave is given back (9 MiB of 75)."""

L = TypeVar("L", bound=Listening)
S = TypeVar("S", bound=Settings)


class StartError(Exception):
    """The service cannot start; the message says what to change."""


def run(settings_class: type[S], create_app: Callable[[S], web.Application]) -> int:
    """Runs a service until SIGTERM or SIGINT; returns the exit status."""

    def start(settings: S) -> Coroutine[Any, Any, None]:
        log_file = _log_file(settings)
        app = create_app(settings)
        app[SERVICE].logs.writer.file = log_file
        for warning in deprecations(settings_class):
            app[SERVICE].logs.warning(warning)
        return serve(app, settings)

    return run_listening(settings_class, start)


def run_listening(settings_class: type[L], start: Callable[[L], Coroutine[Any, Any, None]]) -> int:
    """Runs what ``start`` makes of the settings; returns the exit status."""
    try:
        running = start(load(settings_class))
        with _runner() as runner:
            runner.run(running)
    except (SettingsError, UsersFileError, SampleCredentialsError, TlsError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _log_file(settings: Settings) -> LogFile | None:
    """What stdout and stderr go to from now on, where the settings name it."""
    if settings.log_file is None:
        return None
    file = LogFile(settings.log_file, settings.log_max_bytes)
    try:
        file.redirect_output()
    except OSError as error:
        raise StartError(f"QUOTES_LOG_FILE cannot be written to: {error}") from error
    return file


def _runner() -> asyncio.Runner:
    try:
        import uvloop
    except ImportError:  # Windows has none
        return asyncio.Runner()
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


async def serve(app: web.Application, settings: Settings) -> None:
    """Listens, waits for a signal, drains."""
    service = app[SERVICE]
    logging.getLogger().addHandler(StandardLogging(service.logs))
    stop = stop_signalled()
    async with listening(app, settings):
        service.logs.info("started", host=settings.host, port=settings.port, pid=os.getpid())
        service.logs.writer.flush()
        # what lives as long as the process need not be looked at again and again
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, COLLECTIONS, COLLECTIONS)
        await stop.wait()
        began = time.monotonic()
        service.logs.info("stopping", in_hand=service.in_hand)
        service.is_leaving = True
        if settings.stop_grace_seconds:
            await asyncio.sleep(settings.stop_grace_seconds)
        else:
            service.is_closed = True
            await _finished(service, began)
    await _close(app, began)
    service.logs.info("stopped", in_hand=service.in_hand)
    service.logs.writer.flush()


def stop_signalled() -> asyncio.Event:
    """Set by SIGTERM and SIGINT, from now on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


RUNNER: Final = web.AppKey("runner", Runner)


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    """Accepts connections; on leaving accepts no more, but keeps those there are."""
    runner = Runner(app)
    app[RUNNER] = runner
    await runner.setup()
    await _ready(app[SERVICE])
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        await runner.cleanup()
        raise cannot_listen(settings, error) from error
    with listener:
        server = runner.server
        assert isinstance(server, Server)  # noqa: S101 - set up above
        service = app[SERVICE]
        acceptor = Acceptor(server, listener, service.tls, service.logs, server.shed_idle)
        acceptor.open()
        watching = asyncio.create_task(acceptor.reload_tls())
        yield
        watching.cancel()
        acceptor.close()


def cannot_listen(settings: Listening, error: OSError) -> StartError:
    return StartError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}")


async def _ready(service: Service) -> None:
    """Returns when the service's own resources are there, or after two seconds.

    Where replicas are found by name alone a replica gets requests as soon as it listens.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            while [problem for check in service.checks for problem in await check()]:
                await asyncio.sleep(0.05)


async def _finished(service: Service, began: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Waits for what was taken, as long as there is time."""
    while True:
        meanwhile()
        await asyncio.sleep(0.02)  # a count that every request changes is cheaper than an event
        if not (service.in_hand or service.pace.waiting) or time.monotonic() - began >= GONE_AFTER_SECONDS:
            return


async def _close(app: web.Application, began: float) -> None:
    """Closes idle connections, waits for what was taken, closes all."""
    service, server = app[SERVICE], app[RUNNER].server
    await _finished(service, began, server.close_idle if isinstance(server, Server) else lambda: None)
    service.is_closed = True
    await app[RUNNER].cleanup()
