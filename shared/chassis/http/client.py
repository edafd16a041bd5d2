"""One connection to another service: HTTP/1.1, one request at a time, responses parsed by llhttp.

There are two reasons not to use a general HTTP client. It costs so much processor time for each request that this
would be most of the cost of a hop. And when a connection breaks, it does not report whether a response had begun,
which decides whether the request is repeated (wire.md §4, "Repeating").
"""

import asyncio
from typing import Final, Protocol, cast

import httptools

from chassis.http.request import MAX_LINE_BYTES, Headers
from chassis.keepalive import detect_dead_peer
from chassis.tracing import TRACE_HEADER

MAX_HEAD_BYTES: Final = 64 * 1024

_TRACE: Final = TRACE_HEADER.lower()
_LAST_INTERIM_STATUS: Final = 199
_WITHOUT_BODY: Final = frozenset({204, 304})


class NotConnectedError(Exception):
    """No connection could be made, so nothing was sent."""


class ConnectionClosedError(Exception):
    """The connection closed before a response began."""


class BrokenResponseError(Exception):
    """A response began but is malformed or incomplete."""


class StopReadingError(Exception):
    """A sink raises this error if it needs no more of the response."""


class Sink(Protocol):
    """Receives a response in parts. It raises ValueError to fail the request, or StopReadingError to skip the rest."""

    def begin(self, status: int, headers: Headers) -> None: ...

    def feed(self, chunk: bytes) -> None:
        """Receive a part of the body."""


class ClientConnection(asyncio.Protocol):
    """One connection to another service. The set ``all_open`` holds it while it is open."""

    def __init__(self, all_open: "set[ClientConnection]") -> None:
        self._all_open = all_open
        self._transport: asyncio.WriteTransport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._response: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._trace_id = ""
        self._headers: Headers = {}
        self._head_bytes = 0
        self._ends_with_connection = False
        self.has_response_begun = False
        self.is_usable = True
        """Whether the connection can take another request."""
        self.idle_since = 0.0
        """Time of the last response, on the monotonic clock; 0 before the first response."""

    async def send(self, request: bytes, trace_id: str, sink: Sink) -> None:
        """Send a request and return when ``sink`` has received the response.

        Raises ConnectionClosedError, BrokenResponseError. The connection closes if this coroutine is cancelled.
        """
        self.has_response_begun = False
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosedError("the connection was closed")
        self._response = asyncio.get_running_loop().create_future()
        self._sink = sink
        self._trace_id = trace_id
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        try:
            await self._response
        except BaseException:
            self.close()
            raise
        finally:
            self._response = self._sink = self._parser = None
        if not self.is_usable:
            self.close()

    def close(self) -> None:
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    # called by asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._all_open.add(self)
        detect_dead_peer(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self._parser is None:  # no request is in flight
            self.close()
            return
        self.has_response_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            self._fail(BrokenResponseError(f"{type(cause).__name__}: {str(cause)[:100]}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._all_open.discard(self)
        self.is_usable = False
        if not self.has_response_begun:
            self._fail(ConnectionClosedError(f"closed before a response began: {exc or 'end of stream'}"))
        elif self._ends_with_connection and exc is None:
            self._end()
        else:
            self._fail(BrokenResponseError(f"the response is incomplete: {exc or 'end of stream'}"))

    # called by the parser

    def on_message_begin(self) -> None:
        if self._sink is None:
            raise ValueError("more than one response to a request")
        self._headers = {}
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        length = len(name) + len(value)
        self._head_bytes += length
        if length > MAX_LINE_BYTES or self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the headers of the response are too long")
        key, text = name.decode("latin-1").lower(), value.decode("utf-8", "replace")
        headers = self._headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        status = self._status()
        if status <= _LAST_INTERIM_STATUS or self._sink is None:
            return
        headers = self._headers
        if headers.get(_TRACE, self._trace_id) != self._trace_id:
            # the peer sent it before it read this request: no response to this request has begun
            self._sink = None
            self._fail(ConnectionClosedError("the peer sent a response to another request"))
            return
        self._ends_with_connection = (
            "content-length" not in headers
            and "transfer-encoding" not in headers
            and status not in _WITHOUT_BODY
        )
        self._sink.begin(status, headers)

    def on_body(self, chunk: bytes) -> None:
        if self._sink is None:
            return
        try:
            self._sink.feed(chunk)
        except StopReadingError:
            self._sink = None
            self.is_usable = False
            self._end()

    def on_message_complete(self) -> None:
        if self._status() <= _LAST_INTERIM_STATUS:
            return  # such as 100 Continue: the response follows
        assert self._parser is not None  # noqa: S101 - it calls this
        assert self._transport is not None  # noqa: S101 - it brought the response
        if not self._parser.should_keep_alive() or self._transport.get_write_buffer_size():
            self.is_usable = False
        self._sink = None
        self._end()

    def _status(self) -> int:
        assert self._parser is not None  # noqa: S101 - it calls the methods that need this
        return self._parser.get_status_code()

    def _end(self, error: Exception | None = None) -> None:
        if self._response is None or self._response.done():
            return
        if error is None:
            self._response.set_result(None)
        else:
            self._response.set_exception(error)

    def _fail(self, error: Exception) -> None:
        self._end(error)
        self.close()
