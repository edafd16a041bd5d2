"""Access to internal parts of a service in the test's process, for states that requests cannot show or cause.

Other modules of the tests do not use these internal names.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from chassis import admission
from chassis.admission import AdmissionQueue, LoadMonitor
from chassis.app import SERVICE
from chassis.batching import Batcher
from chassis.exchange import Exchange
from chassis.http.adapter import AiohttpConnection
from chassis.http.request import Request
from chassis.http.server import Runner
from chassis.logs import LogWriter
from quoting import service
from quoting.call import Call
from quoting.next_hop import NextHop
from spsp_client_proxy.app import DIRECTORY


class CollectedLines(LogWriter):
    """Log lines, kept instead of written."""

    def __init__(self) -> None:
        super().__init__(descriptor=-1)
        self.kept: list[bytes] = []

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        self.kept.extend(lines)

    @property
    def text(self) -> str:
        return b"\n".join(self.kept).decode()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in self.kept]


def runner_of(app: web.Application) -> web.AppRunner:
    """Return the runner with which `chassis.run` serves an application."""
    service = app[SERVICE]
    return Runner(app, service, uses_protocol=service.settings.http == "protocol")


def service_name(app: web.Application) -> str:
    return app[SERVICE].name


def collect_lines(app: web.Application) -> CollectedLines:
    """From now on, collect the application's log lines in the object that this returns."""
    lines = CollectedLines()
    app[SERVICE].logs.writer = lines
    return lines


async def reload(app: web.Application) -> None:
    """Do what SIGHUP does."""
    await app[SERVICE].reload()


async def reload_changed(app: web.Application) -> None:
    """Do what a service does within two seconds after a file has changed."""
    for _ in range(2):
        await app[SERVICE].files.look()


def begin_exchange(app: web.Application) -> tuple[Exchange, list[int]]:
    """Begin an exchange without a route. Return it, and the statuses of its responses."""
    statuses: list[int] = []
    request = Request("POST", "/", "", {}, b"", time.monotonic(), "127.0.0.1")
    return Exchange(
        app[SERVICE], request, lambda response, _headers: statuses.append(response.status), None
    ), statuses


def requests_in_flight(app: web.Application) -> int:
    return app[SERVICE].monitor.in_flight


def requests_waiting(app: web.Application) -> int:
    """Return the number of requests in the service's queue."""
    return app[SERVICE].monitor.queued


def open_connections(app: web.Application) -> int:
    return len(app[SERVICE].connections._network_of)


def is_idle(app: web.Application) -> bool:
    """Whether no request is in flight and none is queued."""
    return (0, 0) == (requests_in_flight(app), requests_waiting(app))


def fail_readiness(app: web.Application) -> None:
    """Set the state that SIGTERM causes first: readiness fails, and each response closes its connection."""
    app[SERVICE].is_leaving = True


def reject_new_requests(app: web.Application) -> None:
    """Set the state that SIGTERM causes after the grace period: new requests are rejected."""
    app[SERVICE].is_closed = True


def fail_requests(
    monkeypatch: Any, error: BaseException | type[BaseException], *, trace_id: str = ""
) -> None:
    """Make requests raise an unexpected error: all, or only those with this trace id."""

    def fail(*args: object, **more: object) -> Call:
        if not trace_id or trace_id in (*args, *more.values()):
            raise error
        return Call(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "Call", fail)


def fail_responses(monkeypatch: Any, error: type[BaseException]) -> None:
    """Make a service raise an unexpected error when it reads a response of its next hop."""

    def fail(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(NextHop, "_response", fail)


def queue_every_request(monkeypatch: Any) -> None:
    """Make every service queue each request for a moment, as if the service were busy."""
    monkeypatch.setattr(LoadMonitor, "must_queue", True)


def limit_waiting_requests(monkeypatch: Any, limit: int) -> None:
    """Set the maximum number of requests that wait for a batch. Affects services that start after this call."""
    defaults = {**(Batcher.__init__.__kwdefaults__ or {}), "max_waiting": limit}
    monkeypatch.setattr(Batcher.__init__, "__kwdefaults__", defaults)


def wait_in_queue(monkeypatch: Any, seconds: float) -> None:
    """Make queued requests seem to have waited in the queue for this time."""
    monkeypatch.setattr(admission, "_seconds_since_data", lambda _socket: seconds)


def wait_in_socket(monkeypatch: Any, seconds: float) -> None:
    """Make requests seem to have waited in the socket's buffer for this time before the service read them."""
    monkeypatch.setattr(LoadMonitor, "waited", lambda _monitor, _socket, _now: seconds)


def delay_queued_requests(monkeypatch: Any, seconds: float) -> None:
    """Begin each queued request only after this time."""

    def add(_queue: AdmissionQueue, begin: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, begin)

    monkeypatch.setattr(AdmissionQueue, "add", add)


def end_connections_with(monkeypatch: Any, last: bytes) -> None:
    """Make connections that aiohttp serves end with these bytes: their client closes its side together with them.

    uvloop reads both in one iteration, asyncio's own event loop does not.
    """
    receive = AiohttpConnection.data_received

    def receive_end(connection: AiohttpConnection, data: bytes) -> None:
        receive(connection, data)
        if data.endswith(last) and not connection.eof_received() and connection.transport is not None:
            connection.transport.close()

    monkeypatch.setattr(AiohttpConnection, "data_received", receive_end)


def overload(app: web.Application) -> None:
    """Make a service overloaded: its state says that any further response would come too late."""
    monitor = app[SERVICE].monitor
    monitor.stop()
    monitor.is_overloaded, monitor.in_flight, monitor.seconds_each = True, 1_000, 0.01


def add_in_flight(app: web.Application, requests: int) -> None:
    """Make a service believe that this many more requests are in flight."""
    app[SERVICE].monitor.in_flight += requests


def end_overload(app: web.Application) -> int:
    """Set the number of requests in flight to zero; return the number before."""
    monitor = app[SERVICE].monitor
    in_flight, monitor.in_flight = monitor.in_flight, 0
    return in_flight


def cached_keys(proxy: web.Application) -> list[object]:
    """Return the keys in spsp-client-proxy's cache of directory responses."""
    return list(proxy[DIRECTORY]._cache)
