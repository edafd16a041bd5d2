"""A thousand refused requests of each kind leave no memory behind, and do not keep a service from answering others.

Seen as: 404s and upgrades with large bodies stayed in memory, 200 MB a thousand; a hundred batches with a path of four
million letters took 900 MB; connections whose clients had left stayed open for 75 s.
"""

import asyncio
import base64
import logging
import random
import socket
import statistics
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from network.polling import PollTimer
from network.ports import find_first_port
from network.topology import services
from support.chain import free_ports
from support.messages import basic
from support.sample_run import SampleRun, sample_run
from support.service_process import service_process

MAX_GROWTH_MIB = 64
"""For one service since the start, at any time; and for all services together after the requests of one kind."""
MAX_STALL_SECONDS = 0.1
"""Processor time that a service uses in one iteration of its event loop. Waiting for a processor does not count."""
ITERATIONS = 3
"""Iterations of the event loop that a health check takes."""
REFERENCE_SECONDS = 0.0045
"""Processor time of `work` on the machine for which MAX_STALL_SECONDS holds."""
AT_ONCE, LARGE_AT_ONCE = 16, 8
SETTLE_SECONDS = 20
RESPONSE_SECONDS = 60
SIZE = 200_000
LARGE = 4_000_000

RESERVE = "POST /v1/quoteSourceAmount HTTP/1.1"
BATCH = "POST /v1/batch HTTP/1.1"
JSON = "Content-Type: application/json"
LINES = "Content-Type: application/x-ndjson"
CREDENTIALS = f"Authorization: {basic('test', '123')}"


def http(first_line: str, *header_lines: str, body: bytes = b"A" * SIZE, length: int | None = None) -> bytes:
    """A request with this body, and with its Content-Length where `length` is not 0."""
    lines = [first_line, "Host: x", *header_lines]
    if length != 0:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def batch_line(**members: str) -> bytes:
    given = {"id": "1", "method": '"GET"', "path": '"/x"', "headers": "{}", "body": "null", **members}
    return ("{" + ",".join(f'"{name}":{value}' for name, value in given.items()) + "}\n").encode()


def wrong_password(number: int) -> str:
    return base64.b64encode(f"name{number}:wrong".encode()).decode()


def generated(number: int) -> bytes:
    """A request of another kind, or two, with a few bytes changed, removed or repeated; the same for each number."""
    chosen = random.Random(number)
    makes = [
        make
        for kind, make in KINDS.items()
        if kind != GENERATED and not kind.startswith("a batch with a long")
    ]
    data = bytearray(b"".join(make(number) for make in chosen.choices(makes, k=chosen.choice((1, 1, 2)))))
    for _ in range(chosen.randint(1, 8)):
        at = chosen.randrange(min(len(data), chosen.choice((100, 1_000, len(data)))))
        match chosen.randrange(4):
            case 0:
                data[at] = chosen.randrange(256)
            case 1:
                del data[at : at + chosen.choice((1, 10, 10_000))]
            case 2:
                data[at:at] = chosen.choice(
                    (b"\r\n", b"\r\n\r\n", b"\0", b":", b" ", b"Transfer-Encoding: chunked\r\n")
                )
            case _:
                data[at:at] = data[at : at + chosen.choice((1, 30, 10_000))]
        if not data:
            break
    return bytes(data)


