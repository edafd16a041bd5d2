"""HTTP's edge: what comes in too broken to become a request is answered with the error object, too.

aiohttp answers malformed HTTP in plain text from inside its protocol class, so that class and what makes it
are replaced. Tests serve apps through the same :class:`Runner`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.app import KEEPALIVE_SECONDS, SERVICE, Exchange, Service, error_response, finish, from_aiohttp
from chassis.errors import InvalidHeaderError, InvalidUriParameterError, QuotingError, UnavailableError
from chassis.telemetry import TRACE_HEADER, trace_id_from

MOST_LINE_BYTES: Final = 8_190
MOST_FIELD_BYTES: Final = MOST_LINE_BYTES - len(": ")
"""Of a header's name and value. As it is another number, an error's limit tells whether a URL is at fault."""


class Protocol(RequestHandler):
    """One connection."""

    __slots__ = ("_newest_body", "service")

    service: Service
    _newest_body: StreamReader

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._newest_body = EMPTY_PAYLOAD
        super().connection_made(transport)
        if isinstance(self._manager, Server) and self._manager.is_closing:
            self.force_close()  # taken on a moment too late: nothing was begun, so the caller may repeat

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            self._newest_body = self._messages[-1][1]

    def close_if_idle(self) -> None:
        """Closes a connection on which no request is under way."""
        if self._waiter is not None and not self._waiter.done():
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Malformed HTTP, or a failure outside the app: never a bare status (wire.md §7, promise 7)."""
        del request
        if status >= 500:  # noqa: PLR2004
            error: QuotingError = UnavailableError("The service failed.", cause=repr(exc))
        elif isinstance(exc, LineTooLong) and exc.args[1] == MOST_LINE_BYTES:
            error = InvalidUriParameterError("The URL is longer than 8,190 bytes.")
        elif isinstance(exc, LineTooLong):
            error = InvalidHeaderError("A header line is longer than 8,190 bytes.")
        else:
            # behind the colon stands the line at fault, and that may be the one with the credentials
            cause = (message or "").partition(":")[0]
            error = InvalidHeaderError("This is not well-formed HTTP/1.1.", cause=cause)
        response = answer(error, self.service)
        response.force_close()
        return response

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent all it will may still read: it gets its answer.

        Without this a truncated body would end in a closed connection instead of a 400. The request need not
        have been begun: its last bytes and the end may come together.
        """
        if self._waiter is not None and not self._waiter.done():
            return False  # nothing is under way
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError("the connection ended within the body"))
            self._newest_body.feed_eof()  # nobody need wait for the rest of it
        self._close = True
        return True


def answer(error: QuotingError, service: Service, trace_ids: Sequence[str] = ()) -> web.Response:
    """The reply to what never became a request of the app, with its log line."""
    exchange = Exchange(trace_id_from(trace_ids), 0.0)
    service.telemetry.request(
        trace_id=exchange.trace_id,
        caller=None,
        method="OTHER",
        path="",
        route="none",
        status=error.status,
        seconds=0.0,
        error=(error.id, error.cause or error.message),
    )
    response = error_response(error, service.name, exchange.trace_id)
    finish(response, service, exchange)
    return response


class Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    service: Service
    options: dict[str, Any]
    is_closing = False

    def __call__(self) -> RequestHandler:
        protocol = Protocol(self, loop=self._loop, **self._kwargs)
        protocol.service = self.service
        return protocol

    def close_idle(self) -> None:
        """Closes what is kept open without a request, and from now on whatever comes.

        An answer of 503 would be final; a connection that closes before a reply has begun is repeated on
        another replica (wire.md §4).
        """
        self.is_closing = True
        for connection in self.connections:
            if isinstance(connection, Protocol):
                connection.close_if_idle()


class Runner(web.AppRunner):
    """Runs an app with our server."""

    def __init__(self, app: web.Application, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        options.setdefault("access_log", None)
        super().__init__(
            app,
            keepalive_timeout=KEEPALIVE_SECONDS,
            # a body with a Content-Encoding is refused; nothing may unpack it before that
            auto_decompress=False,
            max_line_size=MOST_LINE_BYTES,
            max_field_size=MOST_FIELD_BYTES,
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
        return server


def _outermost(
    handle: Callable[[Any], Awaitable[web.StreamResponse]], service: Service
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        for direct in service.direct:
            answering = direct(request)
            if answering is not None:
                return await answering
        try:
            return await handle(request)
        except HTTPException as raised:  # Expect, which aiohttp looks at before any middleware
            return answer(from_aiohttp(raised), service, request.headers.getall(TRACE_HEADER, ()))

    return handler
