"""Test a program that pays, with a Quote API in memory: `pytest examples/test_your_program.py`."""

import asyncio
from datetime import timedelta
from decimal import Decimal

from dfsp_quotes import Payment, QuoteClient, State
from dfsp_quotes.fake import FakeQuoteServer, Fault


async def send(client: QuoteClient, amount: Decimal) -> Payment:
    """The program under test: it pays, and takes a new quote if the first one has expired."""
    quote = await client.quote_source_amount(
        amount=amount,
        currency_code="KES",
        currency_symbol="KSh",
        account="https://dfsp2.example/accounts/bob",
        identifier="30754016",
        identifier_type="eur",
        transfer_type="p2p",
    )
    if quote.is_expired:
        quote = (await client.requote(quote)).quote
    return await client.pay(quote)


def test_a_lost_response_pays_once() -> None:
    async def run() -> None:
        async with FakeQuoteServer() as server:
            async with QuoteClient(server.url, server.name, server.password) as client:
                server.fail(Fault.LOST_RESPONSE)
                payment = await send(client, Decimal("100.00"))

            assert payment.fee == Decimal("10.00")
            assert [quote.state for quote in server.quotes] == [State.EXECUTED]

    asyncio.run(run())


def test_another_fee_and_lifetime() -> None:
    async def run() -> None:
        async with FakeQuoteServer(rate=Decimal("0.02"), lifetime=timedelta(hours=1)) as server:
            async with QuoteClient(server.url, server.name, server.password) as client:
                payment = await send(client, Decimal("100.00"))

            assert payment.fee == Decimal("2.00")

    asyncio.run(run())
