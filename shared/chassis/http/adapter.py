"""Converts between aiohttp and the service: requests to `Request`, `Response` to responses, errors to error objects."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from chassis.admission import AdmissionQueue, LoadMonitor
from chassis.errors import (
    MALFORMED_HTTP,
    ExpectationFailedError,
    InvalidHeaderError,
    InvalidUriParameterError,
    MethodNotAllowedError,
    NotFoundError,
    PayloadTooLargeError,
    QuotingError,
    RequestTimeoutError,
    UnavailableError,
)
from chassis.http.body import no_room, read
from chassis.http.body_budget import BodyBudget
from chassis.http.connection_limit import ConnectionLimit
from chassis.http.request import Request, is_host, joined
from chassis.http.response import Respond, Response, response_bytes
from chassis.http.unfinished_head import HEAD_END, UnfinishedHead

MAX_LINE_BYTES: Final = 8_190
MAX_FIELD_BYTES: Final = MAX_LINE_BYTES - len(": ")
"""Limit for a header's name and value together.

It is not equal to the URL's limit. So the limit in an error of aiohttp shows whether the URL or a header is too long.
"""
MAX_WHOLE_HEAD_BYTES: Final = 64 * 1024
"""Limit for the bytes of a head that has not arrived completely."""
KEEPALIVE_SECONDS: Final = 75.0
HEAD_SECONDS: Final = 10.0
"""For the head of a request; for the first one that aiohttp reads on a connection from its beginning."""


class Application(Protocol):
    """The parts of a service that HTTP uses."""

    monitor: LoadMonitor
    queue: AdmissionQueue
    bodies: BodyBudget
    connections: ConnectionLimit
    headers: dict[str, str]
    header_lines: str
    is_leaving: bool

    @property
    def accept(self) -> Callable[[Request, Respond], bool]:
        """A function that answers a request, or returns False if no route of the service has its path."""

    def refuse(self, error: QuotingError, respond: Respond, trace_header: str | None = None) -> None:
        """Answer a request with `error` before it reaches a route."""


def request_of(request: web.BaseRequest, monitor: LoadMonitor) -> Request:
    """Convert an aiohttp request, whose head has been read, to a `Request`. `Request.read` reads the body."""
    now = time.monotonic()
    return Request(
        request.method,
        request.rel_url.raw_path,
        request.rel_url.raw_query_string,
        joined(request.headers),
        b"",
        now - monitor.waited(getattr(request.protocol, "socket", None), now),
        request.remote or "",
        request.scheme,
    )


def aiohttp_handler(
    service: Application, answer: Callable[[Request, Respond], None]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Return a handler for aiohttp's router. It calls `answer` and returns the response that `answer` gives."""

    async def handle(request: web.Request) -> web.StreamResponse:
        answered: asyncio.Future[tuple[Response, Mapping[str, str]]]
        answered = asyncio.get_running_loop().create_future()

        def respond(response: Response, reply_headers: Mapping[str, str]) -> None:
            answered.set_result((response, reply_headers))

        received = request_of(request, service.monitor)
        received.read = partial(read, request)
        try:
            answer(received, respond)
            response, reply_headers = await answered
        finally:
            # the garbage collector does not look into a Request: a cycle through it would stay for ever
            received.read = None
        is_last = service.is_leaving or (
            isinstance(request.protocol, AiohttpConnection) and request.protocol.is_ending
        )
        return await _written(request, response, {**service.headers, **reply_headers}, is_last)

    return handle


async def _written(
    request: web.Request, response: Response, headers: Mapping[str, str], is_last: bool
) -> web.StreamResponse:
    stream = response.stream
    made: web.StreamResponse
    if stream is None:
        made = _whole(response, headers)
    else:
        made = web.StreamResponse(status=response.status)
        _add_headers(made, response, headers)
    if is_last:
        made.force_close()
    if stream is None:
        return made
    await made.prepare(request)
    await made.write(response.body)
    ready = asyncio.Event()
    stream.on_ready = ready.set
    while not stream.is_ended:
        await made.write(stream.take())
        if not stream.is_ended:
            await ready.wait()
            ready.clear()
    await made.write_eof()
    return made


def _whole(response: Response, headers: Mapping[str, str]) -> web.Response:
    made = web.Response(status=response.status, body=response.body)
    _add_headers(made, response, headers)
    return made


def _add_headers(made: web.StreamResponse, response: Response, headers: Mapping[str, str]) -> None:
    made.headers[hdrs.CONTENT_TYPE] = response.content_type
    made.headers.update(headers)
    made.headers.update(response.headers)


