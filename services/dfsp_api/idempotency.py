"""One idempotency key of one caller is at most one quote (promise 2): the uuid of a key, and which requests are the same.

Pure: no clock, no database, no HTTP.
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
    """Return the uuid of a caller's idempotency key: RFC 9562 version 8, from HMAC-SHA-256.

    The caller's length comes first, so that no two pairs of caller and key make the same text.
    """
    name = caller.encode()
    digest = hmac.digest(namespace, len(name).to_bytes(8) + name + key.encode(), "sha256")
    number = int.from_bytes(digest[:16])
    number = number & ~(0xF << 76) | 8 << 76
    number = number & ~(0x3 << 62) | 2 << 62
    return UUID(int=number)


def fingerprint(request: Mapping[str, str]) -> bytes:
    """Return SHA-256 over the seven parsed fields: equal for two bodies that are the same (wire.md §3)."""
    values = [
        (_without_trailing_zeros(request[name]) if name == "amount" else request[name]).encode()
        for name in PARAMETERS
    ]
    return hashlib.sha256(b"".join([_LENGTH(len(value)) + value for value in values])).digest()


def require_same_request(quote: StoredQuote, operation: Operation, fingerprint_: bytes) -> None:
    """Raise IdempotencyKeyReusedError where the quote of a key was reserved by another request."""
    if quote.operation != OPERATIONS[operation] or quote.fingerprint != fingerprint_:
        raise IdempotencyKeyReusedError


def _without_trailing_zeros(amount: str) -> str:
    """``12.50`` and ``12.5`` are one number."""
    return amount.rstrip("0").rstrip(".") if "." in amount else amount
