"""Refused requests leave no memory behind: a thousand of each kind leave no more than 64 MiB.

Another client's health checks are answered meanwhile. Seen as: 404s and upgrades with large bodies stayed in memory, 200 MB
a thousand, and a hundred batches with a path of four million letters took 900 MB.
"""

import asyncio
import base64
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from network.polling import PollTimer
from network.ports import find_first_port
from support.messages import basic
from support.settings import HTTP

MAX_GROWTH_MIB = {"protocol": 64, "aiohttp": 160}
"""aiohttp's requests are reference cycles, which wait for the garbage collector."""
HEALTH_SECONDS = 30
"""Generous: each of the two processors of a busy machine may stand still for a while."""
AT_ONCE, LARGE_AT_ONCE = 50, 8
SETTLE_SECONDS = 20
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
    "a batch with a long path": lambda n: http(BATCH, LINES, body=batch_line(path=f'"/{n}{"a" * LARGE}"')),
    "a batch with a long method": lambda n: http(BATCH, LINES, body=batch_line(method=f'"{n}{"a" * LARGE}"')),
    "a batch with a long id": lambda n: http(BATCH, LINES, body=batch_line(id=f'"{n}{"a" * LARGE}"')),
    GENERATED: generated,
}
NEVER_ARRIVE = {"a body that never arrives", "a batch that never arrives"}
"""The client leaves at once; otherwise each takes ten seconds."""


@dataclass
class Running:
    """A service as a process."""

    pid: int
    port: int
    http: str

    @property
    def mib(self) -> float:
        """Resident memory."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1_024 for line in lines if line.startswith("VmRSS"))

    async def send(self, data: bytes, kind: str) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(data)
                async with asyncio.timeout(HEALTH_SECONDS):
                    if kind in NEVER_ARRIVE:
                        await writer.drain()
                    elif kind == GENERATED:  # it may not be whole
                        writer.write_eof()
                        await reader.read()
                    else:
                        await reader.readuntil(b"\r\n\r\n")
            finally:
                writer.close()

    async def health_seconds(self) -> float:
        """Send a health check over a new connection. Return how many seconds it takes."""
        began = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        response = await reader.read()
        writer.close()
        assert response.startswith(b"HTTP/1.1 200 "), response
        return time.monotonic() - began


@pytest.fixture(params=HTTP)
async def service(request, tmp_path, users_file) -> AsyncIterator[Running]:
    port, log = find_first_port(), tmp_path / "log"
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_PORT": str(port),
        "QUOTES_HTTP": request.param,
        "QUOTES_LOG_FILE": str(log),
        "QUOTES_STOP_GRACE_SECONDS": "0",
    }
    command = [sys.executable, "-m", "spsp_client"]
    with subprocess.Popen(command, env=environment) as process:  # noqa: ASYNC220 - takes no time
        try:
            timer = PollTimer(60)
            while not (log.exists() and '"started"' in log.read_text()):
                assert timer.wait()
            yield Running(process.pid, port, request.param)
        finally:
            process.kill()


async def test_refused_requests_leave_no_memory_and_health_checks_are_answered(service):
    for number, kind in enumerate(list(KINDS) * 2):  # what each kind needs once
        await service.send(KINDS[kind](number), kind)
    before, grown, slow = service.mib, {}, {}
    limit = MAX_GROWTH_MIB[service.http]
    for kind, make in KINDS.items():
        is_large = len(make(0)) >= LARGE
        # of the large ones as many bytes as of the others
        count = 100 if is_large else 1_000
        slots = asyncio.Semaphore(LARGE_AT_ONCE if is_large else AT_ONCE)
        longest = 0.0

        async def send(number: int, kind=kind, make=make, slots=slots) -> None:
            async with slots:
                await service.send(make(number), kind)

        async def watch(sending: asyncio.Future) -> float:
            longest = 0.0
            while not sending.done():
                longest = max(longest, await service.health_seconds())
                await asyncio.sleep(0.01)
            return longest

        sending = asyncio.gather(*(send(number) for number in range(count)))
        longest = await watch(sending)
        await sending
        settling = PollTimer(SETTLE_SECONDS)
        while settling.wait() and service.mib - before > limit:
            await asyncio.sleep(0.1)  # the service closes the last connections
        if service.mib - before > limit:
            grown[kind] = round(service.mib - before)
        if longest > HEALTH_SECONDS:
            slow[kind] = longest

    assert ({}, {}) == (grown, slow)
