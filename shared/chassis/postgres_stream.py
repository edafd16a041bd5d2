"""Watches the bytes that arrive on a connection to Postgres, to find those that no statement has asked for.

asyncpg would read such bytes as the beginning of the response to the next statement. If they are a part of a message,
it would wait for the rest of that message until the statement's deadline.
"""

import asyncio
from typing import Final

READY_FOR_QUERY: Final = b"Z\x00\x00\x00\x05I"
"""The message that ends each response, outside a transaction."""
HEAD_BYTES: Final = 5
"""Type and length of a message."""
LENGTH_BYTES: Final = 4
ANY_TIME: Final = b"NSA"
"""Types of the messages that Postgres may send at any time: notices, changed settings, notifications."""
MAX_UNASKED_BYTES: Final = 64 * 1024


class StreamWatch(asyncio.Protocol):
    """Passes the bytes from the transport to asyncpg's protocol, and watches them."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self._receive = protocol.data_received
        self._is_idle = True
        self._end = READY_FOR_QUERY
        """The last bytes that arrived while the connection was in use."""
        self._unasked = b""
        """The bytes that arrived after that, while the connection was idle."""

    def begin(self) -> bool:
        """Note that the connection is in use from now on. Return whether all bytes so far were expected."""
        self._is_idle = False
        unasked, self._unasked = self._unasked, b""
        return self._end == READY_FOR_QUERY and _are_any_time_messages(unasked)

    def end(self) -> None:
        """Note that the connection is idle from now on."""
        self._is_idle = True

    # the transport calls these

    def data_received(self, data: bytes) -> None:
        if self._is_idle:
            self._unasked = (self._unasked + data)[:MAX_UNASKED_BYTES]
        elif len(data) >= len(READY_FOR_QUERY):
            self._end = data[-len(READY_FOR_QUERY) :]
        else:
            self._end = (self._end + data)[-len(READY_FOR_QUERY) :]
        self._receive(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()


def _are_any_time_messages(data: bytes) -> bool:
    """Whether the bytes are complete messages that may come at any time."""
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at + 1 : at + HEAD_BYTES], "big")
        if data[at] not in ANY_TIME or length < LENGTH_BYTES:
            return False
        at += 1 + length
    return at == len(data)
