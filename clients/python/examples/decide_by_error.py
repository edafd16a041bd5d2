"""Decide by the class of an error: correct the request, take a new quote, or repeat later with the same key."""

import asyncio
from decimal import Decimal
from uuid import uuid4

from dfsp_quotes import InvalidBodyError, QuoteClient, QuoteError, QuoteExpiredError


async def main() -> None:
    # Store the key before the call: with it the same request gives the same quote, also after a crash of this program.
    key = str(uuid4())
    async with QuoteClient("http://127.0.0.1:8010", "test", "123") as client:
        try:
            quote = await client.quote_destination_amount(
                amount=Decimal("13.75"),
                currency_code="USD",
                currency_symbol="$",
                account="https://dfsp2.example/accounts/bob",
                identifier="30754016",
                identifier_type="eur",
                transfer_type="p2p",
                idempotency_key=key,
                timeout=30,
            )
        except InvalidBodyError as error:
            print("Correct these fields:", error.fields)
            return
        except QuoteError as error:
            todo = "Repeat it later with the same key" if error.is_outcome_unknown else "It is final"
            print(f"{todo}: {error}")
            return
        try:
            payment = await client.pay(quote, timeout=30)
        except QuoteExpiredError:
            requote = await client.requote(quote)
            print(f"The quote has expired. A new one differs by {requote.difference} USD.")
        else:
            print(f"{payment.state} at {payment.executed}")


asyncio.run(main())
