"""Run a service: read its settings, serve requests, and shut down after SIGTERM.

Shutdown begins with a grace period, in which readiness is 503 and each response closes its connection. Then the
listener and all idle connections close, so that callers go to another replica, and the requests in flight are
answered. A grace period of 0 means that there is no other replica: new requests get 503 until those in flight are
answered. The process ends at most ten seconds after the signal.
"""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

import uvloop
from aiohttp import web

from chassis import usage
from chassis.allocator import return_large_buffers
from chassis.app import SERVICE
from chassis.http.acceptor import Acceptor
from chassis.http.server import Runner
from chassis.log_file import LogFile
from chassis.logs import StandardLogging
from chassis.service import Service
from chassis.settings import Listening, Settings, SettingsError, deprecations, load
from chassis.tls import TlsError
from chassis.users import UsersFileError
from chassis.users_file import SampleCredentialsError

# with a request that hangs, aiohttp takes twice its shutdown_timeout on top of this: ten seconds in all
GONE_AFTER_SECONDS: Final = 7.5
READY_WITHIN_SECONDS: Final = 2.0
BACKLOG: Final = 4_096
OTHER_DESCRIPTORS: Final = 256
"""For files, the database and the event loop."""
YOUNG_OBJECTS: Final = 20_000
COLLECTIONS: Final = 10
"""Thresholds of Python's garbage collector for its older generations.

They are high enough that collections cost nothing, and low enough to free the objects that closed connections leave
behind (9 MiB of 75, measured).
"""

L = TypeVar("L", bound=Listening)
S = TypeVar("S", bound=Settings)


class StartError(Exception):
    """The service cannot start; the message says what to change."""


def run(settings_class: type[S], create_app: Callable[[S], web.Application]) -> int:
    """Run a service until SIGTERM or SIGINT; return the exit status."""

    def start(settings: S) -> Coroutine[Any, Any, None]:
        log_file = _log_file(settings)
        app = create_app(settings)
        app[SERVICE].logs.writer.file = log_file
        for warning in deprecations(settings_class):
            app[SERVICE].logs.warning(warning)
        return serve(app, settings)

    return run_listening(settings_class, start)


def run_listening(settings_class: type[L], start: Callable[[L], Coroutine[Any, Any, None]]) -> int:
    """Load the settings, pass them to `start`, and run the coroutine that it returns. Return the exit status.

    With arguments on the command line it runs nothing: it prints the help, or an error.
    """
    # before the service handles SIGHUP, the signal would end the process
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if arguments := sys.argv[1:]:
        return usage.respond(arguments, {"Settings": settings_class})
    try:
        return_large_buffers()
        running = start(load(settings_class))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(running)
    except (SettingsError, UsersFileError, SampleCredentialsError, TlsError, StartError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def _log_file(settings: Settings) -> LogFile | None:
    """Redirect stdout and stderr to the log file that the settings name. Return None if they name none."""
    if settings.log_file is None:
        return None
    file = LogFile(settings.log_file, settings.log_max_bytes)
    try:
        file.redirect_output()
    except OSError as error:
        raise StartError(f"QUOTES_LOG_FILE cannot be written: {error}") from error
    return file


async def serve(app: web.Application, settings: Settings) -> None:
    """Serve requests until a signal arrives, then answer the requests in flight, and return."""
    service = app[SERVICE]
    logging.getLogger().addHandler(StandardLogging(service.logs))
    stop = stop_signalled()
    reload_at_sighup(service.reload)
    _allow_descriptors(settings.max_connections + settings.max_in_flight + OTHER_DESCRIPTORS)
    runner = Runner(app, service, uses_protocol=settings.http == "protocol")
    async with listening(runner, service, settings):
        service.logs.info("started", host=settings.host, port=settings.port, pid=os.getpid())
        service.logs.writer.flush()
        # objects that live as long as the process need not be looked at in every collection
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS, COLLECTIONS, COLLECTIONS)
        await stop.wait()
        began = time.monotonic()
        service.logs.info("stopping", in_flight=service.monitor.in_flight)
        service.is_leaving = True
        if settings.stop_grace_seconds:
            await asyncio.sleep(settings.stop_grace_seconds)
        else:
            service.is_closed = True
            await _answered(service, began)
    await _answered(service, began, runner.close_idle)
    service.is_closed = True
    await runner.cleanup()
    service.flush_log()
    service.logs.info("stopped", in_flight=service.monitor.in_flight)
    service.logs.writer.flush()


def _allow_descriptors(number: int) -> None:
    """Raise this process' limit of file descriptors to this number, if it may. Many systems begin with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # such as a lower limit of the system
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def stop_signalled() -> asyncio.Event:
    """Return an event that is set when SIGTERM or SIGINT arrives."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop


def reload_at_sighup(reload: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Call `reload` at each SIGHUP from now on. By default SIGHUP would end the process."""
    running: set[asyncio.Task[None]] = set()

    def start() -> None:
        task = asyncio.create_task(reload())
        running.add(task)
        task.add_done_callback(running.discard)

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, start)


@contextlib.asynccontextmanager
async def listening(runner: Runner, service: Service, settings: Settings) -> AsyncIterator[None]:
    """Accept connections while the context lasts. Connections that are open at its end stay open."""
    await runner.setup()
    await _ready(service)
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        await runner.cleanup()
        raise cannot_listen(settings, error) from error
    with listener:
        server = runner.server
        assert server is not None  # noqa: S101 - set up above
        acceptor = Acceptor(server, listener, service.tls, service.logs, service.connections)
        acceptor.open()
        yield
        acceptor.close()


def cannot_listen(settings: Listening, error: OSError) -> StartError:
    return StartError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}")


async def _ready(service: Service) -> None:
    """Wait until the service's own resources are available, for at most two seconds.

    Where callers find replicas only by name, a replica gets requests as soon as it listens.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            while await service.missing():
                await asyncio.sleep(0.05)


async def _answered(service: Service, began: float, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait until no request is in flight or queued, or until the time for that has passed.

    Call `meanwhile` again and again until then.
    """
    while True:
        meanwhile()
        await asyncio.sleep(0.02)  # a counter that every request changes is cheaper than an event
        is_idle = not (service.monitor.in_flight or service.monitor.queued)
        if is_idle or time.monotonic() - began >= GONE_AFTER_SECONDS:
            return
