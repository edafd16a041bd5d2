"""Idempotency: at most one quote for each caller and idempotency key (wire.md §7, promise 2).

Calculates the uuid of a key's quote, and compares requests with the same key. Pure: no clock, no database, no HTTP.
"""

import hashlib
import hmac
import struct
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from chassis.errors import IdempotencyKeyReusedError
from dfsp_api.stored_quote import OPERATIONS, StoredQuote
from quoting.call import Operation
from quoting.schemas import PARAMETERS

_LENGTH: Final = struct.Struct(">Q").pack


def quote_uuid(namespace: bytes, caller: str, key: str) -> UUID:
    """Return the uuid of the quote for a caller's idempotency key: an RFC 9562 UUID of version 8, from HMAC-SHA-256.

    ``namespace`` is the secret of the database. The text for the digest begins with the caller's length, so that
    different pairs of caller and key always give different texts.
    """
    name = caller.encode()
    digest = hmac.digest(namespace, len(name).to_bytes(8) + name + key.encode(), "sha256")
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return UUID(int=number)


def fingerprint(request: Mapping[str, str]) -> bytes:
    """Return the SHA-256 digest of a request's seven fields.

    Requests that mean the same have the same digest (wire.md §3).
    """
    values = [
        (_without_trailing_zeros(request[name]) if name == "amount" else request[name]).encode()
        for name in PARAMETERS
    ]
    return hashlib.sha256(b"".join([_LENGTH(len(value)) + value for value in values])).digest()


def require_same_request(
    quote: StoredQuote, operation: Operation, fingerprint_: bytes, lifetime_ms: int | None = None
) -> None:
    """Raise IdempotencyKeyReusedError if another request with the same idempotency key reserved the quote."""
    same = (OPERATIONS[operation], fingerprint_, lifetime_ms)
    if (quote.operation, quote.fingerprint, quote.lifetime_ms) != same:
        raise IdempotencyKeyReusedError


def _without_trailing_zeros(amount: str) -> str:
    """``12.50`` and ``12.5`` are one number."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount
