"""The head of a request that has not arrived completely: it has limits for its time and its size."""

import asyncio
from collections.abc import Callable
from typing import Final

import httptools

from chassis.errors import MALFORMED_HTTP, InvalidHeaderError, QuotingError, RequestTimeoutError
from chassis.http.body_budget import BodyBudget, no_room
from chassis.http.request import MAX_LINE_BYTES

HEAD_END: Final = b"\r\n\r\n"
HEAD_SECONDS: Final = 10.0
MAX_UNFINISHED_BYTES: Final = 64 * 1024


class UnfinishedHead:
    """The unfinished head at the end of one connection's data, if there is one. It counts in the budget for bodies.

    llhttp finds it, because aiohttp does not say what it has read of a head. `refuse` is called at most once, with the
    error of a head that comes too slowly, is too long, has no room or is malformed.
    """

    def __init__(self, budget: BodyBudget, refuse: Callable[[QuotingError], None]) -> None:
        self.address = ""
        """IP address of the peer, set before any data."""
        self._budget = budget
        self._refuse = refuse
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._length = 0
        """Bytes of its target and its complete header lines."""
        self._counted = 0
        """Bytes that count in the budget."""

    @property
    def is_begun(self) -> bool:
        return self._timer is not None

    def feed(self, data: bytes) -> None:
        """Read the next data of the connection."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # after an upgrade a client may go on in another protocol: nothing more is read
            self._fail(InvalidHeaderError(MALFORMED_HTTP))
            return
        self._release()
        if not self.is_begun:
            return
        # llhttp does not give the last line before it is complete: it counts with the greatest length
        length = self._length + MAX_LINE_BYTES
        if self._length > MAX_UNFINISHED_BYTES:
            self._fail(InvalidHeaderError(f"The head is longer than {MAX_UNFINISHED_BYTES:,} bytes."))
        elif self._budget.take(self.address, length):
            self._counted = length
        else:
            self._fail(no_room())

    def _fail(self, error: QuotingError) -> None:
        refuse = self._refuse
        self.close()
        refuse(error)

    def close(self) -> None:
        """Count and time the head no longer: the connection ends."""
        # reference cycles, with a part of the head and with the connection
        self._parser = None
        self._refuse = lambda _error: None
        self._stop_timer()
        self._release()

    def _release(self) -> None:
        if self._counted:
            self._budget.give_back(self.address, self._counted)
            self._counted = 0

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # llhttp calls these

    def on_message_begin(self) -> None:
        self._length = 0
        self._timer = asyncio.get_running_loop().call_later(
            HEAD_SECONDS, lambda: self._fail(RequestTimeoutError())
        )

    def on_url(self, url: bytes) -> None:
        self._length += len(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._length += len(name) + len(value) + len(": \r\n")

    def on_headers_complete(self) -> None:
        self._stop_timer()