GENERATED = "what is generated from these"
KINDS = {
    "no HTTP": lambda _: b"A" * SIZE,
    "a malformed header": lambda _: http("GET / HTTP/1.1", "Bad Header: x", length=0),
    "a long URL": lambda _: http(f"GET /{'a' * SIZE} HTTP/1.1", body=b""),
    "a long head": lambda _: http("GET / HTTP/1.1", *[f"X-{n}: {'x' * 8_000}" for n in range(200)], body=b""),
    "a malformed chunk": lambda _: http(RESERVE, CREDENTIALS, JSON, "Transfer-Encoding: chunked", length=0),
    "two framings": lambda _: http(RESERVE, CREDENTIALS, JSON, "Transfer-Encoding: gzip, chunked", length=0),
    "an upgrade": lambda _: http("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: h2c", length=0),
    "an unknown path": lambda n: http(f"POST /nothing/{n} HTTP/1.1"),
    "another method": lambda _: http("DELETE /v1/quoteSourceAmount HTTP/1.1"),
    "no credentials": lambda _: http(RESERVE, JSON),
    "a wrong password": lambda n: http(RESERVE, JSON, f"Authorization: Basic {wrong_password(n)}"),
    "another media type": lambda _: http(RESERVE, CREDENTIALS, "Content-Type: text/plain"),
    "a body that is too long": lambda _: http(RESERVE, CREDENTIALS, JSON),
    "a body of many unknown keys": lambda _: http(
        RESERVE, CREDENTIALS, JSON, body=b"{" + b",".join(b'"%d":1' % n for n in range(6_000)) + b"}"
    ),
    "a body that never arrives": lambda _: http(RESERVE, CREDENTIALS, JSON, body=b"{", length=60_000),
    "a batch that never arrives": lambda _: http(BATCH, LINES, body=b"{", length=LARGE),
    "a batch of garbage": lambda _: http(BATCH, LINES, body=b"{\n" * 100),
    "a batch with too many lines": lambda _: http(BATCH, LINES, body=b"{}\n" * 2_000),
    "responses that are not read": lambda _: http("GET /openapi.json HTTP/1.1", length=0, body=b"") * 100,
    "a batch with a long path": lambda n: http(BATCH, LINES, body=batch_line(path=f'"/{n}{"a" * LARGE}"')),
    "a batch with a long method": lambda n: http(BATCH, LINES, body=batch_line(method=f'"{n}{"a" * LARGE}"')),
    "a batch with a long id": lambda n: http(BATCH, LINES, body=batch_line(id=f'"{n}{"a" * LARGE}"')),
    GENERATED: generated,
}
SHARES = {"a wrong password": 0.1, "responses that are not read": 0.1}
"""Shares of a thousand, for requests that take long. Large requests have a smaller share by their size."""
NEVER_READ = {"a body that never arrives", "a batch that never arrives", "responses that are not read"}
"""The client leaves at once; otherwise each takes ten seconds."""
TARGETS = {
    "central-directory": "POST /commands/register",
    "console": "POST /v1/traces",
    "integrations": "POST /api/integrations/v1/integrations",
    "signal-receiver": "POST /webhook/none",
}
"""Requests for the services that do not accept RESERVE."""


def work() -> None:
    """Keep the processor busy as the services do: with Python's own objects."""
    for number in range(2_000):
        b",".join(b"%d" % each for each in range(number % 40)).split(b",")


def slowness() -> float:
    """Return how many times as long as on the reference machine work takes, at least 1."""
    times = []
    for _ in range(10):
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return max(1.0, statistics.median(times) / REFERENCE_SECONDS)


