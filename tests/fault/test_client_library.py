"""The client library while hops are killed and restarted: no call is lost and none is carried out twice.

No test repeats a call itself: the client alone does.
"""

import asyncio
import itertools
import logging
import random
from dataclasses import dataclass, field
from decimal import Decimal

import asyncpg
import pytest

from dfsp_quotes import Payment, Quote, QuoteClient
from support.chain import Chain
from support.quote_client import reserve

pytestmark = pytest.mark.batches

HOPS = (
    "dfsp-api-payer",
    "spsp-client-proxy",
    "spsp-client",
    "spsp-server",
    "spsp-server-backend",
    "dfsp-api",
    "central-directory",
)
PAYMENTS = 500
"""Each is two calls: a reservation and a payment."""
WORKERS = 20
CALL_SECONDS = 300.0
"""Long, so that a slow machine has the time for all restarts that one call may meet."""
SEED = 20170511


@pytest.fixture
def chain(own_chain) -> Chain:
    return own_chain()


@dataclass
class Paid:
    """The results of all calls that have returned."""

    quotes: list[Quote] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)

    @property
    def calls(self) -> int:
        return len(self.quotes) + len(self.payments)


async def work(
    client: QuoteClient, paid: Paid, amounts: "itertools.count[int]", kills: asyncio.Event
) -> None:
    """Reserve and pay until there are enough payments, and as long as hops are being killed."""
    while len(paid.payments) < PAYMENTS or not kills.is_set():
        quote = await reserve(client, amount=Decimal(next(amounts)).scaleb(-2), timeout=CALL_SECONDS)
        paid.quotes.append(quote)
        paid.payments.append(await client.pay(quote, timeout=CALL_SECONDS))
        await asyncio.sleep(0.02)  # the test is about faults, not about capacity


async def kill_in_turn(chain: Chain, paid: Paid, done: asyncio.Event) -> None:
    """Kill and restart each hop twice, in random order, with calls between the kills."""
    order = [*HOPS, *HOPS]
    random.Random(SEED).shuffle(order)
    for name in order:
        until = paid.calls + 2 * WORKERS
        while paid.calls < until:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(chain.network.kill, name)
        await asyncio.to_thread(chain.network.restart, name)
    done.set()


async def test_a_thousand_calls_while_hops_are_killed_lose_none_and_double_none(chain, caplog):
    caplog.set_level(logging.INFO, "dfsp_quotes")
    paid, done, amounts = Paid(), asyncio.Event(), itertools.count(1)
    async with QuoteClient(chain.url, "test", "123") as client, asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work(client, paid, amounts, done))
        group.create_task(kill_in_turn(chain, paid, done))
    rows = await rows_of(chain)

    assert len(paid.quotes) == len(paid.payments)
    assert paid.calls >= 2 * PAYMENTS
    # none lost, none doubled: each row is one returned quote and its one payment
    assert len(rows) == len(paid.quotes) == len({quote.uuid for quote in paid.quotes})
    assert {quote.uuid: terms_of(quote, payment) for quote, payment in in_pairs(paid)} == rows
    # the kills met calls, and the client repeated them
    repeated = [record for record in caplog.records if record.name == "dfsp_quotes"]
    assert len(repeated) >= len(HOPS)


def in_pairs(paid: Paid) -> list[tuple[Quote, Payment]]:
    payments = {payment.uuid: payment for payment in paid.payments}

    assert len(payments) == len(paid.payments)
    return [(quote, payments[quote.uuid]) for quote in paid.quotes]


def terms_of(quote: Quote, payment: Payment) -> tuple:
    assert (quote.source_amount, quote.destination_amount, quote.fee) == (
        payment.source_amount,
        payment.destination_amount,
        payment.fee,
    )
    return quote.source_amount, quote.destination_amount, quote.expires, payment.executed


async def rows_of(chain: Chain) -> dict:
    """Return the terms of each stored quote, by uuid."""
    connection = await asyncpg.connect(chain.database_url)
    try:
        rows = await connection.fetch(
            "SELECT uuid, source_amount, destination_amount, expires, executed FROM quote"
        )
    finally:
        await connection.close()
    return {row["uuid"]: tuple(row.values())[1:] for row in rows}
