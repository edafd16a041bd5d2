"""One request while it is being answered. It is the same for every service, and for a request alone or in a batch.

`Request` -> `Exchange` -> `Route.handle` -> `Response`. The exchange does the work that every request needs: it sets
the trace id and the deadline, checks the request, sends exactly one response, and writes the log line and the metrics.
The checks follow the order of wire.md §4: path and method, admission, credentials, media type, size. All later checks
are the route's own work.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

from aiohttp import hdrs

from chassis.auth import attempted_name
from chassis.batching import Item
from chassis.content import MAX_BODY_BYTES, require_json
from chassis.errors import (
    MethodNotAllowedError,
    PayloadTooLargeError,
    QuotingError,
    TooManyRequestsError,
    UnauthorizedError,
    UpstreamTimeoutError,
)
from chassis.http.request import Request
from chassis.http.response import Respond, Response
from chassis.service import Service, as_error
from chassis.tracing import TRACE_HEADER, TRACEPARENT_HEADER, Line, SpanContext, is_traceparent, trace_id_from

_TRACE: Final = TRACE_HEADER.lower()
_NO_DEADLINE: Final = float("inf")
_REPEAT: Final = "The outcome is unknown; repeating is safe."


class Exchange(Item[Any, Any]):
    """One request while it is being answered. As an `Item`, it can wait in a batch for a result and answer with it."""

    __slots__ = (
        "_explain",
        "_finish",
        "_respond",
        "_task",
        "_tick",
        "attempted",
        "began",
        "caller",
        "header_error",
        "idempotency_key",
        "is_logged",
        "is_measured",
        "is_settled",
        "is_unsampled",
        "line",
        "pattern",
        "repeat_to",
        "reply_headers",
        "request",
        "service",
        "span",
        "trace_id",
        "uuid",
        "waits_for",
    )

    is_settled: bool

    def __init__(self, service: Service, request: Request, respond: Respond, pattern: str | None) -> None:
        """`pattern` is the pattern of the route's path, for metrics; None if there is no route."""
        self.value: Any = None
        self.deadline = _NO_DEADLINE
        self.service = service
        self.request = request
        self.pattern = pattern
        self.began = time.monotonic()
        self.trace_id = trace_id_from(request.headers.get(_TRACE))
        self.reply_headers = {TRACE_HEADER: self.trace_id}
        """Headers that every response to this request gets, errors included."""
        self.caller: str | None = None
        """Name of the caller; None until the credentials are checked."""
        self.attempted: str | None = None
        """Name with which the request tried to authenticate, if that failed; cut for the log."""
        self.idempotency_key: str | None = None
        """Key of a reservation, for the log line. It is also among `reply_headers`."""
        self.uuid: str | None = None
        """Uuid of the quote that the request names or reserves, in lower case; None until it is known. For the log line."""
        self.waits_for: str | None = None
        """Name of the service or resource that the request waits for; None if it waits for this service alone."""
        self.header_error: QuotingError | None = None
        """Error of a header that `Route.prepare` reads early. The route raises it after the checks that come first."""
        self.is_logged = self.is_measured = True
        """`is_measured`: whether the time until the answer counts for admission."""
        self.is_settled = self.is_unsampled = False
        """`is_unsampled`: whether the request is known not to be sampled. `span` is then made only if the request fails
        or is slow."""
        self.span: SpanContext | None = None
        self.line: Line | None = None
        """The place of the request in the batch in which it was sent to the next hop."""
        self.repeat_to: str | None = None
        """Base URL to which the call is sent once more if it was damaged on its way."""
        self._explain: Callable[[Exception], Exception] | None = None
        self._finish: Callable[[Exchange, Any], Response | None]
        self._respond = respond
        self._task: asyncio.Task[None] | None = None
        self._tick = 0
        service.monitor.in_flight += 1  # until it is settled

    # from the request to its route

    def answer(self, route: "Route") -> None:
        """Check the request, then let `route` handle it."""
        try:
            self._check(route)
        except Exception as error:  # noqa: BLE001 - any error becomes a response
            self.fail(error)
        if not self.is_settled and self.deadline != _NO_DEADLINE:
            self._tick = self.service.deadlines.watch(self, self.deadline)

    def attempt(self, step: Callable[[], None]) -> None:
        """Call `step`. If it raises an error, answer with that error."""
        try:
            step()
        except Exception as error:  # noqa: BLE001 - as in `answer`
            self.fail(error)

    def _check(self, route: "Route") -> None:
        service = self.service
        route.prepare(self)
        if not service.admits(self.request, self.began, self.deadline):
            self.reply(service.rejection(self.trace_id))
            return
        if not route.is_open:
            self.caller = service.credentials.known(self.request.headers.get("authorization", ""))
            if self.caller is None:
                self.run(self._authenticate_then(route))
                return
        self._receive(route)

    async def authenticate(self) -> None:
        """Set `caller` to the caller's name. Raises UnauthorizedError, TooManyRequestsError."""
        header = self.request.headers.get("authorization")
        headers = () if header is None else (header,)
        try:
            self.caller = await self.service.credentials.check(headers, self.request.address)
        except (UnauthorizedError, TooManyRequestsError):
            self.attempted = attempted_name(header)
            raise

    async def _authenticate_then(self, route: "Route") -> None:
        await self.authenticate()
        self._receive(route)

    def _receive(self, route: "Route") -> None:
        """Check the body's media type and size, read the body if necessary, and let `route` handle the request."""
        if route.has_body:
            request = self.request
            require_json(request.headers)
            if len(request.body) > MAX_BODY_BYTES:
                raise PayloadTooLargeError
            if request.read is not None:
                self.run(self._read_then(route, request.read(MAX_BODY_BYTES)))
                return
        route.handle(self)

    async def _read_then(self, route: "Route", reading: Awaitable[bytes]) -> None:
        # a body has its own time limit: if it does not arrive, the caller is at fault and gets 408, not 504
        if self._tick:
            self.service.deadlines.forget(self, self._tick)
            self._tick = 0
        self.request.body = await reading
        if self.deadline != _NO_DEADLINE:
            if time.monotonic() >= self.deadline:
                raise UpstreamTimeoutError
            self._tick = self.service.deadlines.watch(self, self.deadline)
        route.handle(self)

    # from the route to a response

    def traceparent(self) -> str | None:
        """Return the header `traceparent` for the requests that this one causes; None if there is none so far.

        If the service makes spans and sends the request outside a batch, it then makes one.
        """
        given = self.request.headers.get(TRACEPARENT_HEADER)
        tracer = self.service.tracer
        if tracer is None:
            return given if given is not None and is_traceparent(given) else None
        if given is None and (self.request.line is not None or not tracer.may_sample(self.trace_id)):
            self.is_unsampled = True
            return None
        self.span = span = tracer.begin(given, self.trace_id)
        self.is_unsampled = not span.is_sampled
        return span.traceparent

    def needed_span(self) -> SpanContext | None:
        """Return the place of the request in its trace. If there is none so far, make it."""
        tracer = self.service.tracer
        if self.span is None and tracer is not None:
            self.span = tracer.place(self)
        return self.span

    def note_line(self, line: Line) -> None:
        self.line = line

    def wait(
        self,
        value: object,
        finish: "Callable[[Exchange, Any], Response | None]",
        explain: Callable[[Exception], Exception] | None = None,
    ) -> None:
        """Prepare the exchange to wait in a batch with `value`. Add the exchange to a batcher next.

        `finish` gets the exchange and the result, and returns the response. It returns None if the exchange has to
        wait again, and may raise a QuotingError. `explain` converts an error of the batch to the error that the caller
        gets.
        """
        self.value = value
        self._finish = finish
        self._explain = explain

    def run(self, coroutine: Coroutine[Any, Any, Response | None]) -> None:
        """Answer with the response of a coroutine. Use it for work that waits, such as checking a new password.

        The coroutine returns None if other code will settle the exchange.
        """
        self._task = asyncio.get_running_loop().create_task(self._run(coroutine))
        # a task that is cancelled before its first step does not await the coroutine, and Python would warn of that
        self._task.add_done_callback(lambda _: coroutine.close())

    async def _run(self, coroutine: Coroutine[Any, Any, Response | None]) -> None:
        try:
            response = await coroutine
        except Exception as error:  # noqa: BLE001 - as in `answer`
            self.fail(error)
        except BaseException as error:  # cancelled: the deadline has passed, or the service is shutting down
            self.fail(error)
            raise
        else:
            if response is not None:
                self.reply(response)

    def settle(self, result: object) -> None:
        """Answer with the response that `finish` makes from the result."""
        if self.is_settled:
            return
        try:
            response = self._finish(self, result)
        except Exception as error:  # noqa: BLE001 - as in `answer`
            self._fail(error)
        else:
            if response is not None:
                self.reply(response)

    def fail(self, error: BaseException) -> None:
        """Answer with this error."""
        if self.is_settled:
            return
        if self._explain is not None and isinstance(error, Exception):
            error = self._explain(error)
        self._fail(error)

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, (TimeoutError, UpstreamTimeoutError)):
            error = self._timeout(error)
        self.reply(self.service.error_response(as_error(error), self.trace_id))
        # its frames hold the request, and something that they hold may hold the error: a reference cycle
        error.__traceback__ = None

    def _timeout(self, error: BaseException) -> QuotingError:
        """Return the error for a deadline that has passed. It names the service that has not answered."""
        cause: str | None = getattr(error, "cause", None)
        if self.waits_for is not None:
            return UpstreamTimeoutError(f"{self.waits_for} did not answer in time. {_REPEAT}", cause=cause)
        return UpstreamTimeoutError(cause=cause or f"{self.service.name} itself did not finish in time")

    def end(self) -> None:
        """Answer with UpstreamTimeoutError, because the deadline has passed."""
        self._fail(UpstreamTimeoutError())
        if self._task is not None:
            self._task.cancel()

    def reply(self, response: Response) -> None:
        """Send the response. Later calls do nothing."""
        if self.is_settled:
            return
        self.is_settled = True
        service = self.service
        if self._tick:
            service.deadlines.forget(self, self._tick)
        service.monitor.in_flight -= 1
        if self.is_logged:
            service.log_answered(self, response)
        self._respond(response, self.reply_headers)