@dataclass
class Running:
    """A service as a process."""

    name: str
    pid: int
    port: int
    mib_before: float = 0.0

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith(name))

    @property
    def mib(self) -> float:
        """Resident memory."""
        return self._status("VmRSS")

    @property
    def growth_mib(self) -> float:
        """By how much resident memory has exceeded `mib_before` since `begin`."""
        return self._status("VmHWM") - self.mib_before

    @property
    def sockets(self) -> int:
        """Number of open sockets."""
        found = 0
        for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(OSError):
                found += str(descriptor.readlink()).startswith("socket:")
        return found

    @property
    def loop_seconds(self) -> float:
        """Processor time of the thread with the event loop."""
        return int(Path(f"/proc/{self.pid}/task/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def begin(self) -> None:
        """Measure growth from now on."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # resets VmHWM
        self.mib_before = self.mib

    async def send(self, data: bytes, kind: str) -> None:
        if self.name in TARGETS:
            data = data.replace(RESERVE.encode(), f"{TARGETS[self.name]} HTTP/1.1".encode())
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                async with asyncio.timeout(RESPONSE_SECONDS):
                    if kind in NEVER_READ:
                        await writer.drain()
                    elif kind == GENERATED:  # it may not be whole
                        writer.write_eof()
                        await reader.read()
                    else:
                        await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()

    def longest_stall(self, is_over: threading.Event) -> tuple[float, float]:
        """Send health checks on one connection until `is_over` is set. Runs in a thread.

        Return the longest time until an answer, and the most processor time that the service used in such a time.
        """
        seconds, loop_seconds = 0.0, 0.0
        with socket.create_connection(("127.0.0.1", self.port), RESPONSE_SECONDS) as connection:
            while not is_over.wait(0.01):
                began, before = time.monotonic(), self.loop_seconds
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = connection.recv(10_000)
                loop_seconds = max(loop_seconds, self.loop_seconds - before)
                seconds = max(seconds, time.monotonic() - began)
                assert answer.startswith(b"HTTP/1.1 200 "), answer
                while not answer.endswith(b"}"):
                    answer += connection.recv(10_000)
        return seconds, loop_seconds


@dataclass
class Measured:
    """One service during the requests of one kind."""

    kind: str
    service: str
    answer_seconds: float
    stall_seconds: float
    growth_mib: float

    def __str__(self) -> str:
        return (
            f"{self.service}, {self.kind}: grew by {self.growth_mib:.0f} MiB, an answer took {self.answer_seconds:.3f} s, "
            f"of which it worked {self.stall_seconds:.3f} s"
        )


async def refuse(service: Running, kind: str, count: int) -> Measured:
    """Send so many requests of a kind to a service, and measure the service."""
    make = KINDS[kind]
    slots = asyncio.Semaphore(LARGE_AT_ONCE if len(make(0)) >= LARGE else AT_ONCE)

    async def send(number: int) -> None:
        async with slots:
            await service.send(make(number), kind)

    is_over = threading.Event()
    watching = asyncio.create_task(asyncio.to_thread(service.longest_stall, is_over))
    try:
        await asyncio.gather(*(send(number) for number in range(count)))
    finally:
        is_over.set()
    seconds, loop_seconds = await watching
    return Measured(kind, service.name, seconds, loop_seconds, service.growth_mib)


async def refuse_all(network: Sequence[Running], count: int = 1_000) -> list[Measured | str]:
    """Send so many requests of each kind, each to one of the services. Return what exceeds a limit."""
    for number, kind in enumerate(list(KINDS) * 2):  # what each kind needs once
        await asyncio.gather(*(service.send(KINDS[kind](number), kind) for service in network))
    for service in network:
        service.begin()
    sockets = {service.name: service.sockets for service in network}
    stall_seconds = ITERATIONS * MAX_STALL_SECONDS * slowness()
    measured, faults = [], []
    for kind, make in KINDS.items():
        share = SHARES.get(kind, 1) * min(1, 2 * SIZE / len(make(0)))
        each = round(count / 4 * share / len(network))
        measured += await asyncio.gather(*(refuse(service, kind, each) for service in network))
        before = sum(service.mib for service in network)  # what many at once need stays allocated
        measured += await asyncio.gather(*(refuse(service, kind, 3 * each) for service in network))
        settling = PollTimer(SETTLE_SECONDS)
        while (
            grown := sum(service.mib for service in network) - before
        ) > MAX_GROWTH_MIB and settling.wait():
            await asyncio.sleep(0.1)  # the services close the last connections
        if grown > MAX_GROWTH_MIB:
            faults.append(f"{kind}: grew by {grown:.0f} MiB")
    settling = PollTimer(SETTLE_SECONDS)
    while any(service.sockets > sockets[service.name] + AT_ONCE for service in network) and settling.wait():
        await asyncio.sleep(0.1)
    faults += [
        f"{service.name}: {service.sockets} sockets are open"
        for service in network
        if service.sockets > sockets[service.name] + AT_ONCE
    ]
    log = logging.getLogger(__name__)
    log.info("the longest answer: %s", max(measured, key=lambda each: each.answer_seconds))
    log.info("the most work: %s", max(measured, key=lambda each: each.stall_seconds))
    return faults + [
        str(each)
        for each in measured
        if each.stall_seconds > stall_seconds or each.growth_mib > MAX_GROWTH_MIB
    ]


@pytest.fixture
def network(passable) -> Iterator[list[Running]]:
    """`make run`, and its services by their ports."""
    with sample_run(free_ports(), passable / "data") as run:
        run.wait_until_up()
        yield list(running(run))


def running(run: SampleRun) -> Iterator[Running]:
    pids = {}
    for pid in run.processes():
        with suppress(OSError):
            for variable in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                if variable.startswith("QUOTES_PORT="):
                    pids[int(variable.partition("=")[2])] = pid
    for service in services(run.port, data=run.data, database_url=""):
        yield Running(service.name, pids[service.port], service.port)


async def test_requests_that_a_network_refuses_take_no_memory_and_do_not_delay_others(network):
    assert [] == await refuse_all(network)


@pytest.fixture
async def aiohttp_service(tmp_path, users_file) -> AsyncIterator[Running]:
    """A service whose requests are all read by aiohttp."""
    port = find_first_port()
    with service_process("spsp_client", port, users_file, tmp_path / "log", QUOTES_HTTP="aiohttp") as pid:
        yield Running("spsp-client", pid, port)


async def test_requests_that_aiohttp_reads_and_that_are_refused_take_no_memory(aiohttp_service):
    assert [] == await refuse_all([aiohttp_service], 500)
