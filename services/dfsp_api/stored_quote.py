"""A quote as the database keeps it.

Pure: no clock, no database, no HTTP.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from quoting.call import Operation

OPERATIONS: Final = {
    Operation.QUOTE_SOURCE_AMOUNT: "quoteSourceAmount",
    Operation.QUOTE_DESTINATION_AMOUNT: "quoteDestinationAmount",
}


class StoredQuote(msgspec.Struct, frozen=True):
    """A row of table ``quote``. Retention reduces it to a stub, which has no request and no amounts."""

    uuid: UUID
    caller: str
    operation: str
    fingerprint: bytes
    request: Mapping[str, str] | None
    source_amount: Decimal | None
    destination_amount: Decimal | None
    created: datetime
    expires: datetime
    executed: datetime | None
    is_expired: bool
    """By the database's clock, when the row was read."""
