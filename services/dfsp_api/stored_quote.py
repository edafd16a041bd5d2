"""A quote as it is stored in the database.

Pure: no clock, no database, no HTTP.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Final
from uuid import UUID

import msgspec

from dfsp_api.pricing import FeeSchedule
from quoting.call import Operation

OPERATIONS: Final = {
    Operation.QUOTE_SOURCE_AMOUNT: "quoteSourceAmount",
    Operation.QUOTE_DESTINATION_AMOUNT: "quoteDestinationAmount",
}


class QuoteEvent(IntEnum):
    """An event in the life of a quote. The audit log stores the values and publishes the names.

    The events of one quote happen in the order of the values.
    """

    RESERVED = 0
    EXECUTED = 1
    RELEASED = 2


class StoredQuote(msgspec.Struct, frozen=True):
    """A row of table ``quote``. In a stub, to which retention reduces old quotes, request and amounts are None."""

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
    released: datetime | None
    schedule: int | None
    """The number of the fee schedule that priced it; None if the quote was reserved before schedules were recorded."""
    lifetime_ms: int | None
    """The lifetime that its reservation asked for; None for the default."""
    is_expired: bool
    """Whether the quote was expired when the row was read, by the database's clock."""
    fees: FeeSchedule | None = None
    """The fee schedule with the number `schedule`, in quotes that are shown with an explanation."""

    @property
    def state(self) -> str:
        """One of `schemas.STATES`. The statement that lists quotes computes it in the same way."""
        if self.executed or self.released:
            return "EXECUTED" if self.executed else "RELEASED"
        return "EXPIRED" if self.is_expired else "RESERVED"
