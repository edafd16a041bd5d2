"""Under load, requests travel in batches. The promises hold while services are killed, hang and restart."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from support.chain import Chain
from support.load import Load, broken_promises
from support.messages import QUOTE, RESERVE

pytestmark = pytest.mark.batches

CALLERS = 200
BETWEEN = 200
SERVICES = (
    "spsp-client-proxy",
    "central-directory",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
)
REFUSED = (
    ("POST", RESERVE, {**QUOTE, "amount": "x"}),
    ("POST", RESERVE, {**QUOTE, "identifier": "nobody"}),
    ("POST", RESERVE, {**QUOTE, "transferType": "nobody-knows"}),
    ("GET", "/v1/nowhere", None),
)

Fault = Callable[[Chain, str], Awaitable[None]]


async def killed(chain: Chain, name: str) -> None:
    await asyncio.to_thread(chain.network.kill, name)
    await asyncio.to_thread(chain.network.restart, name)


async def hanging(chain: Chain, name: str) -> None:
    pid = chain.network.children[name].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1)
    os.kill(pid, signal.SIGCONT)


async def restarted(chain: Chain, name: str) -> None:
    await asyncio.to_thread(chain.network.restart, name)


@asynccontextmanager
async def refused_requests(client: aiohttp.ClientSession, chain: Chain) -> AsyncIterator[Load]:
    """Also send requests that are refused."""
    load = Load([chain.url])

    async def send_repeatedly(number: int) -> None:
        while True:
            await load.send(client, *REFUSED[number % len(REFUSED)])
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(send_repeatedly(number)) for number in range(12)]
    try:
        yield load
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def batches(client: aiohttp.ClientSession, url: str) -> int:
    async with client.get(f"{url}/metrics") as reply:
        text = await reply.text()
    counted = [line for line in text.splitlines() if line.startswith("batch_lines_count")]
    return int(float(counted[0].split()[1])) if counted else 0  # without batches there is no such metric


@pytest.fixture
def chain(own_chain) -> Chain:
    return own_chain()


@pytest.mark.parametrize("fault", [killed, hanging, restarted])
async def test_in_batches_nothing_is_lost_doubled_or_undocumented(chain, client, fault, pytestconfig):
    load = Load([chain.url], workers=CALLERS, rest_seconds=0.02, max_payments=20_000)
    async with load.running(client), refused_requests(client, chain) as refused:
        await load.more(BETWEEN)
        for name in SERVICES:
            await fault(chain, name)
            await load.more(BETWEEN, seconds=120)
    await load.repeat_all(client)

    assert [] == load.problems
    assert [] == refused.problems
    assert {400, 404, 422} <= refused.statuses()
    assert [] == await broken_promises(load, chain.database_url)
    is_on = pytestconfig.getoption("batches") == "on"
    assert is_on == (await batches(client, chain.origin("dfsp-api")) > 0)
