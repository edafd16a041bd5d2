"""A receiver that is killed while events arrive executes each of them once, however often it is sent."""

import asyncio

import aiohttp
import pytest

from network.processes import Network
from network.topology import ServiceSpec
from support.chain import free_ports
from support.receiver import ACCOUNTS, Sender, signal

EVENTS = 300


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


async def test_a_killed_receiver_loses_no_answered_event_and_executes_none_twice(
    process,
):
    network, sender = process
    events = [signal("OPEN", 0.01, strategy=f"strategy-{number}") for number in range(EVENTS)]
    answered: list[int] = []
    some_are_answered = asyncio.Event()

    async def deliver(number: int) -> int | None:
        try:
            answer = await sender.deliver(events[number], f"msg_{number}")
        except aiohttp.ClientError:
            return None
        answered.append(number)
        if len(answered) >= EVENTS // 10:
            some_are_answered.set()
        return answer.status

    first = [asyncio.create_task(deliver(number)) for number in range(EVENTS)]
    await some_are_answered.wait()
    await asyncio.to_thread(network.kill, "signal-receiver")
    before = await asyncio.gather(*first)
    await asyncio.to_thread(network.restart, "signal-receiver")
    kept = {trade["strategyId"] for trade in await sender.trades()}
    promised = {f"strategy-{number}" for number, status in enumerate(before) if status == 200}
    again = await asyncio.gather(*(deliver(number) for number in range(EVENTS)))
    trades = await sender.trades()

    assert None in before, "the receiver was killed after its last answer"
    assert promised <= kept
    assert [200] * EVENTS == again
    assert [f"strategy-{number}" for number in range(EVENTS)] == sorted(
        (trade["strategyId"] for trade in trades), key=lambda name: int(name.rpartition("-")[2])
    )
