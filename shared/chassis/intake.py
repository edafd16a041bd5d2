"""The way in for messages: routes, and what every message meets before and after its route's own work.

A message meets the same whether it came alone over HTTP or as one line among others (wire.md §4, §8): what
comes while the service stops or has its hands full is refused, then come the credentials, then the route's
own work; whatever is raised becomes an error object; a log line and the metrics say how it went.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from aiohttp import hdrs, web

from chassis.app import SERVICE, Service, as_error, error_headers
from chassis.asked import Asked, Response
from chassis.content import MAX_BODY_BYTES, require_json
from chassis.errors import MethodNotAllowedError, QuotingError, error_object
from chassis.logs import URGENT_STATUS, iso_time
from chassis.messages import Message, Reply


class Route(Protocol):
    """What one method and path do."""

    pattern: str
    """The path, with names in braces where it varies: for metrics."""
    is_open: bool
    """Whether anybody may call it: what it does itself says who the caller is."""

    def begin(self, message: Message) -> None:
        """Called before anything can be refused."""

    async def answer(self, message: Message) -> Reply:
        """The reply, or raises a QuotingError."""


class Plain:
    """A route that is a coroutine and nothing more."""

    is_open = False

    def __init__(self, pattern: str, work: Callable[[Message], Awaitable[Reply]]) -> None:
        self.pattern = pattern
        self._work = work

    def begin(self, message: Message) -> None:
        del message

    async def answer(self, message: Message) -> Reply:
        return await self._work(message)


class Refusing:
    """A route that only refuses, before anything else is looked at."""

    is_open = False

    def __init__(self, pattern: str, error: QuotingError) -> None:
        self.pattern = pattern
        self._error = error

    def begin(self, message: Message) -> None:
        del message
        raise self._error

    async def answer(self, message: Message) -> Reply:
        del message
        raise self._error


class Routes:
    """Routes by path and method. A path may end in one segment that varies."""

    def __init__(self) -> None:
        self._of_path: dict[str, dict[str, Route]] = {}
        self._below: dict[str, dict[str, Route]] = {}

    def add(self, method: str, route: Route) -> None:
        """Adds a route under its pattern, of which only the last segment may be in braces."""
        prefix, brace, _ = route.pattern.partition("{")
        (self._below if brace else self._of_path).setdefault(prefix, {})[method] = route

    def find(self, method: str, path: str) -> Route | None:
        """The route, one that refuses the method, or None where there is no such path."""
        of_method = self._of_path.get(path)
        if of_method is None:
            prefix, slash, last = path.rpartition("/")
            of_method = self._below.get(prefix + slash) if last else None
            if of_method is None:
                return None
        route = of_method.get(method)
        if route is None:
            pattern = next(iter(of_method.values())).pattern
            allow = ", ".join(sorted(of_method))
            return Refusing(pattern, MethodNotAllowedError(headers={hdrs.ALLOW: allow}))
        return route


async def take(service: Service, message: Message, route: Route) -> Reply:
    """The reply to a message, never an exception; the same however the message came."""
    pace = service.pace
    pace.in_hand += 1
    try:
        route.begin(message)
        service.refuse_new()
        service.refuse_late(message.waited, message.time_left)
        if not route.is_open:
            message.caller = await service.credentials.check(
                message.headers.getall(hdrs.AUTHORIZATION, ()), message.address
            )
        reply = await route.answer(message)
    except Exception as raised:  # noqa: BLE001 - the one place for messages: whatever fails, the caller gets an answer
        reply = refusal(as_error(raised), service, message.trace_id)
    finally:
        pace.in_hand -= 1
    tell(service, [(message, route.pattern, reply, time.monotonic())])
    return reply


class Told(Protocol):
    """What is told of a message that has been answered."""

    @property
    def trace_id(self) -> str: ...
    @property
    def caller(self) -> str | None: ...
    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def began(self) -> float: ...
    @property
    def waited(self) -> float: ...


def tell(service: Service, answered: Iterable[tuple[Told, str, Reply, float]]) -> None:
    """Tells operators, and who looks for overload, how it went.

    Of each message: the pattern of its route, its reply, and when it was answered, on the monotonic clock.
    """
    pace, logs, shown_path = service.pace, service.logs, service.shown_path
    lines, is_urgent, told_at = [], False, iso_time(time.time())
    for message, pattern, reply, at in answered:
        seconds, status = at - message.began, reply.status
        if status == 200:  # noqa: PLR2004 - what is refused may be so at once
            pace.answered(seconds - message.waited)
        method = message.method if message.method in hdrs.METH_ALL else "OTHER"
        service.metrics.count(method, pattern, status, seconds)
        line = logs.request_line(
            told_at,
            message.trace_id,
            message.caller,
            method,
            shown_path(message.path, pattern),
            status,
            seconds,
            (reply.error_id, reply.cause) if reply.error_id is not None else None,
        )
        lines.append(line)
        is_urgent = is_urgent or status >= URGENT_STATUS
    logs.write(lines, now=is_urgent)


def refusal(error: QuotingError, service: Service, trace_id: str) -> Reply:
    """The reply that an error is (wire.md §4)."""
    return Reply(
        error.status,
        error_object(error, service.name, trace_id),
        tuple(error_headers(error, service.name).items()),
        error_id=error.id,
        cause=error.cause or error.message,
    )


class HttpMessage(Message):
    """A message that came alone."""

    __slots__ = ("_asked",)

    def __init__(self, asked: Asked, waited: float) -> None:
        super().__init__(asked.method, asked.path, asked.query, asked.headers)
        self._asked = asked
        self.waited = waited
        self.began -= waited

    @property
    def address(self) -> str:
        return self._asked.address

    @property
    def origin(self) -> str:
        return self._asked.origin

    async def body(self) -> bytes:
        require_json(self.headers)
        return await self._asked.read(MAX_BODY_BYTES)


def serve_routes(app: web.Application, routes: Routes) -> None:
    """Answers what ``routes`` knows, past aiohttp's router and middlewares; all else goes to these."""
    service = app[SERVICE]

    def direct(asked: Asked) -> Awaitable[Response] | None:
        route = routes.find(asked.method, asked.path)
        return None if route is None else _answered(service, asked, route)

    service.direct.append(direct)


async def _answered(service: Service, asked: Asked, route: Route) -> Response:
    message = HttpMessage(asked, service.pace.waited(asked.connection))
    reply = await take(service, message, route)
    return response(service, message.trace_id, message.reply_headers, reply)


def response(service: Service, trace_id: str, reply_headers: Mapping[str, str], reply: Reply) -> Response:
    """A reply over HTTP; ``reply_headers`` are what each reply to the message carries."""
    headers = {hdrs.CONTENT_TYPE: reply.content_type, **service.headers(trace_id), **reply_headers}
    if reply.headers:
        headers.update(reply.headers)
    return Response(reply.status, headers, reply.body)