class Route(Protocol):
    """The handling of requests with one method and path."""

    pattern: str
    """The path. A part that varies is a name in braces."""
    is_open: bool
    """Whether the route needs no credentials, or checks credentials itself."""
    has_body: bool
    """Whether requests have a JSON body."""

    def prepare(self, exchange: Exchange, /) -> None:
        """Set the exchange's deadline and `reply_headers`, before any check. Raises QuotingError."""

    def handle(self, exchange: Exchange, /) -> None:
        """Settle the exchange, pass it to code that will settle it, or `run` a coroutine. Raises QuotingError."""


class CoroutineRoute:
    """A route whose work is one coroutine."""

    is_open = False

    def __init__(
        self,
        pattern: str,
        work: Callable[[Exchange], Coroutine[Any, Any, Response]],
        *,
        has_body: bool = False,
    ) -> None:
        self.pattern = pattern
        self.has_body = has_body
        self._work = work

    def prepare(self, _exchange: Exchange, /) -> None:
        pass

    def handle(self, exchange: Exchange) -> None:
        exchange.run(self._work(exchange))


class RefusingRoute:
    """A route that answers with an error, because the service has no such path or method."""

    is_open = True
    has_body = False

    def __init__(self, pattern: str, error: QuotingError) -> None:
        self.pattern = pattern
        self._error = error

    def prepare(self, _exchange: Exchange, /) -> None:
        raise self._error

    def handle(self, _exchange: Exchange, /) -> None:
        raise self._error


