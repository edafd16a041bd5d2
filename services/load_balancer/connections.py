"""Pass the bytes of connections through. Each connection has a client side and a replica side."""

import asyncio
import errno
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from chassis.http.resolver import ReplicaAddress
from chassis.logs import Logs

MAX_CONNECTIONS: Final = 1_024
IDLE_SECONDS: Final = 90.0
"""A connection without traffic is closed after this time.

Services close idle connections earlier than this, and no response takes so long.
"""
IDLE_CHECK_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 0.5
LOG_EVERY_SECONDS: Final = 1.0
DESCRIPTOR_SECONDS: Final = 0.01
"""Time after which the event loop has closed the descriptors of a connection."""


class ConnectionSide(asyncio.Protocol):
    """Writes all received bytes to the other side. Stops reading while the other side cannot write."""

    transport: asyncio.Transport
    other: "ConnectionSide"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        """Close the other side, after it has sent the bytes that it still holds."""
        self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        # uvloop raises when a closed transport is used
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class ReplicaSide(ConnectionSide):
    """The side towards the replica.

    When the replica sends EOF, asyncio closes this side, which closes the client side.
    """

    def __init__(self, client: "ClientSide") -> None:
        self.other = self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._client.replica_connected(self)

    def data_received(self, data: bytes) -> None:
        self._client.bytes_passed(awaits_response=False)
        super().data_received(data)


class ClientSide(ConnectionSide):
    """The side towards the client. Keeps bytes that arrive before the connection to a replica is open."""

    awaits_response: bool
    """Whether the client has sent bytes and the replica has sent none since then."""
    last_activity: float
    """On the monotonic clock."""

    def __init__(self, connections: "OpenConnections") -> None:
        self._connections = connections
        self._early_bytes = b""
        self._has_sent_eof = False
        self.other = self  # until a replica is connected

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.bytes_passed(awaits_response=True)
        self._connecting = asyncio.create_task(self._connect(self._connections.candidates()))
        self._connections.opened(self)

    async def _connect(self, candidates: Sequence[ReplicaAddress]) -> None:
        error = await self._connect_to_one(candidates)
        if error is not None and error.errno == errno.EMFILE and self._connections.close_oldest_idle():
            await asyncio.sleep(DESCRIPTOR_SECONDS)
            error = await self._connect_to_one(candidates)
        if error is not None:
            self._connections.refuse(
                self, f"no replica could be reached: {str(error) or type(error).__name__}"
            )

    async def _connect_to_one(self, candidates: Sequence[ReplicaAddress]) -> OSError | None:
        """Connect to the first replica that accepts. Return the error of the last one if none does."""
        loop = asyncio.get_running_loop()
        last = OSError("there is none")
        for replica in candidates:
            parts = urlsplit(replica.base)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.create_connection(lambda: ReplicaSide(self), parts.hostname or "", port)
            except OSError as error:
                last = error
            else:
                return None
        return last

    def replica_connected(self, replica: ReplicaSide) -> None:
        self.other = replica
        self.bytes_passed(awaits_response=bool(self._early_bytes))
        if self.transport.is_closing():
            replica.transport.abort()
            return
        replica.transport.write(self._early_bytes)
        if self._has_sent_eof:
            replica.transport.write_eof()
        else:
            self.transport.resume_reading()

    @property
    def is_idle(self) -> bool:
        """Whether a replica is connected and the client awaits no response."""
        return self.other is not self and not self.awaits_response

    def bytes_passed(self, *, awaits_response: bool) -> None:
        self.awaits_response = awaits_response
        self.last_activity = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.bytes_passed(awaits_response=True)
        if self.other is self:
            self._early_bytes += data
            self.transport.pause_reading()  # uvloop cannot pause reading before the first bytes arrive
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        """Pass EOF on to the replica and return True, which keeps this side open for the response."""
        self._has_sent_eof = True
        if self.other is not self and not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._connecting.cancel()
        self._connections.closed(self)
        super().connection_lost(error)


class OpenConnections:
    """All open connections. ``candidates`` returns the replicas to try for a new connection, in order.

    If there are too many, the one that has been idle for the longest time is closed. If none is idle, the new one is
    refused, which is logged once a second.
    """

    def __init__(self, candidates: Callable[[], Sequence[ReplicaAddress]], logs: Logs) -> None:
        self.candidates = candidates
        self._logs = logs
        self._open: set[ClientSide] = set()
        self._refused = 0
        self._logged = float("-inf")

    def opened(self, client: ClientSide) -> None:
        self._open.add(client)
        if len(self._open) > MAX_CONNECTIONS and not self.close_oldest_idle():
            self.refuse(client, f"{MAX_CONNECTIONS:,} connections are open and await responses")

    def close_oldest_idle(self) -> bool:
        """Close the connection that has been idle for the longest time. Return False if there is none."""
        idle = [client for client in self._open if client.is_idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda client: client.last_activity)
        self._open.discard(oldest)
        oldest.transport.abort()
        return True

    def refuse(self, client: ClientSide, cause: str) -> None:
        client.transport.abort()
        self._refused += 1
        if time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            self._logs.error("connections cannot be passed on", cause=cause, refused=self._refused)
            self._refused = 0

    def closed(self, client: ClientSide) -> None:
        self._open.discard(client)

    async def close_idle(self) -> None:
        """Close idle connections every few seconds, until this task is cancelled."""
        while True:
            await asyncio.sleep(IDLE_CHECK_SECONDS)
            for client in self._open:
                if time.monotonic() - client.last_activity > IDLE_SECONDS:
                    client.transport.abort()

    async def drain(self, max_seconds: float) -> None:
        """Close all connections. Wait up to ``max_seconds`` for those that await a response."""
        await _wait_until(lambda: not any(client.awaits_response for client in self._open), max_seconds)
        for client in self._open:
            client.transport.close()
        await _wait_until(lambda: not self._open, FLUSH_SECONDS)
        for client in self._open:
            client.transport.abort()


async def _wait_until(is_met: Callable[[], bool], max_seconds: float) -> None:
    end = time.monotonic() + max_seconds
    while not is_met() and time.monotonic() < end:
        await asyncio.sleep(0.02)
