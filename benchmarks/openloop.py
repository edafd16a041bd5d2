"""Load generator that sends reservations at a fixed rate and does not wait for responses ("open loop").

    python -m benchmarks.openloop ORIGIN RATE SECONDS

Prints its counts as JSON. Connections are opened in the first second, so its responses do not count as goodput. wrk
cannot send such load: it waits for a response before it sends the next request, so an overloaded service slows it down.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any, Final, cast
from urllib.parse import urlsplit
from uuid import uuid4

import uvloop

from benchmarks.chains import FIRST_IDENTIFIER
from network.demo import AUTHORIZATION, SAMPLE

MAX_CONNECTIONS: Final = 8_000
"""Maximum of open connections. A request that is due while all of them wait for a response is counted as not sent."""
IDENTIFIERS: Final = 1_000
WARM_UP_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.001
DRAIN_SECONDS: Final = 20
"""Time to wait for the last responses. It is longer than any service takes to respond."""
OK: Final = 200


class OpenLoopConnection(asyncio.Protocol):
    """One connection to the service, with at most one request in flight."""

    def __init__(self, answered: Callable[["OpenLoopConnection", int | None], None]) -> None:
        self._answered = answered
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.due: float | None = None
        """When the request in flight was due, by time.monotonic(); the event loop's own clock is not exact enough."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None  # noqa: S101 - connections are used after connection_made
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        status = parse_status(self._received)
        if status is not None:
            self._received = b""
            self._answered(self, status)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self.due is not None:
            self._answered(self, None)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()


def parse_status(received: bytes) -> int | None:
    """Return the status if the response is complete, else None. Every response has a Content-Length."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    length = int(after.partition(b"\r\n")[0])
    return int(head[9:12]) if len(body) >= length else None


@dataclass
class Tally:
    """Counts of responses by status; "lost" counts connections that closed before the response.

    `seconds` has the time from when each request was due until its 200 arrived.
    """

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    good_in_time: int = 0
    """Number of 200 responses that arrived after the first second and before the load ended."""
    sent: int = 0
    not_sent: int = 0
    max_late: float = 0.0
    """Longest time in seconds from when a request was due until it was sent.

    It shows whether the generator is too slow.
    """

    def as_json(self, seconds: float) -> dict[str, Any]:
        cuts = quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        return {
            "sent": self.sent,
            "not_sent": self.not_sent,
            "statuses": dict(self.counts),
            "goodput": self.good_in_time / seconds,
            "p50_ms": cuts[49] * 1e3,
            "p99_ms": cuts[98] * 1e3,
            "max_late_ms": self.max_late * 1e3,
        }


class OpenLoopGenerator:
    """Sends reservations at a fixed rate and opens as many connections as that needs."""

    def __init__(self, origin: str, rate: float, seconds: float) -> None:
        parts = urlsplit(origin)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._rate, self._seconds = rate, seconds
        self._requests = ReservationRequests(parts.netloc)
        self._free: list[OpenLoopConnection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._busy = 0
        self._counted = 0.0, 0.0
        """Monotonic times at which the counting of goodput begins and ends."""
        self.tally = Tally()

    async def run(self) -> Tally:
        began = time.monotonic()
        warm = began + WARM_UP_SECONDS
        self._counted = warm, warm + self._seconds
        number, total = 0, int(self._rate * (WARM_UP_SECONDS + self._seconds))
        while number < total:
            now = time.monotonic()
            while number < total and (due := began + number / self._rate) <= now:
                self._offer(due, now)
                number += 1
            await asyncio.sleep(TICK_SECONDS)
        give_up = time.monotonic() + DRAIN_SECONDS
        while (self._busy or self._opening) and time.monotonic() < give_up:
            await asyncio.sleep(0.05)
        self.tally.counts["unanswered"] += self._busy + len(self._opening)
        return self.tally

    def _offer(self, due: float, now: float) -> None:
        while self._free:
            connection = self._free.pop()
            if connection.is_open:
                self._send(connection, due, now)
                return
            self._connections -= 1
        if self._connections >= MAX_CONNECTIONS:
            self.tally.not_sent += 1
            return
        self._connections += 1
        task = asyncio.get_running_loop().create_task(self._open(due))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, due: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(
                lambda: OpenLoopConnection(self._answered), self._host, self._port
            )
        except OSError:
            self._connections -= 1
            self.tally.counts["not connected"] += 1
            return
        # a slow accept is the services' fault, so the generator does not count as late
        self._send(connection, due, due)

    def _send(self, connection: OpenLoopConnection, due: float, now: float) -> None:
        self.tally.sent += 1
        self.tally.max_late = max(self.tally.max_late, now - due)
        self._busy += 1
        connection.send(self._requests.next(), due)

    def _answered(self, connection: OpenLoopConnection, status: int | None) -> None:
        assert connection.due is not None  # noqa: S101 - set by send
        now = time.monotonic()
        took, connection.due = now - connection.due, None
        self._busy -= 1
        self.tally.counts["lost" if status is None else str(status)] += 1
        if status == OK:
            self.tally.seconds.append(took)
            begin, end = self._counted
            self.tally.good_in_time += begin < now <= end
        if connection.is_open:
            self._free.append(connection)
        else:
            self._connections -= 1


class ReservationRequests:
    """Builds the bytes of reservation requests, each with its own idempotency key."""

    def __init__(self, host: str) -> None:
        body = json.dumps({**SAMPLE, "identifier": "{identifier}"}, separators=(",", ":"))
        first, last = body.split("{identifier}")
        length = len(body) - len("{identifier}") + len(str(FIRST_IDENTIFIER))
        self._head = (
            f"POST /v1/quoteSourceAmount HTTP/1.1\r\nHost: {host}\r\nAuthorization: {AUTHORIZATION}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {length}\r\nIdempotency-Key: {uuid4().hex}-"
        )
        self._middle, self._last = f"\r\n\r\n{first}", last
        self._number = 0

    def next(self) -> bytes:
        self._number += 1
        identifier = FIRST_IDENTIFIER + self._number % IDENTIFIERS
        return f"{self._head}{self._number}{self._middle}{identifier}{self._last}".encode()


def main(origin: str, rate: str, seconds: str) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        tally = runner.run(OpenLoopGenerator(origin, float(rate), float(seconds)).run())
    print(json.dumps(tally.as_json(float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