class AiohttpConnection(RequestHandler):
    """A connection that aiohttp serves. It answers every fault with an error object, also malformed HTTP."""

    __slots__ = (
        *("_body_left", "_has_eof", "_head", "_is_malformed", "_newest_body", "_tail"),
        *("_unwanted_body", "service", "socket"),
    )

    def __init__(
        self,
        manager: web.Server,
        service: Application,
        connection: socket.socket | None,
        **options: Any,  # noqa: ANN401 - aiohttp's own
    ) -> None:
        super().__init__(manager, **options)
        self.service = service
        self.socket = connection
        self._newest_body: StreamReader = EMPTY_PAYLOAD
        self._unwanted_body: StreamReader = EMPTY_PAYLOAD
        """The body of the latest request that was answered."""
        self._body_left: int | None = None
        """Bytes of the newest body that are still to come; None for a body in chunks."""
        self._tail = b""
        """The last bytes that arrived: the end of a head may come in two parts."""
        self._is_malformed = False
        self._head: UnfinishedHead | None = None
        self._has_eof = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered or waiting. aiohttp has no public attribute for this."""
        # aiohttp's own task may not have begun when the first request is there
        return not self._request_count or (self._waiter is not None and not self._waiter.done())

    @property
    def is_ending(self) -> bool:
        """Whether the connection closes after the present response."""
        is_closing = self.transport is None or self._close or self._force_close  # no public names
        return is_closing or (self._has_eof and not self._messages)

    def close(self) -> None:
        """Close the connection: at once if it is idle, else after the response."""
        if self.is_idle:
            self.force_close()  # aiohttp's own close would leave an idle connection open
        else:
            super().close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.service.connections.attach(self.socket, self)
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, (list, tuple)) else ""
        self._head = UnfinishedHead(self.service.bodies, address, HEAD_SECONDS, self._refuse_slow_head)
        self._head.begin()

    def _refuse_slow_head(self) -> None:
        if self.is_idle:
            self._refuse(RequestTimeoutError())

    def _refuse(self, error: QuotingError) -> None:
        """Answer a head that has not arrived completely, and close the connection."""
        transport = self.transport
        if transport is None:
            return

        def respond(response: Response, reply_headers: Mapping[str, str]) -> None:
            transport.write(response_bytes(response, reply_headers, self.service.header_lines, is_last=True))

        self.service.refuse(error, respond)
        self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.service.connections.release(self.socket)
        if self._head is not None:
            self._head.finish()
            self._head = None
        super().connection_lost(exc)
        # this object may be part of a reference cycle
        self._message_tail = b""  # no public name
        self._newest_body = self._unwanted_body = EMPTY_PAYLOAD

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        finished = await super().finish_response(request, resp, start_time)
        self._unwanted_body = request.content
        self._discard_unwanted_body()
        return finished

    def _discard_unwanted_body(self) -> None:
        """Discard the rest of the body of a request that has been answered.

        Otherwise the body would stay in memory, and aiohttp would stop reading the connection.
        """
        # to read may let aiohttp parse more, which comes back here
        body, self._unwanted_body = self._unwanted_body, EMPTY_PAYLOAD
        while body.is_eof() and body.exception() is None and body.read_nowait():
            pass
        self._unwanted_body = body

    def log_exception(self, *args: Any, **kw: Any) -> None:  # noqa: ANN401 - aiohttp's own
        """Log an error, unless a client closed the connection before its body was complete."""
        if not isinstance(kw.get("exc_info"), (RequestPayloadError, ConnectionError)):
            super().log_exception(*args, **kw)

    def data_received(self, data: bytes) -> None:
        """Give aiohttp each head and each body by itself: it does not say what it has read of an unfinished head."""
        while not self._is_malformed:
            part = data[: self._length_of_part(data)]
            data = data[len(part) :]
            self._read_part(part)
            if not data:
                return

    def _length_of_part(self, data: bytes) -> int:
        if not self._newest_body.is_eof():
            return self._body_left or len(data)
        end = (self._tail + data).find(HEAD_END)
        return end + len(HEAD_END) - len(self._tail) if end >= 0 else len(data)

    def _read_part(self, part: bytes) -> None:
        is_body, count = not self._newest_body.is_eof(), self._request_count
        super().data_received(part)
        before, self._tail = self._tail, (self._tail + part[-len(HEAD_END) :])[-len(HEAD_END) + 1 :]
        if self._request_count > count:
            self._begin_message()
        elif not is_body:
            self._hold_head(len(part.strip(b"\r\n")))
        elif self._body_left is not None:
            self._body_left -= len(part)
        elif self._newest_body.is_eof():  # what follows the last chunk is a head
            self._hold_head(len((before + part).rpartition(HEAD_END)[2]))
        if self._newest_body is self._unwanted_body:
            self._discard_unwanted_body()

    def _begin_message(self) -> None:
        # no public name: the body that is still arriving is the newest message's
        before = self._newest_body
        message, self._newest_body = self._messages[-1]
        if self._head is not None:
            self._head.finish()
        if not isinstance(message, RawRequestMessage):
            self._is_malformed = True
            if not before.is_eof():
                before.set_exception(RequestPayloadError("the body is malformed"))
                before.feed_eof()  # aiohttp does not wait for the rest
            if message.exc is not None:
                message.exc.__traceback__ = None  # a cycle: its frames hold the error, and with it the data
        elif message.chunked:
            self._body_left = None
        else:
            self._body_left = int(message.headers.get(hdrs.CONTENT_LENGTH, "0"))

    def _hold_head(self, length: int) -> None:
        if not length or self._head is None:
            return
        error: QuotingError
        if not self._head.grow(length):
            error = no_room()
        elif self._head.length > MAX_WHOLE_HEAD_BYTES:
            error = InvalidHeaderError(f"The head is longer than {MAX_WHOLE_HEAD_BYTES:,} bytes.")
        else:
            return
        if self.is_idle:
            self._refuse(error)
        else:
            self.close()  # after the response

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its side. Fail an incomplete body, and keep the connection open for the responses.

        Returns whether the connection stays open.
        """
        if self.is_idle:
            return False
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError("the connection ended within the body"))
            self._newest_body.feed_eof()
        self._has_eof = True
        if not self._messages:
            # the response may be sent already, without Connection: close; nothing else would end the connection
            super().close()
        return True

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the response to malformed HTTP or to a failure outside the application (wire.md §7, promise 7)."""
        del request
        error: QuotingError
        if status >= 500:  # noqa: PLR2004
            error = UnavailableError("The service failed.", cause=repr(exc))
        elif isinstance(exc, LineTooLong) and exc.args[1] == MAX_LINE_BYTES:
            error = InvalidUriParameterError("The URL is longer than 8,190 bytes.")
        elif isinstance(exc, LineTooLong):
            error = InvalidHeaderError("A header line is longer than 8,190 bytes.")
        else:
            # after the colon comes the faulty line, which may contain the credentials
            cause = (message or "").partition(":")[0]
            error = InvalidHeaderError(MALFORMED_HTTP, cause=cause)
        return refusal(self.service, error)


def refusal(service: Application, error: QuotingError, trace_header: str | None = None) -> web.Response:
    """Return aiohttp's response with `error` for a request that reaches no route. The connection closes after it."""
    made: list[web.Response] = []

    def respond(response: Response, reply_headers: Mapping[str, str]) -> None:
        made.append(_whole(response, {**service.headers, **reply_headers}))

    service.refuse(error, respond, trace_header)
    made[0].force_close()
    return made[0]


