"""A service as a process that is stopped and continued: it rejects nothing, because light traffic is no overload."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import cycle

import pytest
from aiohttp import web

from network.ports import find_first_port
from support.client import send
from support.forwarders import DEFAULT_REPLY
from support.messages import QUOTE, RESERVE
from support.service_process import service_process
from support.serving import Responder, Seen, stub
from support.settings import HTTP

CALLERS = 20
STILL_SECONDS = 0.3
"""Three times QUOTES_MAX_WAIT_SECONDS, so every request of this time is late."""


@dataclass
class Running:
    url: str
    pid: int


def slow_reply() -> Responder:
    """Return a responder that is slower than QUOTES_MAX_WAIT_SECONDS, as on a machine that stalls.

    Each request takes a different time, so that some arrive in every window.
    """
    seconds = cycle(0.15 + number / 50 for number in range(7))

    async def answer(seen: Seen) -> web.StreamResponse:
        await asyncio.sleep(next(seconds))
        return await DEFAULT_REPLY(seen)

    return answer


@pytest.fixture(params=HTTP)
async def service(request, tmp_path, users_file) -> AsyncIterator[Running]:
    port = find_first_port()
    async with stub(slow_reply()) as next_hop:
        settings = {
            "QUOTES_HTTP": request.param,
            "QUOTES_NEXT_HOP": next_hop.url,
            "QUOTES_MAX_WAIT_SECONDS": "0.1",
        }
        with service_process("spsp_server", port, users_file, tmp_path / "log", **settings) as pid:
            yield Running(f"http://127.0.0.1:{port}", pid)


async def test_light_traffic_is_not_rejected_because_the_process_stood_still(service, client):
    is_over = asyncio.Event()

    async def call() -> set[int]:
        statuses = set()
        while not is_over.is_set():
            reply = await send(client, "POST", service.url + RESERVE, QUOTE, X_Request_Timeout_Ms="60000")
            statuses.add(reply.status)
        return statuses

    callers = [asyncio.create_task(call()) for _ in range(CALLERS)]
    for _ in range(3):
        await asyncio.sleep(STILL_SECONDS)
        os.kill(service.pid, signal.SIGSTOP)
        await asyncio.sleep(STILL_SECONDS)
        os.kill(service.pid, signal.SIGCONT)
    is_over.set()

    assert [{200}] * CALLERS == await asyncio.gather(*callers)
