"""Converts between aiohttp and the service: requests to `Request`, `Response` to responses, errors to error objects."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
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
    InvalidHeaderError,
    InvalidUriParameterError,
    MethodNotAllowedError,
    NotFoundError,
    QuotingError,
    UnavailableError,
)
from chassis.http.body import read
from chassis.http.body_budget import BodyBudget
from chassis.http.connection_limit import ConnectionLimit
from chassis.http.request import MAX_LINE_BYTES, Request, is_host, joined
from chassis.http.response import BodyStream, Respond, Response
from chassis.http.unfinished_head import HEAD_END, UnfinishedHead

MAX_FIELD_BYTES: Final = MAX_LINE_BYTES - len(": ")
"""Limit for a header's name and value together.

It is not equal to the URL's limit. So the limit in an error of aiohttp shows whether the URL or a header is too long.
"""
MAX_SPLIT: Final = 16
"""Number of heads that aiohttp gets by themselves from one read. Then it gets the rest, and stops at 32 requests."""
DISCARD_SECONDS: Final = 10.0
"""Time for the rest of a body after the response."""
KEEPALIVE_SECONDS: Final = 75.0
OPTIONS: Final[dict[str, Any]] = {
    "access_log": None,
    "keepalive_timeout": KEEPALIVE_SECONDS,
    "tcp_keepalive": False,  # set when the connection is accepted
    # a body with a Content-Encoding is refused; nothing may unpack it before that
    "auto_decompress": False,
    # aiohttp keeps up to twice this many unread bytes for each connection
    "read_bufsize": 64 * 1024,
    "lingering_time": 0.0,  # `finish_response` reads the rest of a body
    "max_line_size": MAX_LINE_BYTES,
    "max_field_size": MAX_FIELD_BYTES,
}


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
        answered: asyncio.Future[web.Response] = asyncio.get_running_loop().create_future()

        def respond(response: Response, reply_headers: Mapping[str, str]) -> None:
            answered.set_result(aiohttp_response(service, response, reply_headers))

        received = request_of(request, service.monitor)
        received.read = partial(read, request)
        try:
            answer(received, respond)
            return await answered
        finally:
            # the garbage collector does not look into a Request: a cycle through it would stay for ever
            received.read = None

    return handle


def aiohttp_response(
    service: Application, response: Response, reply_headers: Mapping[str, str]
) -> web.Response:
    """Convert a response to aiohttp's."""
    headers = {hdrs.CONTENT_TYPE: response.content_type, **service.headers, **reply_headers}
    body = response.body if response.stream is None else _pieces(response.body, response.stream)
    return web.Response(status=response.status, body=body, headers={**headers, **dict(response.headers)})


async def _pieces(first: bytes, stream: BodyStream) -> AsyncIterator[bytes]:
    ready = asyncio.Event()
    stream.on_ready = ready.set
    yield first
    while not stream.is_ended:
        yield stream.take()
        if not stream.is_ended:
            await ready.wait()
            ready.clear()