def smuggling_risk(request: web.BaseRequest) -> QuotingError | None:
    """Return an error if a proxy in front of the service may read this request differently; otherwise None."""
    encodings = request.headers.getall(hdrs.TRANSFER_ENCODING, ())
    if any(encoding.lower() != "chunked" for encoding in encodings) or len(encodings) > 1:
        return InvalidHeaderError("Transfer-Encoding must be chunked, and nothing else.")
    if encodings and request.version < HttpVersion11:
        return InvalidHeaderError("Transfer-Encoding needs HTTP/1.1.")
    if not is_host(request.headers.get(hdrs.HOST, "")):
        return InvalidHeaderError("The Host header must be a host name or address. A port may follow it.")
    return None


def from_aiohttp(raised: web.HTTPException) -> QuotingError:
    """Return the service's error for an exception that aiohttp itself would answer in plain text."""
    match raised:
        case web.HTTPNotFound():
            return NotFoundError()
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowedError(headers={hdrs.ALLOW: ", ".join(sorted(raised.allowed_methods))})
        case web.HTTPRequestEntityTooLarge():
            return PayloadTooLargeError()
        case web.HTTPExpectationFailed():
            return ExpectationFailedError()
        case web.HTTPClientError():
            return InvalidHeaderError(raised.reason)
    return UnavailableError("The service failed.", cause=repr(raised))
