"""Requests to other services: TLS, replicas in turn, one repetition (wire.md §4, "Repeating")."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
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
    head_of,
)
from chassis.http.resolver import ReplicaAddress, Resolver
from chassis.messages import Headers
from chassis.tls import Tls

MAX_REPLY_BYTES: Final = 64 * 1024
MAX_CONNECTIONS: Final = 1_024
MAX_SECONDS: Final = 60.0
IDLE_SECONDS: Final = 15.0

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class PeerResponse(msgspec.Struct, frozen=True):
    """What came back; ``body`` is None where it was longer than 64 KiB."""

    status: int
    headers: Headers
    body: bytes | None


class NoResponseError(Exception):
    """Nothing that could be read came back; the message is for the log."""


class ConnectionPool:
    """What an app calls others with."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._resolver = Resolver()
        self._idle: dict[tuple[str, ssl.SSLContext | None], deque[ClientConnection]] = {}
        self._open: set[ClientConnection] = set()
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

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
        """The answer of the service at base URL ``base`` to ``target``, its path and query.

        Raises as :meth:`stream` does.
        """
        whole = BufferedResponse()
        await self.stream(method, base, target, headers, body, whole, deadline)
        return whole.received

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
        """Returns when the answer has gone to ``sink``.

        Repeated once, on another replica where there is one, where the connection was refused, or closed before
        a reply began. Raises NoResponseError; TimeoutError after ``deadline``, on the monotonic clock, or a minute.
        """
        seconds = MAX_SECONDS if deadline is None else deadline - time.monotonic()
        async with asyncio.timeout(seconds):
            try:
                await self._twice(_Request(method, target, headers, body), base, sink)
            except (NotConnectedError, ConnectionClosedError, BrokenResponseError, ValueError) as error:
                raise NoResponseError(f"{type(error).__name__.removesuffix('Error')}: {error}") from error

    async def _twice(self, request: "_Request", base: str, sink: Sink) -> None:
        replica = await self._resolver.next(base)
        try:
            await self._once(replica, request, sink)
        except NotConnectedError as error:  # nothing was sent, and another may take it
            again = await self._resolver.instead_of(replica, base, is_away=True)
            if isinstance(error.__cause__, TimeoutError) and again.base == replica.base:
                raise
        except ConnectionClosedError:
            # it was an old connection that closed, which says little of the service
            again = await self._resolver.instead_of(replica, base, is_away=False)
        else:
            return
        await self._once(again, request, sink)

    async def _once(self, replica: ReplicaAddress, request: "_Request", sink: Sink) -> None:
        async with self._room:
            context = self._context(replica)
            connection = self._take_idle(replica, context) or await self._connect(replica, context)
            await connection.send(request.written_to(replica), sink)
            if connection.is_usable:
                connection.idle_since = time.monotonic()
                self._idle.setdefault((replica.base, context), deque()).append(connection)

    def _context(self, replica: ReplicaAddress) -> ssl.SSLContext | None:
        if not replica.base.startswith("https:"):
            return None
        client = self._tls.client
        return client if isinstance(client, ssl.SSLContext) else _system_context()

    def _take_idle(self, replica: ReplicaAddress, context: ssl.SSLContext | None) -> ClientConnection | None:
        """The connection used last, closing those that have been idle for long."""
        idle = self._idle.get((replica.base, context))
        if not idle:
            return None
        too_old = time.monotonic() - IDLE_SECONDS
        while idle and (not idle[0].is_usable or idle[0].idle_since < too_old):
            idle.popleft().close()
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                return connection
        return None

    def _forget_closed(self) -> None:
        """Of places that are not used any more, too."""
        for key, idle in list(self._idle.items()):
            self._idle[key] = deque(connection for connection in idle if connection.is_usable)
            if not self._idle[key]:
                del self._idle[key]

    async def _connect(self, replica: ReplicaAddress, context: ssl.SSLContext | None) -> ClientConnection:
        """Raises NotConnectedError."""
        self._forget_closed()
        parts = urlsplit(replica.base)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
        name = replica.server_hostname or (host if context is not None else None)
        try:
            async with asyncio.timeout(replica.connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: ClientConnection(self._open), host, port, ssl=context, server_hostname=name
                )
        except (OSError, TimeoutError) as error:
            raise NotConnectedError(f"{host} port {port}: {str(error) or 'timed out'}") from error
        return connection


class BufferedResponse:
    """The whole answer, if it is not too long."""

    def __init__(self) -> None:
        self._status = 0
        self._headers: Headers | None = None
        self._chunks: list[bytes] = []
        self._bytes = 0

    def begin(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers

    def feed(self, chunk: bytes) -> None:
        self._bytes += len(chunk)
        if self._bytes <= MAX_REPLY_BYTES:
            self._chunks.append(chunk)
        else:
            raise StopReadingError

    @property
    def received(self) -> PeerResponse:
        assert self._headers is not None  # noqa: S101 - a reply has come
        body = None if self._bytes > MAX_REPLY_BYTES else b"".join(self._chunks)
        return PeerResponse(self._status, self._headers, body)


class _Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None

    def written_to(self, replica: ReplicaAddress) -> bytes:
        parts = urlsplit(replica.base)
        headers = {hdrs.HOST: parts.netloc, **self.headers, **replica.headers}
        body = self.body
        head = head_of(self.method, parts.path + self.target, headers, None if body is None else len(body))
        return head if body is None else head + body


@cache
def _system_context() -> ssl.SSLContext:
    return ssl.create_default_context()