class Routes:
    """Routes by path and method. Only the last segment of a path may vary."""

    def __init__(self) -> None:
        self.all: list[tuple[str, Route]] = []
        self.endpoints: dict[str, Callable[[Request, Respond], None]] = {}
        """Functions by path, for requests that become several exchanges: batches."""
        self._fixed: dict[str, dict[str, Route]] = {}
        self._varying: dict[str, dict[str, Route]] = {}

    def add(self, method: str, route: Route) -> None:
        prefix, brace, _ = route.pattern.partition("{")
        (self._varying if brace else self._fixed).setdefault(prefix, {})[method] = route
        self.all.append((method, route))

    def find(self, method: str, path: str) -> Route | None:
        """Return the route; one that answers 405 if only the method is unknown; None if the path is unknown."""
        by_method = self._fixed.get(path)
        if by_method is None:
            prefix, slash, last = path.rpartition("/")
            by_method = self._varying.get(prefix + slash) if last else None
            if by_method is None:
                return None
        route = by_method.get(method)
        if route is None:
            pattern = next(iter(by_method.values())).pattern
            allow = ", ".join(sorted(by_method))
            return RefusingRoute(pattern, MethodNotAllowedError(headers={hdrs.ALLOW: allow}))
        return route


def accept(service: Service, routes: Routes, request: Request, respond: Respond) -> bool:
    """Answer a request and return True; return False without an answer if no route has the request's path."""
    endpoint = routes.endpoints.get(request.path)
    if endpoint is not None:
        endpoint(request, respond)
        return True
    route = routes.find(request.method, request.path)
    if route is None:
        return False
    Exchange(service, request, respond, route.pattern).answer(route)
    return True
