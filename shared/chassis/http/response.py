"""One response, and its bytes in HTTP/1.1."""

import asyncio
import http
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Final

import msgspec

from chassis.content import JSON

LAST_CHUNK: Final = b"0\r\n\r\n"

_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}


class BodyStream:
    """A body whose pieces are added one by one. The pieces of one event loop iteration are written together."""

    def __init__(self) -> None:
        self.on_ready: Callable[[], None] = lambda: None
        """Called when there are pieces to take."""
        self.is_finished = False
        self._pieces: list[bytes] = []

    @property
    def is_ended(self) -> bool:
        """Whether the body is complete and all its pieces have been taken."""
        return self.is_finished and not self._pieces

    def put(self, piece: bytes, *, is_last: bool) -> None:
        self._pieces.append(piece)
        self.is_finished = is_last
        if len(self._pieces) == 1:
            asyncio.get_running_loop().call_soon(self.on_ready)

    def take(self) -> bytes:
        """Remove and return the pieces that have not been taken yet."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


class Response(msgspec.Struct, frozen=True, gc=False):
    """One response. No header may contain a line break; the code that sets a header makes sure of it."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Headers of this response alone; the headers that every response of the service has are not among them."""
    content_type: str = JSON
    error_id: str | None = None
    """The id of the error, for the log. `cause` is also for the log."""
    cause: str | None = None
    stream: BodyStream | None = None
    """The rest of a body whose length is not known yet; None if `body` is complete."""
    is_upstream: bool = False
    """Whether the next hop raised the error, and this service passes it on."""


Respond = Callable[[Response, Mapping[str, str]], None]
"""A function that sends a response. The mapping has the headers that every response to the same request gets."""


def response_bytes(
    response: Response, reply_headers: Mapping[str, str], service_lines: str, *, is_last: bool
) -> bytes:
    """Return a response as bytes of HTTP/1.1. The rest of a streamed body is not included.

    `service_lines` are the header lines that every response of the service has. `is_last` means that the connection
    closes after this response.
    """
    body, stream = response.body, response.stream
    head = _start(response.status, response.content_type, service_lines, int(time.time()), is_last)
    for name, value in reply_headers.items():
        head += f"{name}: {value}\r\n"
    for name, value in response.headers:
        head += f"{name}: {value}\r\n"
    if stream is None:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("utf-8", "replace") + body
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode("utf-8", "replace") + chunk(body)


@lru_cache(maxsize=64)
def _start(status: int, content_type: str, service_lines: str, now: int, is_last: bool) -> str:
    """Return the first lines of a response. They are cached, because many responses have the same first lines."""
    close = "Connection: close\r\n" if is_last else ""
    return (
        f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\nDate: {formatdate(now, usegmt=True)}\r\n{service_lines}"
        f"{close}Content-Type: {content_type}\r\n"
    )


def chunk(data: bytes) -> bytes:
    """Return a piece of the body as a chunk of chunked encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
