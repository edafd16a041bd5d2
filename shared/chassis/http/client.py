"""Connections to other services: HTTP/1.1, one request at a time, read with llhttp.

Our own because two things decide here that a client for everything hides: what a request costs, which at every hop
of a chain is most of what a quote costs, and whether a reply had begun when a connection broke, which decides
whether the request may be repeated (wire.md §4, "Repeating").
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol, cast

import httptools
from multidict import CIMultiDict

from chassis.messages import Headers

MAX_LINE_BYTES: Final = 8_190
MAX_HEAD_BYTES: Final = 64 * 1024

_LAST_INFORMATION: Final = 199
_WITHOUT_BODY: Final = frozenset({204, 304})


class NotConnectedError(Exception):
    """No connection came about: nothing was sent."""


class ConnectionClosedError(Exception):
    """The connection closed before a reply began."""


class BrokenResponseError(Exception):
    """A reply began, and it is none that can be read to its end."""


class StopReadingError(Exception):
    """Raised by a sink that wants no more of a reply."""


class Sink(Protocol):
    """What becomes of a reply, as it comes. ValueError from it breaks the reply off, StopReadingError ends it."""

    def begin(self, status: int, headers: Headers) -> None:
        """Status and headers."""

    def feed(self, chunk: bytes) -> None:
        """Some more of the body."""


def head_of(method: str, target: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """A request's lines before its body. Raises ValueError where something in it would end a line."""
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    text = "\r\n".join(lines)
    if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1 or "\0" in text:
        raise ValueError("a header holds what ends a line")
    return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n"


class ClientConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, all_open: "set[ClientConnection]") -> None:
        """It is in ``all_open`` for as long as it is open."""
        self._all_open = all_open
        self._transport: asyncio.WriteTransport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._reply: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._has_begun = False
        self._headers: CIMultiDict[str] = CIMultiDict()
        self._head_bytes = 0
        self._ends_with_connection = False
        self.is_usable = True
        """Whether it takes another request."""
        self.idle_since = 0.0

    async def send(self, request: bytes, sink: Sink) -> None:
        """Sends a request and returns when its reply has gone to ``sink``.

        Raises ConnectionClosedError, BrokenResponseError. Cancelled, it closes the connection.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionClosedError("the connection was closed")
        self._reply = asyncio.get_running_loop().create_future()
        self._sink = sink
        self._has_begun = False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)
        try:
            await self._reply
        except BaseException:
            self.close()
            raise
        finally:
            self._reply = self._sink = self._parser = None
        if not self.is_usable:
            self.close()

    def close(self) -> None:
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # of a stream
        self._all_open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._parser is None:  # nobody asked
            self.close()
            return
        self._has_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else error
            self._fail(BrokenResponseError(f"{type(cause).__name__}: {str(cause)[:100]}"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._all_open.discard(self)
        self.is_usable = False
        if self._has_begun and self._ends_with_connection and exc is None:
            self._done()
        elif self._has_begun:
            self._fail(BrokenResponseError(f"the reply broke off: {exc or 'end of stream'}"))
        else:
            self._fail(ConnectionClosedError(f"closed before a reply began: {exc or 'end of stream'}"))

    # what the parser calls

    def on_message_begin(self) -> None:
        if self._sink is None:
            raise ValueError("more than one reply")
        self._headers = CIMultiDict()
        self._head_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        length = len(name) + len(value)
        self._head_bytes += length
        if length > MAX_LINE_BYTES or self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("headers without end")
        self._headers.add(name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))

    def on_headers_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls this
        status = self._parser.get_status_code()
        if status <= _LAST_INFORMATION:
            return
        headers = self._headers
        self._ends_with_connection = (
            "Content-Length" not in headers
            and "Transfer-Encoding" not in headers
            and status not in _WITHOUT_BODY
        )
        if self._sink is not None:
            self._sink.begin(status, headers)

    def on_body(self, chunk: bytes) -> None:
        if self._sink is None:
            return
        try:
            self._sink.feed(chunk)
        except StopReadingError:
            self._sink = None
            self.is_usable = False
            self._done()

    def on_message_complete(self) -> None:
        assert self._parser is not None  # noqa: S101 - it calls this
        if self._parser.get_status_code() <= _LAST_INFORMATION:
            return  # 100 Continue and its like: the reply is still to come
        assert self._transport is not None  # noqa: S101 - it brought the reply
        if not self._parser.should_keep_alive() or self._transport.get_write_buffer_size():
            self.is_usable = False
        self._sink = None
        self._done()

    def _done(self) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.is_usable = False
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        if self._transport is not None:
            self._transport.abort()
