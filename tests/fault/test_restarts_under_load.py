"""Services are restarted one after another under load: every request gets a reply."""

import asyncio

import pytest

from support.load import Load, broken_promises

pytestmark = pytest.mark.batches

FORWARDERS = ("spsp-client-proxy", "spsp-client", "spsp-server", "spsp-server-backend")
BETWEEN = 20


@pytest.fixture
def chain(own_chain):
    return own_chain()


async def stop(chain, name: str) -> None:
    code = await asyncio.to_thread(chain.network.terminate, name)

    assert 0 == code, name


async def restart(chain, name: str) -> None:
    await stop(chain, name)
    await asyncio.to_thread(chain.network.restart, name)


async def test_restarting_each_forwarder_in_turn_loses_no_reply(chain, client):
    async with Load([chain.url]).running(client) as load:
        await load.more(BETWEEN)
        for name in FORWARDERS:
            await stop(chain, name)
            await load.until_status(502, 503)
            await asyncio.to_thread(chain.network.restart, name)
            await load.more(BETWEEN)
    await load.repeat_all(client)

    assert [] == load.problems
    assert [] == await broken_promises(load, chain.database_url)


async def test_a_restart_of_the_payer_ends_in_replies_or_closed_connections(chain, client):
    async with Load([chain.url]).running(client) as load:
        await load.more(BETWEEN)
        await restart(chain, "dfsp-api-payer")
        await load.more(BETWEEN)
    await load.repeat_all(client)

    assert [] == load.undocumented
    assert [] == await broken_promises(load, chain.database_url)


async def test_restarting_the_payee_and_the_directory_loses_no_reply(chain, client):
    async with Load([chain.url]).running(client) as load:
        await load.more(BETWEEN)
        for name in ("dfsp-api", "central-directory"):
            await restart(chain, name)
            await load.more(BETWEEN)
    await load.repeat_all(client)

    assert [] == load.problems
    assert [] == await broken_promises(load, chain.database_url)
