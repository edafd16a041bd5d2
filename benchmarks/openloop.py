"""Load that does not wait for answers: reservations at a fixed rate, whatever the services make of them.

    python -m benchmarks.openloop ORIGIN RATE SECONDS

What is answered in a first second, in which connections are opened, is no goodput. Prints what it saw as JSON. wrk
cannot: it sends the next request when the last one was answered, so that an overloaded service slows it down.
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
"""Callers at once; who comes while all wait is counted, and not sent."""
IDENTIFIERS: Final = 1_000
WARM_UP_SECONDS: Final = 1.0
TICK_SECONDS: Final = 0.001
DRAIN_SECONDS: Final = 20
"""How long the last answers are waited for: longer than a service may take."""
OK: Final = 200


class Connection(asyncio.Protocol):
    """One caller's: a request at a time."""

    def __init__(self, answered: Callable[["Connection", int | None], None]) -> None:
        self._answered = answered
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self.due: float | None = None
        """When the request under way was due, by the monotonic clock: the loop's counts milliseconds alone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes, due: float) -> None:
        assert self._transport is not None  # noqa: S101 - it was opened
        self.due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        answer = parse_answer(self._received)
        if answer is not None:
            self._received = b""
            self._answered(self, answer)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        if self.due is not None:
            self._answered(self, None)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()


def parse_answer(received: bytes) -> int | None:
    """The status, once the answer is whole. All that is measured here names its length."""
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        return None
    _, _, after = head.lower().partition(b"\r\ncontent-length:")
    length = int(after.partition(b"\r\n")[0])
    return int(head[9:12]) if len(body) >= length else None


@dataclass
class Tally:
    """Counts by status, "lost" for none; `seconds` are those of answers of 200, from when each was due."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    good_in_time: int = 0
    """Answers of 200 from the first second's end to the load's."""
    sent: int = 0
    not_sent: int = 0
    max_late: float = 0.0
    """Seconds by which a request went out after it was due: whether the generator itself kept up."""

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


class Generator:
    """Sends at a fixed rate over as many connections as that takes."""

    def __init__(self, origin: str, rate: float, seconds: float) -> None:
        parts = urlsplit(origin)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._rate, self._seconds = rate, seconds
        self._requests = Requests(parts.netloc)
        self._free: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._busy = 0
        self._counted = 0.0, 0.0
        """From when to when, by the monotonic clock."""
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
                lambda: Connection(self._answered), self._host, self._port
            )
        except OSError:
            self._connections -= 1
            self.tally.counts["not connected"] += 1
            return
        # a slow accept is the services' doing, not the generator's
        self._send(connection, due, due)

    def _send(self, connection: Connection, due: float, now: float) -> None:
        self.tally.sent += 1
        self.tally.max_late = max(self.tally.max_late, now - due)
        self._busy += 1
        connection.send(self._requests.next(), due)

    def _answered(self, connection: Connection, status: int | None) -> None:
        assert connection.due is not None  # noqa: S101 - it was sent
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


class Requests:
    """Reservations, each with a key of its own."""

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
        tally = runner.run(Generator(origin, float(rate), float(seconds)).run())
    print(json.dumps(tally.as_json(float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
