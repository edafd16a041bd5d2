"""HTTP's edge: what comes in too broken to become a request is answered with the error object, too.

aiohttp answers malformed HTTP in plain text from inside its protocol class, so that class and what makes it
are replaced. Tests serve apps through the same :class:`Runner`.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_exceptions import HTTPException
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.app import KEEPALIVE_SECONDS, SERVICE, Service, from_aiohttp, refused
from chassis.asked import ReadByAiohttp, Response
from chassis.errors import (
    InvalidHeaderError,
    InvalidUriParameterError,
    PayloadTooLargeError,
    QuotingError,
    UnavailableError,
)
from chassis.pace import waited_in
from chassis.plain import Plain, plain
from chassis.telemetry import TRACE_HEADER
from chassis.written import LAST_CHUNK, begun, chunk, whole, written

MOST_LINE_BYTES: Final = 8_190
MOST_FIELD_BYTES: Final = MOST_LINE_BYTES - len(": ")
"""Of a header's name and value. As it is another number, an error's limit tells whether a URL is at fault."""
MOST_HELD_BYTES: Final = 64 * 1024


class Protocol(RequestHandler):
    """One connection.

    A request that is plain, has come in whole and is for a route of ours is answered here. All else is aiohttp's,
    and what comes next on the connection too, until it is known again where a request begins.
    """

    __slots__ = (
        "_answering",
        "_came",
        "_held",
        "_is_answering",
        "_newest_body",
        "_to_come",
        "connection",
        "service",
    )

    service: Service

    def __init__(self, manager: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's own
        super().__init__(manager, **options)
        self._newest_body: StreamReader = EMPTY_PAYLOAD
        self._is_answering = False
        """Whether a request is being answered here."""
        self._answering: asyncio.Task[None] | None = None
        """What does that, where it takes a task."""
        self._held = b""
        self._came: float | None = None
        """When what is held came, where it is in the waiting room; on the monotonic clock."""
        self._to_come: int | None = 0
        """Bytes of the request that aiohttp reads; None where nobody knows."""
        self.connection: socket.socket | None = None
        """The accepted socket itself: each look through what uvloop puts in its place costs eight times as much."""

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        if self._is_answering:
            return False
        # aiohttp's own task may not even have begun when the first request is there
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if isinstance(self._manager, Server) and self._manager.is_closing:
            self.force_close()  # taken on a moment too late: nothing was begun, so the caller may repeat

    def data_received(self, data: bytes) -> None:
        if self._is_answering:
            self._hold(data)
        elif self.service.room.is_for_who_comes and not self._to_come and self.is_idle:
            self._is_answering = self._request_in_progress = True
            self._hold(data)
            self._came = time.monotonic() - waited_in(self.connection)
            self.service.room.add(self._enter)
        else:
            self._look_at(data)

    def _enter(self) -> None:
        """Leaves the waiting room, if it has not before its turn."""
        came, self._came = self._came, None
        if came is None:
            return
        if self.transport is None or self.transport.is_closing():
            self._end_answer()
            return
        self._is_answering = self._request_in_progress = False
        try:
            self._look_at(self._release(), came)
        except BaseException:  # as the event loop does with what fails as soon as it is read
            self._break_off()
            raise

    def _look_at(self, data: bytes, came: float | None = None) -> None:
        if not self._is_answered_here(data, came):
            super().data_received(data)
            if self._messages:
                self._newest_body = self._messages[-1][1]

    def _is_answered_here(self, data: bytes, came: float | None) -> bool:
        """Begins to answer ``data`` where that is a request for here; else sees where it ends."""
        if not data or self._to_come is None or self._close or self._force_close:
            return False
        if self._to_come:
            self._to_come -= len(data)
            if self._to_come < 0:
                self._to_come = None
            return False
        request = plain(data)
        self._to_come = None if request is None else request.missing
        return request is not None and not request.missing and self.is_idle and self._begin(request, came)

    def _begin(self, request: Plain, came: float | None) -> bool:
        asked = _Whole(request, self, came)
        self._is_answering = True
        self._request_in_progress = True  # which aiohttp waits for when it stops
        self._close = request.is_last
        express = self.service.express
        if express is not None and express(asked, self._respond):
            return True
        for direct in self.service.direct:
            responding = direct(asked)
            if responding is not None:
                self._answering = self._loop.create_task(self._answer(responding))
                return True
        self._is_answering = self._request_in_progress = self._close = False
        return False

    def _respond(self, response: Response) -> None:
        """Writes a response that is there in whole; in a task only where the caller does not read what he asks for."""
        if self._paused:
            self._answering = self._loop.create_task(self._answer(_there(response)))
            return
        try:
            self._begin_response(response)
        except ConnectionError:
            self.force_close()  # the caller has gone
        except Exception as error:  # noqa: BLE001 - there may be others to be told behind this one
            self._break_off()
            self._loop.call_exception_handler({"message": "a response was not written", "exception": error})
        self._end_answer()
        self._go_on()

    def _hold(self, data: bytes) -> None:
        """Keeps what comes before its turn."""
        self._held += data
        if len(self._held) >= MOST_HELD_BYTES:
            self._pause_reading_for_buffer()

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        if self._buffer_paused:
            self._resume_reading_for_buffer()
        return held

    async def _answer(self, responding: Awaitable[Response]) -> None:
        try:
            await self._write(await self._responded(responding))
        except ConnectionError:
            self.force_close()
        except BaseException:
            self._break_off()
            raise
        finally:
            self._end_answer()
        self._go_on()

    def _break_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _end_answer(self) -> None:
        self._is_answering = False
        self._answering = None
        self._request_in_progress = False
        if self._handler_waiter is not None and not self._handler_waiter.done():
            self._handler_waiter.set_result(None)

    async def _responded(self, responding: Awaitable[Response]) -> Response:
        try:
            return await responding
        except Exception as error:  # noqa: BLE001 - whatever fails, the caller gets an answer
            self._close = True
            return refused(_failure(error), self.service)

    def _begin_response(self, response: Response) -> None:
        """Raises ConnectionResetError where the caller has gone."""
        is_last = self._close or self.service.is_leaving
        self._close = is_last
        self._write_more(begun(response, is_last=is_last))

    async def _write(self, response: Response) -> None:
        self._begin_response(response)
        await self._drain_helper()
        if response.rest is None:
            return
        async for more in response.rest:
            self._write_more(chunk(more))
            await self._drain_helper()
        self._write_more(LAST_CHUNK)

    def _write_more(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        self.transport.write(data)

    def _go_on(self) -> None:
        """Ends the connection after its last response, or turns to what came meanwhile."""
        if self._close or self._force_close or self.transport is None or self.transport.is_closing():
            self.force_close()
            return
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        if self._held:
            self.data_received(self._release())

    def _process_keepalive(self) -> None:
        if self._is_answering:
            self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
        super()._process_keepalive()

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109 - aiohttp's own
        await super().shutdown(timeout)
        if self._answering is not None:
            self._answering.cancel()

    @property
    def is_ending(self) -> bool:
        """Whether this connection takes nothing more: its client has sent all it will, or has gone."""
        return self.transport is None or bool(self._close)

    def close_if_idle(self) -> None:
        """Closes a connection on which no request is under way."""
        if self.is_idle:
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
            error = _failure(exc)
        elif isinstance(exc, LineTooLong) and exc.args[1] == MOST_LINE_BYTES:
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

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent all it will may still read: it gets its answer.

        Without this a truncated body would end in a closed connection instead of a 400. The request need not
        have been begun: its last bytes and the end may come together.
        """
        self._enter()  # what comes after this would not be begun any more
        if self.is_idle:
            return False
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError("the connection ended within the body"))
            self._newest_body.feed_eof()  # nobody need wait for the rest of it
        self._close = True
        return True


