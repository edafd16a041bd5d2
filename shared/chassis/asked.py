"""One HTTP request as routes see it, whoever has read it, and its response."""

import socket
from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from aiohttp import web

from chassis.content import read
from chassis.messages import Headers


class Asked(Protocol):
    """One request. ``path`` and ``query`` are as they came, percent-encoded."""

    method: str
    path: str
    query: str
    headers: Headers

    @property
    def address(self) -> str:
        """Where it came from."""

    @property
    def origin(self) -> str:
        """Scheme and host that it was sent to."""

    @property
    def connection(self) -> socket.socket | None:
        """The socket that it came on; None where nobody can tell."""

    async def read(self, max_bytes: int) -> bytes:
        """The whole body. Raises as `chassis.content.read` does."""


class Here(Asked, Protocol):
    """One that is here in whole, each of whose headers is there once."""

    body: bytes
    """Of whatever size."""

    @property
    def waited(self) -> float | None:
        """Seconds since it was read, where that was too much to be looked at straight away."""


class Response(msgspec.Struct, frozen=True):
    """What goes back. No header may hold what ends a line: whoever made them has seen to that."""

    status: int
    headers: dict[str, str]
    """Without those that say how the body is written."""
    body: bytes
    rest: AsyncIterator[bytes] | None = None
    """What comes after ``body`` as it becomes known, for a body whose length nobody knows yet."""


class ReadByAiohttp:
    """A request that aiohttp has read."""

    __slots__ = ("_request", "headers", "method", "path", "query")

    def __init__(self, request: web.BaseRequest) -> None:
        url = request.rel_url
        self.method = request.method
        self.path = url.raw_path
        self.query = url.raw_query_string
        self.headers: Headers = request.headers
        self._request = request

    @property
    def address(self) -> str:
        return self._request.remote or ""

    @property
    def origin(self) -> str:
        return f"{self._request.scheme}://{self._request.host}"

    @property
    def connection(self) -> socket.socket | None:
        return getattr(self._request.protocol, "connection", None)

    async def read(self, max_bytes: int) -> bytes:
        return await read(self._request, max_bytes)
