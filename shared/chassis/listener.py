"""HTTP's edge: what comes in too broken to become a request is answered with the error object, too.

aiohttp answers malformed HTTP in plain text from inside its protocol class, so that class and what makes it
are replaced. Tests serve apps through the same :class:`Runner`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.app import KEEPALIVE_SECONDS, SERVICE, Exchange, Service, error_response, finish, from_aiohttp
from chassis.errors import InvalidHeaderError, InvalidUriParameterError, QuotingError, UnavailableError
from chassis.telemetry import TRACE_HEADER, trace_id_from

__all__ = ["BaseProtocol", "Runner"]


class Protocol(RequestHandler):
    """One connection."""

    __slots__ = ("service",)

    service: Service

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(self._manager, Server) and self._manager.is_closing:
            self.force_close()  # taken on a moment too late: nothing was begun, so the caller may repeat

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
        elif isinstance(exc, LineTooLong) and _is_request_line(exc):
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

        Without this a truncated body would end in a closed connection instead of a 400.
        """
        request = self._current_request
        if request is None:
            return False
        if not request.content.is_eof():
            request.content.set_exception(RequestPayloadError("the connection ended within the body"))
        self._close = True
        return True


def _is_request_line(error: LineTooLong) -> bool:
    line = error.args[0]
    # aiohttp's C parser gives a bytearray, the one in Python bytes
    text = line.decode("latin-1") if isinstance(line, bytes | bytearray) else str(line)
    return text.lstrip("b'").startswith(("/", "GET", "POST", "PUT", "http"))


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
        error=(error.id, error.cause),
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
        try:
            return await handle(request)
        except HTTPException as raised:  # Expect, which aiohttp looks at before any middleware
            return answer(from_aiohttp(raised), service, request.headers.getall(TRACE_HEADER, ()))

    return handler
