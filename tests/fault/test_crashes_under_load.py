"""Payee and Postgres are killed under load: each request that was answered 200 is stored exactly once."""

import asyncio
import dataclasses

import pytest

from network.processes import Network
from support.chain import free_ports
from support.load import Load, broken_promises

pytestmark = pytest.mark.batches

ROUNDS = 3
BETWEEN = 40


async def kill_and_start(network: Network, name: str) -> None:
    await asyncio.to_thread(network.kill, name)
    await asyncio.to_thread(network.restart, name)


async def check(load: Load, client, database_url: str) -> None:
    """Repeat every request. The replies must not change, and the table must hold what they say."""
    await load.repeat_all(client)

    assert [] == load.problems
    assert [] == await broken_promises(load, database_url)


async def test_a_killed_payee_neither_loses_nor_doubles_a_quote(own_postgres, own_chain, client):
    chain = own_chain(database_url=own_postgres.dsn)
    async with Load([chain.url]).running(client) as load:
        for _ in range(ROUNDS):
            await load.more(BETWEEN)
            await asyncio.to_thread(chain.network.kill, "dfsp-api")
            await load.until_status(502)
            await asyncio.to_thread(chain.network.restart, "dfsp-api")
        await load.more(BETWEEN)
    await check(load, client, chain.database_url)


async def test_a_killed_postgres_neither_loses_nor_doubles_a_quote(own_postgres, own_chain, client):
    chain = own_chain(database_url=own_postgres.dsn)
    async with Load([chain.url]).running(client) as load:
        for _ in range(ROUNDS):
            await load.more(BETWEEN)
            await asyncio.to_thread(own_postgres.kill)
            await load.until_status(503)
            await asyncio.to_thread(own_postgres.start)
        await load.more(BETWEEN)
    await check(load, client, chain.database_url)


@pytest.fixture
def second_payee(own_postgres, own_chain, tmp_path):
    """Start a chain, and a second payee on the same database, which is called directly."""
    chain = own_chain(database_url=own_postgres.dsn)
    spec = chain.network.services["dfsp-api"]
    port = free_ports()
    second = dataclasses.replace(
        spec, name="dfsp-api-2", port=port, env={**spec.env, "QUOTES_PORT": str(port)}
    )
    with Network([second], logs=tmp_path) as network:
        network.wait_ready()
        yield chain, network


async def test_two_payees_on_one_database_killed_in_turn_neither_lose_nor_double_a_quote(
    second_payee, client
):
    """Requests and repetitions are sent to both in turn."""
    chain, second = second_payee
    async with Load([chain.url, second.origin("dfsp-api-2")]).running(client) as load:
        for _ in range(2):
            await load.more(BETWEEN)
            await kill_and_start(chain.network, "dfsp-api")
            await load.more(BETWEEN)
            await kill_and_start(second, "dfsp-api-2")
        await load.more(BETWEEN)
    await load.repeat_all(client)

    # callers of the second payee see its connections close when it is killed
    assert [] == load.undocumented
    assert [] == await broken_promises(load, chain.database_url)


async def test_one_payment_at_two_payees_at_once_is_executed_once(second_payee, client):
    chain, second = second_payee
    load = Load([chain.url, second.origin("dfsp-api-2")], timeout_ms=30_000)
    async with load.running(client):
        await load.more(1)
    payment = load.payments[0]
    key = "at-both"
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(
                load.until_answered(client, "POST", "/v1/quoteSourceAmount", payment.request, key)
            )
            for _ in range(40)
        ]
    reserved = {task.result().body for task in tasks}
    path = f"/v1/payments/{tasks[0].result().json['uuid']}"
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(load.until_answered(client, "PUT", path, payment.request)) for _ in range(100)
        ]

    assert 1 == len(reserved)
    assert 1 == len({task.result().body for task in tasks})
    assert [] == load.problems
