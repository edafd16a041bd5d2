"""A hop that stood still carries out nothing whose time has passed (wire.md §3, `X-Request-Timeout-Ms`)."""

import asyncio
import os
import signal
from contextlib import contextmanager

import pytest

from support.client import send
from support.forwarders import LOOK_UP_QUERY, RESERVE
from support.messages import QUOTE


@contextmanager
def frozen(chain, service):
    pid = chain.network.children[service].pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("service", ["spsp-client", "spsp-server", "spsp-server-backend", "dfsp-api"])
async def test_a_payment_that_timed_out_at_a_frozen_hop_is_never_executed(broken_chain, client, service):
    chain = broken_chain
    quotes = [(await send(client, "POST", chain.url + RESERVE, QUOTE)).json["uuid"] for _ in range(4)]
    with frozen(chain, service):
        paid = await asyncio.gather(
            *(
                send(client, "PUT", f"{chain.url}/v1/payments/{uuid}", QUOTE, X_Request_Timeout_Ms="1500")
                for uuid in quotes
            )
        )
        await asyncio.sleep(2)
    for uuid in quotes:  # answered after every request that waited at the hop
        found = await send(client, "GET", f"{chain.url}/v1/quote/{uuid}?{LOOK_UP_QUERY}")

        assert "RESERVED" == found.json["state"]
    assert {504} == {reply.status for reply in paid}