async def _there(response: Response) -> Response:
    return response


class _Whole:
    """A request that came plain and in whole."""

    __slots__ = ("_came", "_protocol", "body", "headers", "method", "path", "query")

    def __init__(self, request: Plain, protocol: Protocol, came: float | None) -> None:
        self.method = request.method
        self.path = request.path
        self.query = request.query
        self.headers = request.headers
        self.body = request.body
        self._protocol = protocol
        self._came = came

    @property
    def waited(self) -> float | None:
        return time.monotonic() - self._came if self._came is not None else None

    @property
    def address(self) -> str:
        peer = self._protocol.peername
        return str(peer[0]) if isinstance(peer, (list, tuple)) else str(peer or "")

    @property
    def origin(self) -> str:
        scheme = "http" if self._protocol.ssl_context is None else "https"
        return f"{scheme}://{self.headers[hdrs.HOST]}"

    @property
    def connection(self) -> socket.socket | None:
        return self._protocol.connection

    async def read(self, most_bytes: int) -> bytes:
        if len(self.body) > most_bytes:
            raise PayloadTooLargeError
        return self.body


def _failure(error: BaseException | None) -> QuotingError:
    return UnavailableError("The service failed.", cause=repr(error))


class Server(web.Server):
    """Makes our connections instead of aiohttp's."""

    service: Service
    options: dict[str, Any]
    is_closing = False

    def __call__(self, connection: socket.socket | None = None) -> RequestHandler:
        protocol = Protocol(self, loop=self._loop, **self._kwargs)
        protocol.service = self.service
        protocol.connection = connection
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
            tcp_keepalive=False,  # chassis.doors has seen to that
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
