"""Access to the inside of a service that runs in the test's process, for things that no request shows.

No other module of the tests knows these names.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from aiohttp import web

from chassis import admission
from chassis.admission import AdmissionQueue, LoadMonitor
from chassis.app import SERVICE
from chassis.batching import Batcher
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
    """The runner that `chassis.run` serves an app with."""
    service = app[SERVICE]
    return Runner(app, service, uses_protocol=service.settings.http == "protocol")


def service_name(app: web.Application) -> str:
    return app[SERVICE].name


def collect_lines(app: web.Application) -> CollectedLines:
    """Send the app's log to the test from now on."""
    lines = CollectedLines()
    app[SERVICE].logs.writer = lines
    return lines


async def reload(app: web.Application) -> None:
    """Do what SIGHUP does."""
    await app[SERVICE].reload()


def requests_in_flight(app: web.Application) -> int:
    return app[SERVICE].monitor.in_flight


def requests_waiting(app: web.Application) -> int:
    """Requests that are queued until the service is less busy."""
    return app[SERVICE].monitor.queued


def is_idle(app: web.Application) -> bool:
    """Whether no request is in flight and none is queued."""
    return (0, 0) == (requests_in_flight(app), requests_waiting(app))


def fail_readiness(app: web.Application) -> None:
    """Do what SIGTERM does first: readiness fails, and each response closes its connection."""
    app[SERVICE].is_leaving = True


def reject_new_requests(app: web.Application) -> None:
    """Do what SIGTERM does after the grace period."""
    app[SERVICE].is_closed = True


def fail_requests(
    monkeypatch: Any, error: BaseException | type[BaseException], *, trace_id: str = ""
) -> None:
    """Let each request fail unexpectedly, or only those with this trace id."""

    def fail(*args: object, **more: object) -> Call:
        if not trace_id or trace_id in (*args, *more.values()):
            raise error
        return Call(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "Call", fail)


def fail_responses(monkeypatch: Any, error: type[BaseException]) -> None:
    """Let a hop fail unexpectedly when it reads the response of its next hop."""

    def fail(*_args: object, **_more: object) -> None:
        raise error

    monkeypatch.setattr(NextHop, "_response", fail)


def queue_every_request(monkeypatch: Any) -> None:
    """Let every service queue each request for a moment, as it does when it is busy."""
    monkeypatch.setattr(LoadMonitor, "must_queue", True)


def limit_waiting_requests(monkeypatch: Any, limit: int) -> None:
    """Let services that start from now on hold at most this number of requests that wait for a batch."""
    defaults = {**(Batcher.__init__.__kwdefaults__ or {}), "max_waiting": limit}
    monkeypatch.setattr(Batcher.__init__, "__kwdefaults__", defaults)


def wait_in_queue(monkeypatch: Any, seconds: float) -> None:
    """Let each queued request have waited so long before its turn comes."""
    monkeypatch.setattr(admission, "_seconds_since_data", lambda _socket: seconds)


def wait_in_socket(monkeypatch: Any, seconds: float) -> None:
    """Let each request have waited so long in the buffer of its socket before the service read it."""
    monkeypatch.setattr(LoadMonitor, "waited", lambda _monitor, _socket, _now: seconds)


def delay_queued_requests(monkeypatch: Any, seconds: float) -> None:
    """Start each queued request only after this time."""

    def add(_queue: AdmissionQueue, begin: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(seconds, begin)

    monkeypatch.setattr(AdmissionQueue, "add", add)


def overload(app: web.Application) -> None:
    """Put the service where it stands under overload: each further response would come too late."""
    monitor = app[SERVICE].monitor
    monitor.stop()
    monitor.is_overloaded, monitor.in_flight, monitor.seconds_each = True, 1_000, 0.01


def end_overload(app: web.Application) -> int:
    """Return how many requests were in flight, and reset the number."""
    monitor = app[SERVICE].monitor
    in_flight, monitor.in_flight = monitor.in_flight, 0
    return in_flight


def cached_keys(proxy: web.Application) -> list[object]:
    """The keys of the proxy's cache of directory responses."""
    return list(proxy[DIRECTORY]._cache)
