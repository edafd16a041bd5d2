"""Connections to other services: reuse, TLS, replicas, and one repetition of a request (wire.md §4, "Repeating")."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import hdrs

from chassis.http.client import (
    BrokenResponseError,
    ClientConnection,
    ConnectionClosedError,
    NotConnectedError,
    Sink,
    StopReadingError,
)
from chassis.http.request import Headers
from chassis.http.resolver import ReplicaAddress, Resolver
from chassis.tls import Tls
from chassis.tracing import TRACE_HEADER, new_trace_id

MAX_RESPONSE_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 1_024
MAX_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 15.0

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

_Key = tuple[str, ssl.SSLContext | None]


class PeerResponse(msgspec.Struct, frozen=True, gc=False):
    """The response of another service; ``body`` is None if it was longer than 64 KiB."""

    status: int
    headers: Headers
    body: bytes | None


class NoResponseError(Exception):
    """No valid response arrived. The message is for the log."""


class ConnectionPool:
    """The connections of a service to other services."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._resolver = Resolver()
        self._idle: dict[_Key, list[ClientConnection]] = {}
        self._open: set[ClientConnection] = set()
        self._free = asyncio.Semaphore(MAX_CONNECTIONS)
        self.waiters = 0
        """Requests that wait because MAX_CONNECTIONS are in use."""

    def connections(self) -> tuple[int, int]:
        """Return how many connections are in use, and how many are idle."""
        idle = sum(connection.is_usable for each in self._idle.values() for connection in each)
        return len(self._open) - idle, idle

    async def close(self) -> None:
        self._resolver.close()
        for connection in list(self._open):
            connection.close()

    async def request(
        self,
        method: str,
        base: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None = None,
        deadline: float | None = None,
    ) -> PeerResponse:
        """Send a request for ``target`` (path and query) to the service at base URL ``base``, and return the response.

        Raises the errors of :meth:`stream`.
        """
        sink = BufferedResponse()
        await self.stream(method, base, target, headers, body, sink, deadline)
        return sink.received

    async def stream(
        self,
        method: str,
        base: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        sink: Sink,
        deadline: float | None = None,
    ) -> None:
        """Send a request and return when ``sink`` has received the response.

        If the connection was refused, or closed before a response began, the request is repeated once. The repetition
        goes to another replica if there is one. Raises NoResponseError. Raises TimeoutError at ``deadline`` (monotonic
        clock), or after a minute if there is no deadline.
        """
        seconds = MAX_SECONDS if deadline is None else deadline - time.monotonic()
        request = _PeerRequest(method, target, headers, body, headers.get(TRACE_HEADER) or new_trace_id())
        async with asyncio.timeout(seconds):
            try:
                await self._try_twice(request, base, sink)
            except (NotConnectedError, ConnectionClosedError, BrokenResponseError, ValueError) as error:
                raise NoResponseError(f"{type(error).__name__.removesuffix('Error')}: {error}") from error

    async def _try_twice(self, request: "_PeerRequest", base: str, sink: Sink) -> None:
        replica = await self._resolver.next(base)
        try:
            await self._try(replica, request, sink)
        except NotConnectedError as error:
            other = await self._resolver.instead_of(replica, base, is_away=True)
            if isinstance(error.__cause__, TimeoutError) and other.base == replica.base:
                raise
        except ConnectionClosedError:
            # an idle connection may close at any time: that does not mean that the replica is away
            other = await self._resolver.instead_of(replica, base, is_away=False)
        else:
            return
        await self._try(other, request, sink)

    async def _try(self, replica: ReplicaAddress, request: "_PeerRequest", sink: Sink) -> None:
        self.waiters += 1
        try:
            await self._free.acquire()
        finally:
            self.waiters -= 1
        try:
            key = replica.base, self._context(replica)
            connection = self._take_idle(key) or await self._connect(replica, key)
            try:
                await connection.send(request.bytes_for(replica), request.trace_id, sink)
            except asyncio.CancelledError:
                if connection.idle_since and not connection.has_response_begun:
                    for other in self._idle.pop(key, ()):  # a firewall may have forgotten all of them
                        other.close()
                raise
            if connection.is_usable:
                connection.idle_since = time.monotonic()
                self._idle.setdefault(key, []).append(connection)
        finally:
            self._free.release()

    def _context(self, replica: ReplicaAddress) -> ssl.SSLContext | None:
        if not replica.base.startswith("https:"):
            return None
        client = self._tls.client
        return client if isinstance(client, ssl.SSLContext) else _system_context()

    def _take_idle(self, key: _Key) -> ClientConnection | None:
        """Remove and return the idle connection that was used last; None if all have been idle for too long."""
        idle = self._idle.get(key, [])
        too_old = time.monotonic() - IDLE_SECONDS
        while idle:
            connection = idle.pop()
            if connection.is_usable and connection.idle_since > too_old:
                return connection
            connection.close()
        return None

    def _forget_closed(self) -> None:
        """Remove closed connections from the pool, including those to replicas that are no longer used."""
        usable = {key: [each for each in idle if each.is_usable] for key, idle in self._idle.items()}
        self._idle = {key: idle for key, idle in usable.items() if idle}

    async def _connect(self, replica: ReplicaAddress, key: _Key) -> ClientConnection:
        """Open a connection to a replica. Raises NotConnectedError."""
        self._forget_closed()
        base, context = key
        parts = urlsplit(base)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
        name = replica.server_hostname or (host if context is not None else None)
        connection = ClientConnection(self._open)
        try:
            async with asyncio.timeout(replica.connect_seconds):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection, host, port, ssl=context, server_hostname=name
                )
        except OSError as error:  # a TimeoutError too
            raise NotConnectedError(f"{host} port {port}: {str(error) or 'timed out'}") from error
        return connection


class BufferedResponse:
    """A sink that keeps one response, but without its body if that is longer than 64 KiB."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: Headers | None = None
        self._chunks: list[bytes] = []
        self._bytes = 0

    def begin(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes > MAX_RESPONSE_BYTES:
            raise StopReadingError
        self._chunks.append(chunk)

    @property
    def received(self) -> PeerResponse:
        assert self._headers is not None  # noqa: S101 - a response was received
        body = None if self._bytes > MAX_RESPONSE_BYTES else b"".join(self._chunks)
        return PeerResponse(self._status, self._headers, body)


@dataclass(slots=True)
class _PeerRequest:
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None
    trace_id: str

    def bytes_for(self, replica: ReplicaAddress) -> bytes:
        """Return the request as bytes. Raises ValueError if the target or a header contains a line break or NUL."""
        parts = urlsplit(replica.base)
        headers = {hdrs.HOST: parts.netloc, **self.headers, TRACE_HEADER: self.trace_id, **replica.headers}
        if self.body is not None:
            headers[hdrs.CONTENT_LENGTH] = str(len(self.body))
        lines = [f"{self.method} {parts.path}{self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join(lines)
        if text.count("\r") != len(lines) - 1 or text.count("\n") != len(lines) - 1 or "\0" in text:
            raise ValueError("the request's target or a header contains a line break or NUL")
        return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + (self.body or b"")


@cache
def _system_context() -> ssl.SSLContext:
    return ssl.create_default_context()
