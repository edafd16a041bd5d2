"""The filter of a list of quotes, and the positions where its pages begin and end (wire.md §9).

Pure: no clock, no database, no HTTP.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from dfsp_api.stored_quote import StoredQuote

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
LATEST: Final = datetime.max.replace(tzinfo=UTC)

# 60 bits for the time, 128 for the uuid, 4 that are zero: each text that matches is a valid position
CURSOR: Final = re.compile(r"[A-N][A-Za-z0-9_-]{30}[AQgw]\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UUID_BITS: Final = 128
_SPARE_BITS: Final = 4
_BYTES: Final = 24


class Position(NamedTuple):
    """A position in the order of a list. Positions compare as the database compares ``(created, uuid)``."""

    created: datetime
    uuid: UUID

    @property
    def cursor(self) -> str:
        """The position as text for a URL. It needs no signature: credentials alone decide which quotes are listed."""
        microseconds = max(0, (self.created - _EPOCH) // _MICROSECOND)
        bits = (microseconds << _UUID_BITS | self.uuid.int) << _SPARE_BITS
        return urlsafe_b64encode(bits.to_bytes(_BYTES)).decode()


def position_of(cursor: str) -> Position:
    """Return the position of a cursor, which must match CURSOR."""
    bits = int.from_bytes(urlsafe_b64decode(cursor)) >> _SPARE_BITS
    created = _EPOCH + (bits >> _UUID_BITS) * _MICROSECOND
    return Position(created, UUID(int=bits % (1 << _UUID_BITS)))


class QuoteFilter(msgspec.Struct, frozen=True):
    """The quotes to list: those that were created at ``since`` or later, and that come after ``before`` in the list.

    None selects all, ``uuid`` one quote. ``amount`` selects quotes
    whose source amount or destination amount is this number.
    """

    caller: str | None = None
    since: datetime = EARLIEST
    before: Position = Position(LATEST, UUID(int=0))
    state: str | None = None
    identifier: str | None = None
    amount: Decimal | None = None
    limit: int = 50
    uuid: UUID | None = None


class Page(NamedTuple):
    """Quotes, newest first, and the position from which the next page goes on; None if there are no more."""

    quotes: list[StoredQuote]
    next: Position | None