def peer_address(transport: asyncio.BaseTransport) -> str:
    """Return the IP address of the peer; empty if the connection has none."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, (list, tuple)) else ""


class AiohttpConnection(RequestHandler):
    """A connection that aiohttp serves. It answers every fault with an error object, also malformed HTTP."""

    def __init__(self, manager: web.Server, service: Application, accepted: socket.socket | None) -> None:
        super().__init__(manager, loop=asyncio.get_running_loop(), **OPTIONS)
        self.service = service
        self.socket = accepted
        self._head = UnfinishedHead(service.bodies, self._refuse_head)
        self._head_error: QuotingError | None = None
        self._newest_body: StreamReader = EMPTY_PAYLOAD
        self._is_malformed = False
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
        return is_closing or self.service.is_leaving or (self._has_eof and not self._messages)

    def close(self) -> None:
        """Close the connection: at once if it is idle, else after the response."""
        if self.is_idle:
            self.force_close()  # aiohttp's own close would leave an idle connection open
        else:
            super().close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.service.connections.attach(self.socket, self)
        self._head.address = peer_address(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.service.connections.release(self.socket)
        self._head.close()
        self._end_body("the connection was lost within the body")
        super().connection_lost(exc)
        # this object may be part of a reference cycle; the first two have no public names
        self._message_tail = b""
        self._messages.clear()
        self._newest_body = EMPTY_PAYLOAD

    def data_received(self, data: bytes) -> None:
        for part in self._parts(data):
            self._feed(part)
        self._head.feed(data)

    def _parts(self, data: bytes) -> Iterator[bytes]:
        """Split at the end of each head: with malformed bytes, aiohttp forgets the requests in front of them."""
        for _ in range(MAX_SPLIT):
            if HEAD_END not in data or not self._newest_body.is_eof():
                break
            head, end, data = data.partition(HEAD_END)
            yield head + end
        yield data

    def _feed(self, data: bytes) -> None:
        if self._is_malformed:
            return
        count = self._request_count
        super().data_received(data)
        if self._request_count == count:
            return
        message, body = self._messages[-1]  # no public name
        if not isinstance(message, RawRequestMessage):
            self._is_malformed = True
            self._end_body("the body is malformed")
            message.exc.__traceback__ = None  # a cycle: its frames hold the error, and with it the data
        self._newest_body = body

    def _end_body(self, cause: str) -> None:
        """Fail a body that has not arrived completely: aiohttp would wait for the rest."""
        if not self._newest_body.is_eof():
            self._newest_body.set_exception(RequestPayloadError(cause))
            self._newest_body.feed_eof()

    def _refuse_head(self, error: QuotingError) -> None:
        """Answer a head that has not arrived completely, after the requests before it."""
        if self._is_malformed:
            return
        self._head_error = error
        self._feed(b"\0")  # malformed in every head: aiohttp answers in its turn, and closes the connection

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has closed its side. Returns whether the connection stays open for responses."""
        if self.is_idle:
            return False
        self._end_body("the connection ended within the body")
        self._has_eof = True
        if not self._messages:
            # the response may be sent already, without Connection: close; nothing else would end the connection
            super().close()
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the response, then discard the rest of the body. aiohttp would keep it and read no further."""
        # after CONNECT or Upgrade a client may go on in another protocol
        if self.is_ending or request.method == hdrs.METH_CONNECT or hdrs.UPGRADE in request.headers:
            resp.force_close()
        finished = await super().finish_response(request, resp, start_time)
        if not request.content.at_eof():
            try:
                async with asyncio.timeout(DISCARD_SECONDS):
                    while not request.content.at_eof():
                        await request.content.readany()
            except (TimeoutError, RequestPayloadError) as error:
                error.__traceback__ = None  # a cycle: the body has the error, and its frames have the body
        return finished

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
        elif self._head_error is not None:
            error = self._head_error
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
    service.refuse(error, lambda *answer: made.append(aiohttp_response(service, *answer)), trace_header)
    made[0].force_close()
    return made[0]


def smuggling_risk(request: web.BaseRequest) -> QuotingError | None:
    """Return an error if a proxy in front of the service may read this request differently; otherwise None."""
    encodings = [each.lower() for each in request.headers.getall(hdrs.TRANSFER_ENCODING, ())]
    if encodings and (encodings != ["chunked"] or request.version < HttpVersion11):
        return InvalidHeaderError("Transfer-Encoding must be chunked, and nothing else, and needs HTTP/1.1.")
    if not is_host(request.headers.get(hdrs.HOST, "")):
        return InvalidHeaderError("The Host header must be a host name or address. A port may follow it.")
    return None


def from_aiohttp(raised: web.HTTPException) -> QuotingError:
    """Return the service's error for an exception of aiohttp's router."""
    match raised:
        case web.HTTPNotFound():
            return NotFoundError()
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowedError(headers={hdrs.ALLOW: ", ".join(sorted(raised.allowed_methods))})
    return UnavailableError("The service failed.", cause=repr(raised))
