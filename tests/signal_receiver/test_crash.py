"""A receiver that is killed while events arrive executes each of them once, however often it is sent."""

import asyncio
import os
import signal as signal_number
from functools import partial

import aiohttp
import pytest

from network.processes import Network
from network.topology import ServiceSpec
from support.chain import free_ports
from support.payee import until
from support.receiver import ACCOUNTS, Sender, signal

EVENTS = 300
AT_ONCE = 20


@pytest.fixture
async def process(database_url, users_file, client, tmp_path):
    """A receiver that runs as a process, and a sender."""
    accounts = tmp_path / "accounts.toml"
    accounts.write_text(ACCOUNTS)
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_ACCOUNTS_FILE": str(accounts),
        "QUOTES_DATABASE_URL": database_url,
        "QUOTES_PORT": str(port := free_ports()),
        "QUOTES_STOP_GRACE_SECONDS": "0",
    }
    network = Network(
        [ServiceSpec("signal-receiver", "signal_receiver", port, environment)], logs=tmp_path / "logs"
    )
    try:
        await asyncio.to_thread(network.start)
        await asyncio.to_thread(network.wait_ready)
        yield network, Sender(client, network.origin("signal-receiver"))
    finally:
        await asyncio.to_thread(network.stop)


async def test_a_killed_receiver_loses_no_answered_event_and_executes_none_twice(process):
    network, sender = process
    events = [signal("OPEN", 0.01, strategy=f"strategy-{number}") for number in range(EVENTS)]
    slots = asyncio.Semaphore(AT_ONCE)
    answered: set[int] = set()
    alive = [network.children["signal-receiver"].pid]

    async def deliver(number: int) -> bool:
        """Send an event once. Return whether it was accepted: a busy receiver may answer 503."""
        async with slots:
            try:
                answer = await sender.deliver(events[number], f"msg_{number}")
            except aiohttp.ClientError:
                return False
            if answer.status == 200:
                answered.add(number)
                if len(answered) >= EVENTS // 10 and alive:
                    # at once: the receiver may have answered those that are under way, but none of the others
                    os.kill(alive.pop(), signal_number.SIGKILL)
            return answer.status == 200

    await asyncio.gather(*(deliver(number) for number in range(EVENTS)))
    promised = {f"strategy-{number}" for number in answered}
    await asyncio.to_thread(network.kill, "signal-receiver")
    await asyncio.to_thread(network.restart, "signal-receiver")
    kept = {trade["strategyId"] for trade in await sender.trades()}
    await asyncio.gather(*(until(partial(deliver, number)) for number in range(EVENTS)))
    trades = await sender.trades()

    assert EVENTS // 10 <= len(promised) <= EVENTS // 10 + AT_ONCE
    assert promised <= kept
    assert [f"strategy-{number}" for number in range(EVENTS)] == sorted(
        (trade["strategyId"] for trade in trades), key=lambda name: int(name.rpartition("-")[2])
    )
