"""The server's end of one HTTP/1.1 connection. llhttp parses the requests.

The class serves requests that are well-formed, arrive completely and are for a route of the service. At the first
other request it hands the connection over to aiohttp, which supports all of HTTP. aiohttp gets the bytes of that
request and serves the connection until it closes.
"""

import asyncio
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, cast

from aiohttp import web

from chassis.http.adapter import AiohttpConnection, Application, peer_address
from chassis.http.request import MAX_LINE_BYTES, RequestReader
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
    aiohttp: web.Server
    reader: RequestReader
    all_open: dict["HttpProtocol", None]
    is_closing: bool


# with slots: under overload thousands of connections have a request once in a while, and each is fetched from memory
@dataclass(slots=True, eq=False, repr=False)
class HttpProtocol(asyncio.Protocol):
    """One connection. Its requests are answered one after the other, in the order of their arrival."""

    _server: Connections
    _socket: socket.socket | None
    """The accepted socket. Calls through uvloop's own socket object cost eight times as much."""
    _transport: asyncio.Transport | None = None
    _address: str = ""
    _scheme: str = "http"
    _unread: bytearray = field(default_factory=bytearray)
    """Bytes of requests that have not begun."""
    _received: float = 0.0
    """Time at which the request being answered, or else the first request in `_unread`, reached this machine."""
    _whole_at: int = 0
    """Length of `_unread` at which its first request is complete; 0 if that is not known."""
    _wait_for_rest: asyncio.TimerHandle | None = None
    _is_queued: bool = False
    _is_answering: bool = False
    _has_next: bool = False
    """Whether `_serve` has the next request too."""
    _is_last: bool = False
    """Whether the connection closes after the request being answered."""
    _is_paused: bool = False
    """Whether writing is paused because the peer reads its responses too slowly."""
    _has_eof: bool = False
    _stream: BodyStream | None = None
    _last_used: float = field(default_factory=time.monotonic)

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered or queued."""
        return not self._is_answering and not self._is_queued

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._address = peer_address(transport)
        if transport.get_extra_info("sslcontext") is not None:
            self._scheme = "https"
        self._server.all_open[self] = None
        self._server.service.connections.attach(self._socket, self)
        if self._server.is_closing:
            transport.close()  # accepted a moment too late: no request has begun, so the client may repeat it

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._stop_waiting()
        self._unread.clear()
        del self._server.all_open[self]
        self._server.service.connections.release(self._socket)

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
            self._received = now if is_excess else now - monitor.waited(self._socket, now)
        if is_busy or (must_queue and not is_excess):
            self._hold(data)
            if must_queue:
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
        is_waiting = len(self._unread) < self._whole_at and not self._has_eof
        if self._is_answering or self._is_queued or self._is_paused or is_waiting:
            return
        if self._transport is not None and not self._transport.is_closing():
            self._serve(self._take_unread(), was_queued=was_queued, is_excess=is_excess)

    def _take_unread(self) -> bytes:
        self._stop_waiting()
        data = bytes(self._unread)
        self._unread.clear()
        if len(data) >= MAX_UNREAD_BYTES and self._transport is not None:
            self._transport.resume_reading()
        return data

    def _serve(self, data: bytes, *, was_queued: bool = False, is_excess: bool = False) -> None:
        """Begin the requests in `data` one after the other, up to the first one that is not answered at once.

        The bytes after that request are kept until its response has been sent.
        """
        server = self._server
        while data:
            read = server.reader.read(data, self._received, self._address, self._scheme)
            if read is None:
                self._hand_over(data)
                break
            request, end = read
            if len(data) < end:
                self._await_rest(data, end)
                break
            request.was_queued, request.is_excess = was_queued, is_excess
            self._is_answering, self._has_next = True, len(data) > end
            if request.headers.get("connection", "").lower() == "close":
                self._is_last = True
            if not server.service.accept(request, self._respond):
                self._hand_over(data)
                break
            data = data[end:]
            if self._is_answering:
                self._unread += data
                break
            if self._is_last:
                break
        self._has_next = False

    def _await_rest(self, data: bytes, whole_at: int) -> None:
        is_possible = whole_at <= MAX_BODY_BYTES + MAX_LINE_BYTES and not self._has_eof
        if not (is_possible and self._server.service.bodies.take(self._address, whole_at)):
            self._hand_over(data)
            return
        self._unread += data
        self._whole_at = whole_at
        self._wait_for_rest = asyncio.get_running_loop().call_later(
            WHOLE_SECONDS, lambda: self._hand_over(self._take_unread())
        )

    def _stop_waiting(self) -> None:
        if self._wait_for_rest is not None:
            self._wait_for_rest.cancel()
            self._wait_for_rest = None
            self._server.service.bodies.give_back(self._address, self._whole_at)
        self._whole_at = 0

    def _hand_over(self, data: bytes) -> None:
        """Let aiohttp serve the connection from now on. `data` are the bytes of requests that have not begun."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._transport = None
        del self._server.all_open[self]
        handler = AiohttpConnection(self._server.aiohttp, self._server.service, self._socket)
        transport.set_protocol(handler)
        handler.connection_made(transport)
        if self._is_paused:
            handler.pause_writing()
        handler.data_received(data)
        if self._has_eof and not handler.eof_received():
            transport.close()

    # from responses to bytes

    def _respond(self, response: Response, reply_headers: Mapping[str, str]) -> None:
        transport, header_lines = self._transport, self._server.service.header_lines
        if transport is None or transport.is_closing():
            self._is_answering = False  # the client has gone
            return
        self._note_last()
        transport.write(response_bytes(response, reply_headers, header_lines, is_last=self._is_last))
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
            self._note_last()
            self._end_answer()

    def _note_last(self) -> None:
        has_ended = self._has_eof and not self._unread and not self._has_next
        self._is_last = self._is_last or self._server.service.is_leaving or has_ended

    def _end_answer(self) -> None:
        self._is_answering = False
        self._last_used = time.monotonic()
        if self._is_last:
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
