"""Reserve a quote, show its fee, and pay against exactly its terms."""

import asyncio
from decimal import Decimal

from dfsp_quotes import QuoteClient


async def main() -> None:
    async with QuoteClient("http://127.0.0.1:8010", "test", "123") as client:
        quote = await client.quote_source_amount(
            amount=Decimal("12.50"),
            currency_code="USD",
            currency_symbol="$",
            account="https://dfsp2.example/accounts/bob",
            identifier="30754016",
            identifier_type="eur",
            transfer_type="p2p",
        )
        print(f"Send {quote.amount} USD, the fee is {quote.fee} USD. The quote expires at {quote.expires}.")
        payment = await client.pay(quote)
        print(f"{payment.state}: {payment.destination_amount} USD arrive.")


asyncio.run(main())
