"""What a quote is, and what may be done with it: wire.md §2's rules over rows of the database.

Pure: no clock, no database, no HTTP; the time and the rows come in as arguments.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import UUID

import msgspec

from chassis.errors import (
    Fault,
    IdempotencyKeyReusedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    UnavailableError,
)
from quoting.call import Operation
from quoting.schemas import PARAMETERS, same_amount

OPERATIONS: Final = {
    Operation.QUOTE_SOURCE_AMOUNT: "quoteSourceAmount",
    Operation.QUOTE_DESTINATION_AMOUNT: "quoteDestinationAmount",
}


class Quote(msgspec.Struct, frozen=True):
    """A row of table ``quote``. A stub, which retention has left, has no request and no terms."""

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


_LENGTH: Final = struct.Struct(">Q").pack


def quote_uuid(namespace: bytes, caller: str, key: str) -> UUID:
    """The one uuid of a caller's Idempotency-Key: RFC 9562 version 8 from HMAC-SHA-256.

    The caller is length-prefixed, so that no two pairs run together.
    """
    name = caller.encode()
    digest = hmac.digest(namespace, len(name).to_bytes(8) + name + key.encode(), "sha256")
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return UUID(int=number)


def fingerprint(request: Mapping[str, str]) -> bytes:
    """SHA-256 over the seven parsed fields: the same for two bodies that are the same (wire.md §3)."""
    values = [(plain(request[name]) if name == "amount" else request[name]).encode() for name in PARAMETERS]
    return hashlib.sha256(b"".join([_LENGTH(len(value)) + value for value in values])).digest()


def plain(amount: str) -> str:
    """An amount without trailing zeros: ``12.50`` and ``12.5`` are one number."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def reserved(quote: Quote | None, operation: Operation, wanted: bytes) -> Mapping[str, object]:
    """The reply to a reservation whose key has this quote; ``wanted`` is its own fingerprint.

    Raises IdempotencyKeyReusedError where the quote belongs to another request, QuoteExpiredError where
    retention has taken its terms, UnavailableError where there is none after all.
    """
    if quote is None:
        raise UnavailableError(cause="a quote was neither inserted nor found")
    if quote.operation != OPERATIONS[operation] or quote.fingerprint != wanted:
        raise IdempotencyKeyReusedError
    if quote.request is None:
        raise QuoteExpiredError
    return {"amount": told_amount(quote), "expires": told(quote.expires), "uuid": str(quote.uuid)}


def told_amount(quote: Quote) -> str:
    """The amount that the reservation was answered with."""
    is_source = quote.operation == OPERATIONS[Operation.QUOTE_SOURCE_AMOUNT]
    return written(quote.source_amount if is_source else quote.destination_amount)


def executed(quote: Quote | None, caller: str, payment: Mapping[str, str]) -> Mapping[str, object]:
    """The reply to execute, once the database has executed what it may (Quote API §III).

    Looked at in the order of wire.md §2: QuoteNotFoundError, QuoteMismatchError, the stored execution,
    QuoteExpiredError.
    """
    if quote is None or quote.caller != caller:
        raise QuoteNotFoundError
    if quote.request is None:
        raise QuoteExpiredError
    faults = mismatches(quote, payment)
    if faults:
        raise QuoteMismatchError(faults=faults)
    if quote.executed is None:
        raise QuoteExpiredError(f"The quote expired at {told(quote.expires)}.")
    return {
        "uuid": str(quote.uuid),
        "state": "EXECUTED",
        **_amounts(quote),
        "executed": told(quote.executed),
    }


def mismatches(quote: Quote, payment: Mapping[str, str]) -> list[Fault]:
    """Each parameter of a payment that differs from the reserved one."""
    assert quote.request is not None  # noqa: S101 - the caller looked
    expected = {
        **quote.request,
        "sourceAmount": written(quote.source_amount),
        "destinationAmount": written(quote.destination_amount),
    }
    return [
        Fault(name, "differs from the reserved one", value)
        for name, value in payment.items()
        if not _is_same(name, value, expected[name])
    ]


def _is_same(name: str, one: str, other: str) -> bool:
    return same_amount(one, other) if name.lower().endswith("amount") else one == other


def looked_up(quote: Quote | None, caller: str, receiver: Mapping[str, str]) -> Mapping[str, object]:
    """The reply to look up. Raises QuoteNotFoundError, also where the receiver given is another's."""
    if quote is None or quote.caller != caller or quote.request is None:
        raise QuoteNotFoundError
    if any(quote.request[name] != value for name, value in receiver.items()):
        raise QuoteNotFoundError
    state = "EXECUTED" if quote.executed else "EXPIRED" if quote.is_expired else "RESERVED"
    return {
        "uuid": str(quote.uuid),
        "state": state,
        "operation": quote.operation,
        "amount": told_amount(quote),
        **_amounts(quote),
        "expires": told(quote.expires),
        "created": told(quote.created),
        "executed": told(quote.executed) if quote.executed else None,
        "request": quote.request,
    }


def _amounts(quote: Quote) -> dict[str, str]:
    assert quote.source_amount is not None  # noqa: S101 - no stub comes here
    assert quote.destination_amount is not None  # noqa: S101
    return {
        "sourceAmount": written(quote.source_amount),
        "destinationAmount": written(quote.destination_amount),
        "fee": written(quote.source_amount - quote.destination_amount),
    }


def written(amount: Decimal | None) -> str:
    """An amount with the fraction digits that it was stored with: its currency's exponent."""
    return format(amount, "f") if amount is not None else ""


def told(time: datetime) -> str:
    """A time in UTC with milliseconds and Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
