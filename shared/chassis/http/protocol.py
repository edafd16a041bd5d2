"""The server's end of one HTTP/1.1 connection. llhttp parses the requests.

The class serves requests that are well-formed, arrive completely and are for a route of the service. At the first
other request it hands the connection over to aiohttp, which supports all of HTTP. aiohttp gets the bytes of that
request and serves the connection until it closes.
"""

import asyncio
import socket
import time
from collections.abc import Mapping
from typing import Final, Protocol, cast

from chassis.http.adapter import AiohttpConnection, Application, peer_address
from chassis.http.request import MAX_HEAD_BYTES, Request, RequestReader
from chassis.http.response import LAST_CHUNK, BodyStream, Response, chunk, response_bytes

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Size of the largest body that a route accepts: a batch."""
MAX_UNREAD_BYTES: Final = 64 * 1024
"""Limit for pipelined requests that have not begun. Above it nothing is read until a request has been answered."""
WHOLE_SECONDS: Final = 0.5
"""If a request takes longer to arrive completely, aiohttp takes over: it can answer before the body has arrived."""


class Connections(Protocol):
    """The server that a connection belongs to."""

    service: Application
    reader: RequestReader
    is_closing: bool

    def opened(self, connection: "HttpProtocol") -> None: ...

    def closed(self, connection: "HttpProtocol") -> None: ...

    def hand_over(self, connection: "HttpProtocol") -> AiohttpConnection:
        """A protocol that lets aiohttp serve the connection from here on."""


class HttpProtocol(asyncio.Protocol):
    """One connection. Its requests are answered one after the other, in the order of their arrival."""

    # under overload thousands of connections have a request once in a while: less of each has to be fetched from memory
    __slots__ = (
        "_address",
        "_has_eof",
        "_is_answering",
        "_is_last",
        "_is_paused",
        "_is_queued",
        "_is_serving",
        "_last_used",
        "_received",
        "_scheme",
        "_server",
        "_stream",
        "_transport",
        "_unread",
        "_wait_for_rest",
        "_whole_at",
        "socket",
    )

    def __init__(self, server: Connections, connection: socket.socket | None) -> None:
        """`connection` is the accepted socket. Calls through uvloop's own socket object cost eight times as much."""
        self._server = server
        self.socket = connection
        self._transport: asyncio.Transport | None = None
        self._address = ""
        self._scheme = "http"
        self._unread = bytearray()
        """Bytes of requests that have not begun."""
        self._received = 0.0
        """Time at which the request being answered, or else the first request in `_unread`, reached this machine."""
        self._whole_at = 0
        """Length of `_unread` at which its first request is complete; 0 if that is not known."""
        self._wait_for_rest: asyncio.TimerHandle | None = None
        self._is_queued = False
        self._is_answering = False
        self._is_serving = False
        self._is_last = False
        """Whether the connection closes after the request being answered."""
        self._is_paused = False
        """Whether writing is paused because the peer reads its responses too slowly."""
        self._has_eof = False
        self._stream: BodyStream | None = None
        self._last_used = time.monotonic()

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered or queued."""
        return not self._is_answering and not self._is_queued

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._address = peer_address(transport)
        self._scheme = "http" if transport.get_extra_info("sslcontext") is None else "https"
        self._server.opened(self)
        if self._server.is_closing:
            transport.close()  # accepted a moment too late: no request has begun, so the client may repeat it

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._stop_waiting()
        self._unread.clear()
        self._server.closed(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._stream is not None:
            self._write_ready()
        else:
            self._serve_unread()

    def eof_received(self) -> bool:
        """The client has sent its last byte. Answer the remaining requests: the client may still read.

        Returns whether the connection stays open for that.
        """
        self._has_eof = True
        self._leave_queue()
        self._serve_unread()
        # aiohttp serves it, or a response is still to be sent
        return self._transport is None or not self.is_idle

    def data_received(self, data: bytes) -> None:
        now = self._last_used = time.monotonic()
        monitor = self._server.service.monitor
        is_busy = self._is_answering or self._is_queued or self._is_paused
        must_queue = not is_busy and monitor.must_queue
        is_excess = must_queue and not monitor.has_room
        if not self._unread:
            # a request that is rejected at once is not asked how long it has waited
            self._received = now if is_excess else now - monitor.waited(self.socket, now)
        if is_busy:
            self._hold(data)
        elif must_queue and not is_excess:
            self._hold(data)
            self._is_queued = True
            self._server.service.queue.add(self._leave_queue)
        elif self._unread:
            self._unread += data
            self._serve_unread(is_excess=is_excess)
        else:
            self._serve(data, is_excess=is_excess)

    # from bytes to requests

    def _hold(self, data: bytes) -> None:
        before = len(self._unread)
        self._unread += data
        limit = max(MAX_UNREAD_BYTES, self._whole_at)
        if before < limit <= len(self._unread) and self._transport is not None:
            self._transport.pause_reading()

    def _leave_queue(self) -> None:
        if self._is_queued:
            self._is_queued = False
            self._serve_unread(was_queued=True)

    def _serve_unread(self, *, was_queued: bool = False, is_excess: bool = False) -> None:
        """Begin the requests in `_unread`, unless a request is being answered or queued."""
        transport = self._transport
        if not self._unread or self._is_answering or self._is_serving or self._is_queued or self._is_paused:
            return
        if transport is None or transport.is_closing():
            return
        if len(self._unread) < self._whole_at and not self._has_eof:
            return
        self._stop_waiting()
        data = bytes(self._unread)
        self._unread.clear()
        if len(data) >= MAX_UNREAD_BYTES:
            transport.resume_reading()
        self._serve(data, was_queued=was_queued, is_excess=is_excess)

    def _stop_waiting(self) -> None:
        if self._wait_for_rest is not None:
            self._wait_for_rest.cancel()
            self._wait_for_rest = None
            self._server.service.bodies.give_back(self._address, self._whole_at)
        self._whole_at = 0

    def _serve(self, data: bytes, *, was_queued: bool = False, is_excess: bool = False) -> None:
        """Begin the requests in `data` one after the other, up to the first one that is not answered at once.

        The bytes after that request are kept until its response has been sent.
        """
        service = self._server.service
        self._is_serving = True
        try:
            while data:
                request, end = self._read(data)
                if request is None:
                    return
                request.was_queued, request.is_excess = was_queued, is_excess
                was_last = self._is_last
                self._is_last = was_last or request.headers.get("connection", "").lower() == "close"
                self._is_answering = True
                if not service.accept(request, self._respond):
                    self._is_answering, self._is_last = False, was_last
                    self._hand_over(data)
                    return
                data = data[end:]
                if self._is_answering:
                    self._unread += data
                    return
                if self._is_last:
                    return
        finally:
            self._is_serving = False

    def _read(self, data: bytes) -> tuple[Request | None, int]:
        """Return the first request in `data` and the position of its end.

        Return None for the request if it is incomplete or has to be served by aiohttp.
        """
        head = self._server.reader.read(data)
        if head is None:
            self._hand_over(data)
            return None, 0
        if len(data) < head.whole_at:
            self._await_rest(data, head.whole_at)
            return None, 0
        path, _, query = head.target.partition("?")
        body = data[head.end : head.whole_at]
        request = Request(
            head.method, path, query, head.headers, body, self._received, self._address, self._scheme
        )
        return request, head.whole_at

    def _await_rest(self, data: bytes, whole_at: int) -> None:
        bodies = self._server.service.bodies
        if (
            self._has_eof
            or whole_at > MAX_BODY_BYTES + MAX_HEAD_BYTES
            or not bodies.take(self._address, whole_at)
        ):
            self._hand_over(data)
            return
        self._unread += data
        self._whole_at = whole_at
        loop = asyncio.get_running_loop()
        self._wait_for_rest = loop.call_later(WHOLE_SECONDS, self._give_up_on_rest)

    def _give_up_on_rest(self) -> None:
        self._stop_waiting()
        data = bytes(self._unread)
        self._unread.clear()
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp serve the connection from now on. `data` are the bytes of requests that have not begun."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._transport = None
        handler = self._server.hand_over(self)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if self._is_paused:
            handler.pause_writing()
        handler.data_received(data)
        if self._has_eof and not handler.eof_received():
            transport.close()

    # from responses to bytes

    def _respond(self, response: Response, reply_headers: Mapping[str, str]) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            self._is_answering = False  # the client has gone
            return
        service = self._server.service
        self._is_last = self._is_last or service.is_leaving or (self._has_eof and not self._unread)
        try:
            head = response_bytes(response, reply_headers, service.header_lines, is_last=self._is_last)
        except UnicodeError as error:
            # must not reach the caller of this method, which also answers other requests
            transport.abort()
            failure = {"message": "a response could not be written", "exception": error}
            asyncio.get_running_loop().call_exception_handler(failure)
            return
        transport.write(head)
        if response.stream is None:
            self._end_answer()
        else:
            self._stream = response.stream
            self._stream.on_ready = self._write_ready
            self._write_ready()

    def _write_ready(self) -> None:
        """Write the available part of a streamed body, unless the peer reads too slowly."""
        transport, stream = self._transport, self._stream
        if transport is None or transport.is_closing():
            self._is_answering = False
            return
        if stream is None or self._is_paused:
            return
        data = chunk(stream.take()) + (LAST_CHUNK if stream.is_finished else b"")
        if data:
            transport.write(data)
        if stream.is_finished:
            self._stream = None
            self._end_answer()

    def _end_answer(self) -> None:
        self._is_answering = False
        self._last_used = time.monotonic()
        if self._is_last or (self._has_eof and not self._unread and not self._is_serving):
            self.close()
        elif self._unread:
            self._serve_unread()

    # the server calls these

    def close(self) -> None:
        """Close the connection. If a request is being answered, close it after the response."""
        self._is_last = True
        if self._transport is not None and self.is_idle:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def close_if_unused(self, since: float) -> None:
        """Close the connection if it is idle and was last used before `since`."""
        if self.is_idle and self._last_used < since:
            self.close()
