"""HTTP's edge: what comes in too broken to become a request is answered with the error object, too.

aiohttp answers malformed HTTP in plain text from inside its protocol class, so that class and what makes it
are replaced. Tests serve apps through the same :class:`Runner`.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.app import KEEPALIVE_SECONDS, SERVICE, Service, from_aiohttp, refused
from chassis.asked import ReadByAiohttp
from chassis.connection import Connection
from chassis.errors import (
    InvalidHeaderError,
    InvalidUriParameterError,
    QuotingError,
    UnavailableError,
)
from chassis.tracing import TRACE_HEADER
from chassis.written import whole, written

MAX_LINE_BYTES: Final = 8_190
MAX_FIELD_BYTES: Final = MAX_LINE_BYTES - len(": ")
"""Of a header's name and value. As it is another number, an error's limit tells whether a URL is at fault."""
MAX_SHED: Final = 16
LOOKS: Final = 15
"""At each connection, while it is kept open without a request."""


class Handler(RequestHandler):
    """Aiohttp's part of a connection."""

    __slots__ = ("_newest_body", "connection", "service")

    service: Service
    connection: socket.socket | None

    def __init__(self, manager: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(manager, **options)
        self._newest_body: StreamReader = EMPTY_PAYLOAD

    @property
    def requests(self) -> int:
        """How many there have been, those with errors included."""
        return int(self._request_count)

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        # aiohttp's own task may not even have begun when the first request is there
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    @property
    def is_ending(self) -> bool:
        """Whether this connection takes nothing more: its client has sent all it will, or has gone."""
        return self.transport is None or bool(self._close or self._force_close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._newest_body = self._messages[-1][1]

    def take_no_more(self) -> None:
        """The client has sent all it will: nobody need wait for the rest of a body."""
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError("the connection ended within the body"))
            self._newest_body.feed_eof()
        self._close = True

    def _process_keepalive(self) -> None:
        """The server looks after all connections, whoever answers on them."""
        self._keepalive_handle = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP, or a failure outside the app: never a bare status (wire.md §7, promise 7)."""
        del request
        error: QuotingError
        if status >= 500:  # noqa: PLR2004
            error = UnavailableError("The service failed.", cause=repr(exc))
        elif isinstance(exc, LineTooLong) and exc.args[1] == MAX_LINE_BYTES:
            error = InvalidUriParameterError("The URL is longer than 8,190 bytes.")
        elif isinstance(exc, LineTooLong):
            error = InvalidHeaderError("A header line is longer than 8,190 bytes.")
        else:
            # behind the colon stands the line at fault, and that may be the one with the credentials
            cause = (message or "").partition(":")[0]
            error = InvalidHeaderError("This is not well-formed HTTP/1.1.", cause=cause)
        response = whole(refused(error, self.service))
        response.force_close()
        return response


class Server(web.Server):
    """Makes our connections instead of aiohttp's, and looks after them."""

    service: Service
    is_closing = False

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(*args, **options)
        self._open: dict[Connection, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, connection: socket.socket | None = None) -> Connection:  # type: ignore[override]
        return Connection(self, connection)

    @property
    def connections(self) -> list[Connection]:  # type: ignore[override]
        return list(self._open)

    def opened(self, connection: Connection) -> None:
        self._open[connection] = None

    def closed(self, connection: Connection, handler: Handler | None) -> None:
        """``connection`` is waited for when we stop until what ``handler`` does for it has ended, too."""
        task = handler._task_handler if handler is not None else None  # noqa: SLF001 - as aiohttp's server does
        if task is None:
            self._open.pop(connection, None)
        else:
            task.add_done_callback(lambda _: self._open.pop(connection, None))

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Part of a connection that is looked after."""

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Likewise."""

    def handler_of(self, connection: Connection) -> Handler:
        """Aiohttp's part of a connection."""
        assert connection.transport is not None  # noqa: S101 - something came on it
        handler = Handler(self, loop=self._loop, **self._kwargs)
        handler.service = self.service
        handler.connection = connection.socket
        handler.connection_made(connection.transport)
        return handler

    def keep_up(self) -> None:
        """Closes connections that have been kept long enough without a request, from now on."""
        self._timer = self._loop.call_later(KEEPALIVE_SECONDS / LOOKS, self.keep_up)
        for connection in self.connections:
            connection.close_if_quiet(LOOKS)

    def close_idle(self) -> None:
        """Closes what is kept open without a request, and from now on whatever comes.

        An answer of 503 would be final; a connection that closes before a reply has begun is repeated on
        another replica (wire.md §4).
        """
        self.is_closing = True
        for connection in self.connections:
            connection.close_if_idle()

    def shed_idle(self) -> int:
        """Close up to 16 idle connections, those that opened first; return their number."""
        idle = [connection for connection in self._open if connection.is_idle][:MAX_SHED]
        for connection in idle:
            connection.close_if_idle()
        return len(idle)

    def pre_shutdown(self) -> None:
        for connection in self.connections:
            connection.close()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - aiohttp's own
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(connection.shutdown(timeout) for connection in self.connections))
        self._open.clear()


class Runner(web.AppRunner):
    """Runs an app with our server."""

    def __init__(self, app: web.Application, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        options.setdefault("access_log", None)
        super().__init__(
            app,
            keepalive_timeout=KEEPALIVE_SECONDS,
            tcp_keepalive=False,  # chassis.http.acceptor has seen to that
            # a body with a Content-Encoding is refused; nothing may unpack it before that
            auto_decompress=False,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_FIELD_BYTES,
            shutdown_timeout=0.5,
            **options,
        )

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        service = self.app[SERVICE]
        server = Server(
            _outermost(made.request_handler, service),
            request_factory=made.request_factory,
            loop=asyncio.get_running_loop(),
            **self._kwargs,
        )
        server.service = service
        server.keep_up()
        return server


def _outermost(
    handle: Callable[[Any], Awaitable[web.StreamResponse]], service: Service
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        asked = ReadByAiohttp(request)
        for direct in service.direct:
            responding = direct(asked)
            if responding is not None:
                response = await responding
                return await written(request, response, is_last=service.is_leaving)
        try:
            return await handle(request)
        except HTTPException as raised:  # Expect, which aiohttp looks at before any middleware
            trace_ids = request.headers.getall(TRACE_HEADER, ())
            return whole(refused(from_aiohttp(raised), service, trace_ids))

    return handler
