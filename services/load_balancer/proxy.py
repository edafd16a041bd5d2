"""Connections passed through, byte for byte: a line has an end at the caller and one at a replica."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from chassis.http.resolver import Place

MAX_LINES: Final = 1_024
IDLE_SECONDS: Final = 90.0
"""Longer than services keep a connection, and than any of them takes to answer."""
SWEEP_EVERY_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 0.5


class End(asyncio.Protocol):
    """What comes in here goes out at the other end, no faster than it is taken there."""

    transport: asyncio.Transport
    other: "End"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def connection_lost(self, _error: Exception | None) -> None:
        """Closing sends what came before."""
        self.other.transport.close()

    def data_received(self, data: bytes) -> None:
        # uvloop raises where a transport that is closed is asked for anything
        if not self.other.transport.is_closing():
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class ReplicaEnd(End):
    """A replica that ends its side has ended the line, as asyncio does by itself."""

    def __init__(self, caller: "CallerEnd") -> None:
        self.other = self._caller = caller

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._caller.reached(self)

    def data_received(self, data: bytes) -> None:
        self._caller.moved(is_waiting=False)
        super().data_received(data)


class CallerEnd(End):
    """A line begins and ends with its caller. What is said before a replica is reached waits for that."""

    is_waiting: bool
    """Nothing has come back since the caller said something last."""
    last_moved: float

    def __init__(self, lines: "Lines") -> None:
        self._lines = lines
        self._held = b""
        self._has_said_all = False
        self.other = self  # until a replica is reached

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.moved(is_waiting=True)
        self._reaching = asyncio.create_task(self._reach(self._lines.in_turn()))
        self._lines.begun(self)

    async def _reach(self, places: Sequence[Place]) -> None:
        loop = asyncio.get_running_loop()
        for place in places:
            parts = urlsplit(place.base)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            with contextlib.suppress(OSError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await loop.create_connection(lambda: ReplicaEnd(self), parts.hostname or "", port)
                return
        self.transport.abort()

    def reached(self, replica: ReplicaEnd) -> None:
        self.other = replica
        self.moved(is_waiting=bool(self._held))
        if self.transport.is_closing():
            replica.transport.abort()
            return
        replica.transport.write(self._held)
        if self._has_said_all:
            replica.transport.write_eof()
        else:
            self.transport.resume_reading()

    def moved(self, *, is_waiting: bool) -> None:
        self.is_waiting = is_waiting
        self.last_moved = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.moved(is_waiting=True)
        if self.other is self:
            self._held += data
            self.transport.pause_reading()  # which uvloop does not do before the first bytes have come
        else:
            super().data_received(data)

    def eof_received(self) -> bool:
        """A caller who has said all may still read."""
        self._has_said_all = True
        if self.other is not self and not self.other.transport.is_closing():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self._reaching.cancel()
        self._lines.ended(self)
        super().connection_lost(error)


class Lines:
    """All lines; ``in_turn`` says at which places to try for the next, one after the other."""

    def __init__(self, in_turn: Callable[[], Sequence[Place]]) -> None:
        self.in_turn = in_turn
        self._open: set[CallerEnd] = set()

    def begun(self, line: CallerEnd) -> None:
        self._open.add(line)
        if len(self._open) > MAX_LINES:
            line.transport.abort()

    def ended(self, line: CallerEnd) -> None:
        self._open.discard(line)

    async def keep_swept(self) -> None:
        """Ends lines on which nothing has moved for long."""
        while True:
            await asyncio.sleep(SWEEP_EVERY_SECONDS)
            for line in self._open:
                if time.monotonic() - line.last_moved > IDLE_SECONDS:
                    line.transport.abort()

    async def close(self, max_seconds: float) -> None:
        """Ends all, those that an answer is due on when it has come."""
        await _until(lambda: not any(line.is_waiting for line in self._open), max_seconds)
        for line in self._open:
            line.transport.close()
        await _until(lambda: not self._open, FLUSH_SECONDS)
        for line in self._open:
            line.transport.abort()


async def _until(is_so: Callable[[], bool], max_seconds: float) -> None:
    end = time.monotonic() + max_seconds
    while not is_so() and time.monotonic() < end:
        await asyncio.sleep(0.02)
