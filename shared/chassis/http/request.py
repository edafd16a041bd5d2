"""One request in the form that the services use: from the protocol class, from aiohttp, or from a line of a batch.

`RequestReader` uses llhttp to read the heads of requests for the protocol class (`HttpProtocol`). It leaves two kinds
of requests to aiohttp: those that llhttp refuses, and those that are valid but unusual.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import httptools
import msgspec

from chassis.tracing import Line

Headers = dict[str, str]
"""Header values by lower-case name. The values of a repeated header are joined by a comma and a space (RFC 9110 §5.3).
"""

NO_HEADERS: Final[Headers] = {}

MAX_LINE_BYTES: Final = 8_190
"""Limit for a URL and for a header line. aiohttp reads each head that is longer, to see which line is too long."""

_MAX_LENGTH_DIGITS: Final = 10
_HEAD_END: Final = b"\r\n\r\n"
_LEFT_TO_AIOHTTP: Final = frozenset(
    {"transfer-encoding", "expect", "upgrade", "te", "trailer", "http2-settings"}
)
_FREQUENT: Final = (
    *("accept", "accept-encoding", "authorization", "connection", "content-length", "content-type", "host"),
    *("idempotency-key", "l1p-trace-id", "traceparent", "user-agent", "x-request-timeout-ms"),
)
_NAMES: Final = {spelling.encode(): name for name in _FREQUENT for spelling in (name, name.title())}
_HOST: Final = re.compile(r"[A-Za-z0-9._~:\[\]%-]*\Z")

Read = Callable[[int], Awaitable[bytes]]
"""A function that reads a body. Its argument is the maximum size in bytes.

Raises PayloadTooLargeError, ExpectationFailedError, RequestTimeoutError, InvalidBodyError.
"""


class Request(msgspec.Struct, gc=False):
    """One request. `path` and `query` are percent-encoded, as they arrived."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    received: float
    """Time at which the request reached this machine, on the monotonic clock, as far as it is known."""
    address: str
    """IP address of the peer."""
    scheme: str = "http"
    was_queued: bool = False
    """Whether the request waited in the admission queue."""
    is_excess: bool = False
    """Whether the admission queue had no room for the request."""
    line: Line | None = None
    """The place of the request in the batch in which it arrived."""
    read: Read | None = None
    """Reads the body; None if the body has been read already."""

    @property
    def origin(self) -> str:
        """Scheme and host that the request was sent to."""
        return f"{self.scheme}://{self.headers.get('host', '')}"


def joined(given: Mapping[str, str]) -> Headers:
    """Return headers by lower-case name. The values of names that differ only in case are joined."""
    headers: Headers = {}
    for name, value in given.items():
        key = name.lower()
        headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers


def is_host(host: str) -> bool:
    """Whether the text has the form of a Host header's value."""
    return _HOST.match(host) is not None


class RequestReader:
    """Reads request heads for all connections of a server.

    The connections share one parser, because to make a new parser for a head took a third of the time to read this
    head.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpRequestParser | None = None
        """The parser, ready for the next request; None if a new parser is needed."""
        self._target = b""
        self._headers: Headers = {}
        self._has_repeated = False

    def read(self, data: bytes, received: float, address: str, scheme: str) -> tuple[Request, int] | None:
        """Return the request at the start of `data`, and the position of its end; None if it is left to aiohttp.

        The body is incomplete if `data` ends before that position.
        """
        end = data.find(_HEAD_END) + len(_HEAD_END)
        if not len(_HEAD_END) <= end <= MAX_LINE_BYTES:
            return None
        parser, self._parser = self._parser or httptools.HttpRequestParser(self), None
        self._target, self._has_repeated = b"", False
        headers: Headers = {}
        self._headers = headers
        try:
            parser.feed_data(data[:end])
            target = self._target.decode("ascii")
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, UnicodeDecodeError):
            return None
        finally:
            self._headers = NO_HEADERS  # no credentials stay here
        method = parser.get_method().decode()
        length = headers.get("content-length", "0")
        connection = headers.get("connection", "keep-alive").lower()
        if (
            not (target.startswith("/") and length.isdigit() and len(length) < _MAX_LENGTH_DIGITS)
            or "#" in target
            or self._has_repeated
            or parser.get_http_version() != "1.1"
            or method == "HEAD"
            or not is_host(headers.get("host", " "))
            or connection not in {"keep-alive", "close"}
            or not _LEFT_TO_AIOHTTP.isdisjoint(headers)
        ):
            return None
        whole_at = end + int(length)
        body = data[end:whole_at]
        if len(data) >= whole_at and connection != "close":
            if body:
                parser.feed_data(body)  # so that it expects the next request
            self._parser = parser
        path, _, query = target.partition("?")
        return Request(method, path, query, headers, body, received, address, scheme), whole_at

    # llhttp calls these

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        headers = self._headers
        key = _NAMES.get(name) or name.decode("latin-1").lower()
        if key in headers:
            self._has_repeated = True
        headers[key] = value.decode("utf-8", "surrogateescape")
