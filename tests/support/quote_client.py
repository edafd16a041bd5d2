"""Arguments and servers for tests of the client library `dfsp_quotes`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from dfsp_quotes import Quote, QuoteClient
from support.messages import QUOTE

ARGUMENTS: Final[dict[str, Any]] = {
    "currency_code": QUOTE["currencyCode"],
    "currency_symbol": QUOTE["currencySymbol"],
    "amount": Decimal(QUOTE["amount"]),
    "account": QUOTE["account"],
    "identifier": QUOTE["identifier"],
    "identifier_type": QUOTE["identifierType"],
    "transfer_type": QUOTE["transferType"],
}
"""The arguments of the sample request."""
RECEIVER: Final[dict[str, str]] = {
    "identifier": QUOTE["identifier"],
    "identifier_type": QUOTE["identifierType"],
}
PATIENCE_SECONDS: Final = 60.0
"""A time limit for calls that succeed: long, because a busy machine may stand still for a while."""


@dataclass(frozen=True)
class QuoteServer:
    """A server of the Quote API: the fake, or the real chain."""

    url: str
    expire: Callable[[UUID], Awaitable[None]]
    """Lets a quote expire."""
    payee_url: str
    """The base URL of the payee, which lists quotes. `admin` is its operator."""

    def client(self, name: str = "test", password: str = "123") -> QuoteClient:
        return QuoteClient(self.url, name, password)

    def payee_client(self, name: str = "test", password: str = "123") -> QuoteClient:
        return QuoteClient(self.payee_url, name, password)


async def reserve(client: QuoteClient, **changed: Any) -> Quote:
    """Reserve the sample request, or another that differs from it in these arguments."""
    return await client.quote_source_amount(**{"timeout": PATIENCE_SECONDS, **ARGUMENTS, **changed})
