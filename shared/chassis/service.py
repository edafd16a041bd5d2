"""The state that all requests of one running service share."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import hdrs

from chassis.admission import AdmissionQueue, LoadMonitor
from chassis.auth import Credentials
from chassis.configuration import Table
from chassis.database import Database
from chassis.deadlines import Deadlines
from chassis.errors import ForbiddenError, QuotingError, UnauthorizedError, UnavailableError, error_object
from chassis.http.body_budget import BodyBudget
from chassis.http.connection_limit import ConnectionLimit
from chassis.http.request import Request
from chassis.http.response import Respond, Response
from chassis.logs import URGENT_STATUS, Logs, iso_time
from chassis.measurements import Measurements
from chassis.metrics import RequestMetrics
from chassis.settings import Settings
from chassis.spans import Traced, Tracer
from chassis.tls import Tls
from chassis.tracing import TRACE_HEADER, trace_id_from
from chassis.users import key_of
from chassis.watched_files import WatchedFiles

OK: Final = 200

Check = Callable[[], Awaitable[Sequence[str]]]
"""Returns what a resource of the service lacks; empty when it is ready."""
ShownPath = Callable[[str, str | None], str]
"""A function that returns the path for the log line of a request.

Its arguments are the path of the request, and the pattern of the request's route (None without a route).
"""


OVERLOADED: Final = UnavailableError(
    "The service is overloaded and could not answer in time. Retry after 1 s."
)
_OVERLOADED_HEADERS: Final = tuple(OVERLOADED.headers.items())


class Answered(Traced, Protocol):
    """The fields of an answered request that its log line and its span show."""

    attempted: str | None
    idempotency_key: str | None
    began: float
    is_measured: bool


def whole_path(path: str, _pattern: str | None) -> str:
    return path


@dataclass(slots=True)
class Service:
    """One running service."""

    name: str
    settings: Settings
    logs: Logs
    metrics: RequestMetrics
    credentials: Credentials
    tls: Tls
    monitor: LoadMonitor
    queue: AdmissionQueue
    bodies: BodyBudget
    connections: ConnectionLimit
    shown_path: ShownPath = whole_path
    tracer: Tracer | None = None
    """Makes the spans; None if no URL for traces is configured."""
    checks: list[Check] = field(default_factory=list)
    files: WatchedFiles = field(init=False)
    """Files that are read again when they change, and at SIGHUP."""
    forgets: list[Callable[[], None]] = field(default_factory=list)
    """SIGHUP calls them after the files were read again. They clear caches."""
    warnings: dict[str, str] = field(default_factory=dict)
    """Faults for readiness that do not make the service unusable: a name, and a text without secrets."""
    measurements: Measurements = field(default_factory=Measurements)
    """Functions that wait for figures which `/metrics` shows."""
    tables: list[Table] = field(default_factory=list)
    """Functions that return the content of configuration files in force, for operators."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    accept: Callable[[Request, Respond], bool] = lambda _request, _respond: False
    """A function that answers a request, or returns False if no route of the service has its path."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of every HTTP response."""
    header_lines: str = ""
    """`headers` as header lines of HTTP/1.1."""
    is_leaving: bool = False
    """Whether readiness is 503 and each response closes its connection. Requests are still answered."""
    is_closed: bool = False
    """Whether new requests are rejected."""
    _unlogged: list[tuple[Answered, Response, float]] = field(default_factory=list)
    _operators: frozenset[str] = frozenset()
    _rejection_start: bytes = b""

    def __post_init__(self) -> None:
        self._rejection_start = error_object(OVERLOADED, self.name, "").removesuffix(b'"}')
        self.files = WatchedFiles(self.logs)
        self.announce(hdrs.SERVER, self.name)
        self._operators = frozenset(map(key_of, self.settings.operators))

    def add_database(self, database: Database) -> None:
        """Add the state of a database to readiness and metrics."""
        self.checks.append(database.missing)
        self.measurements.add(database.measure)
        self.metrics.registry.register(database.metrics)

    async def missing(self) -> list[str]:
        """Return what the service's own resources lack; empty if the service is ready (wire.md §6)."""
        missing = [problem for check in self.checks for problem in await check()]
        if self.is_leaving:
            missing.append("the service is shutting down")
        return missing

    async def reload(self) -> None:
        """Read all files again and clear all caches, as SIGHUP requests."""
        await self.files.reload()
        for forget in self.forgets:
            forget()

    def announce(self, header: str, value: str) -> None:
        """Add a header to every response."""
        self.headers[header] = value
        self.header_lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())

    def require_open(self, further: int = 0) -> None:
        """Raise UnavailableError if the service is shutting down or has no capacity for `further` more requests."""
        if self.is_closed:
            self.metrics.rejected["shutdown"] += 1
            raise UnavailableError("The service is shutting down. Retry after 1 s.")
        if self.monitor.in_flight + further > self.settings.max_in_flight:
            self.metrics.rejected["capacity"] += 1
            raise UnavailableError(
                f"The service is at capacity: {self.settings.max_in_flight} requests are in flight. Retry after 1 s."
            )

    def is_operator(self, caller: str | None) -> bool:
        """Whether the caller is one of the users in QUOTES_OPERATORS. `caller` is None without credentials."""
        return caller is not None and key_of(caller) in self._operators

    def require_operator(self, caller: str | None) -> None:
        """Raise ForbiddenError if the caller may not use the operations for operators.

        A `Route` passes `exchange.caller`, an aiohttp handler `request[CALLER]`.
        """
        if not self.is_operator(caller):
            raise ForbiddenError(
                "Only an operator may use this operation. QUOTES_OPERATORS names the operators."
            )

    def admits(self, request: Request, began: float, deadline: float) -> bool:
        """Whether the service admits a request; if not, `rejection` is the response.

        A rejection is a result and not an error, because under overload rejections are frequent and raising takes time.
        Raises UnavailableError if the service is shutting down or at capacity.
        """
        monitor = self.monitor
        if self.is_closed or monitor.in_flight > self.settings.max_in_flight:
            self.require_open()
        if monitor.admits(began - request.received, deadline - began, request.was_queued, request.is_excess):
            return True
        self.metrics.rejected["queue_full" if request.is_excess else "overload"] += 1
        return False

    def rejection(self, trace_id: str) -> Response:
        """Return the response to a request that was not admitted. All of it but the trace id was made before."""
        body = b'%b%b"}' % (self._rejection_start, trace_id.encode())
        return Response(
            OVERLOADED.status, body, _OVERLOADED_HEADERS, error_id=OVERLOADED.id, cause=OVERLOADED.message
        )

    def log_answered(self, answered: Answered, response: Response) -> None:
        """Log and count an answered request after the responses of this event loop iteration have been written.

        So logging one request does not delay the response to another.
        """
        self._unlogged.append((answered, response, time.monotonic()))
        if len(self._unlogged) == 1:
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self.flush_log)

    def flush_log(self) -> None:
        """Write the log lines of the requests that have been answered and not logged."""
        unlogged, self._unlogged = self._unlogged, []
        lines, is_urgent, at = [], False, iso_time(time.time())
        count, access_line, tracer = self.metrics.count, self.logs.access_line, self.tracer
        for answered, response, ended in unlogged:
            request, pattern, caller, began = (
                answered.request,
                answered.pattern,
                answered.caller,
                answered.began,
            )
            status, error, received = response.status, response.error_id, request.received
            # an error may be sent at once, so it does not show how long an answer takes
            if status == OK and answered.is_measured:
                self.monitor.answered(ended - began)
            method = request.method if request.method in hdrs.METH_ALL else "OTHER"
            seconds, waited = ended - received, began - received
            count((caller, method, pattern or "none", status, error, response.is_upstream), seconds, waited)
            shown_path = self.shown_path(request.path, pattern)
            line = access_line(
                at,
                answered.trace_id,
                caller,
                method,
                shown_path,
                status,
                seconds,
                None if error is None else (error, response.cause),
                answered.idempotency_key,
                answered.uuid,
                answered.attempted,
            )
            lines.append(line)
            if status >= URGENT_STATUS:
                is_urgent = True
            if tracer is not None:
                tracer.end(answered, response, shown_path, ended)
        self.logs.write(lines, now=is_urgent)

    def error_response(self, error: QuotingError, trace_id: str) -> Response:
        """Return the response for an error; its body is the error object (wire.md §4)."""
        headers = error.headers
        if isinstance(error, UnauthorizedError):
            headers = {**headers, hdrs.WWW_AUTHENTICATE: challenge(self.name)}
        return Response(
            error.status,
            error_object(error, self.name, trace_id),
            tuple(headers.items()),
            error_id=error.id,
            cause=error.cause or error.message,
        )

    def refuse(self, error: QuotingError, respond: Respond, trace_header: str | None = None) -> None:
        """Answer and log a request that has reached no route, such as malformed HTTP."""
        trace_id = trace_id_from(trace_header)
        response = self.error_response(error, trace_id)
        self.log_answered(_Unrouted(trace_id), response)
        respond(response, {TRACE_HEADER: trace_id})


class _Unrouted(Answered):
    """A request of which only the trace id is known."""

    caller = attempted = idempotency_key = uuid = pattern = None
    span = line = None
    is_unsampled = False
    is_measured = True

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.began = time.monotonic()
        self.request = Request("OTHER", "", "", {}, b"", self.began, "")


def challenge(service: str) -> str:
    """Return the value of the WWW-Authenticate header for a 401 response."""
    return f'Basic realm="{service}", charset="UTF-8"'


def as_error(raised: BaseException) -> QuotingError:
    """Return the error that a caller gets for an exception: a QuotingError itself, or UnavailableError."""
    if isinstance(raised, QuotingError):
        return raised
    return UnavailableError("The service failed.", cause="".join(traceback.format_exception(raised)))
