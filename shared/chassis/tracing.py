"""Trace ids and trace contexts: the requests of one unit of work have one trace id (wire.md §3).

Each request has two trace ids. The header `L1p-Trace-Id` is in every log line and error. The header `traceparent` of
W3C Trace Context has the id under which a tracing system knows the request. If the caller sends no `traceparent`, the
second id is made from the first, so either finds the other.
"""

import hashlib
import re
import secrets
import zlib
from itertools import count
from typing import Final
from uuid import uuid4

import msgspec

TRACE_HEADER: Final = "L1p-Trace-Id"
TRACEPARENT_HEADER: Final = "traceparent"

is_traceparent: Final = re.compile(
    # W3C Trace Context §3.2.2: neither id is all zeros, no version is ff, version 00 has exactly four fields
    r"(?!ff)(?!00.{53}-)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?\Z"
).match

_TRACE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE)
_NO_TRACE_ID: Final = "0" * 32
_PROCESS_PART: Final = str(uuid4())[:-12]
_NUMBERS: Final = count(secrets.randbits(48))
_LAST_48_BITS: Final = (1 << 48) - 1
_MULTIPLIER: Final = 0x9E3779B97F4B
"""Makes the ids of neighbouring numbers look different. It is odd, so different numbers give different ids."""
_SPAN_NUMBERS: Final = count(secrets.randbits(63) + 1)
_LAST_64_BITS: Final = (1 << 64) - 1
_SPAN_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_KNOWN_FLAGS: Final = 3
"""Bits of the trace flags that W3C Trace Context defines: sampled, and random trace id."""
_SAMPLED: Final = 1
# flags as they are sent on: as they came, and with the flag for sampled requests
_FLAGS: Final = {f"{flags:02x}": f"{flags & _KNOWN_FLAGS:02x}" for flags in range(256)}
_SAMPLED_FLAGS: Final = {f"{flags:02x}": f"{flags & _KNOWN_FLAGS | _SAMPLED:02x}" for flags in range(256)}
_NO_FLAGS: Final = "00"
_HASHES: Final = 1 << 32


def trace_id_from(header: str | None) -> str:
    """Return the caller's trace id if the header is a valid trace id, else a new one."""
    return header if header is not None and _TRACE_ID.match(header) else new_trace_id()


def new_trace_id() -> str:
    """Return a new trace id in the form of a UUID, at a fiftieth of the cost of uuid4: it may be easy to guess."""
    return f"{_PROCESS_PART}{next(_NUMBERS) * _MULTIPLIER & _LAST_48_BITS:012x}"


def new_span_id() -> str:
    """Return a new span id: 16 hex digits, not all zeros. It may be easy to guess."""
    return f"{next(_SPAN_NUMBERS) * _SPAN_MULTIPLIER & _LAST_64_BITS or 1:016x}"


def w3c_trace_id(trace_id: str) -> str:
    """Return the W3C trace id that belongs to an L1p trace id: 32 lower-case hex digits, not all zeros.

    These are the digits of a UUID. For an id of another form they are the first 16 bytes of its SHA-256.
    """
    if _UUID.match(trace_id):
        digits = trace_id.replace("-", "").lower()
        if digits != _NO_TRACE_ID:
            return digits
    return hashlib.sha256(trace_id.encode()).hexdigest()[:32]


class SpanContext(msgspec.Struct, gc=False):
    """The place of one request in its trace."""

    trace_id: str
    """The W3C trace id: 32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str | None
    """Span id of the caller; None at the first hop, and for a caller that sends no valid `traceparent`."""
    flags: str
    """The W3C trace flags for the next hop: two hex digits."""
    is_sampled: bool
    """Whether the span is exported however the request ends."""
    links: "tuple[SpanContext, ...]" = ()
    """The batches and statements that the request was part of. Only sampled requests have links."""

    @property
    def traceparent(self) -> str:
        """The value of the header `traceparent` for the next hop."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


class Sampler:
    """Decides which requests are sampled: those of callers that set the flag, and a part of all others."""

    def __init__(self, ratio: float) -> None:
        """`ratio` is the part of the requests that is sampled, from 0 to 1."""
        self._bound = round(ratio * _HASHES)

    def begin(self, traceparent: str | None, trace_id: str) -> SpanContext:
        """Return the context of a request, from its `traceparent` header and its L1p trace id."""
        if traceparent is not None and is_traceparent(traceparent):
            w3c_id, parent_id, given = traceparent[3:35], traceparent[36:52], traceparent[53:55]
            flags = _FLAGS[given]
            if int(flags, 16) & _SAMPLED or self._is_in_ratio(w3c_id):
                return SpanContext(w3c_id, new_span_id(), parent_id, _SAMPLED_FLAGS[given], is_sampled=True)
            return SpanContext(w3c_id, new_span_id(), parent_id, flags, is_sampled=False)
        w3c_id = w3c_trace_id(trace_id)
        if self._is_in_ratio(w3c_id):
            return SpanContext(w3c_id, new_span_id(), None, _SAMPLED_FLAGS[_NO_FLAGS], is_sampled=True)
        return SpanContext(w3c_id, new_span_id(), None, _NO_FLAGS, is_sampled=False)

    def _is_in_ratio(self, w3c_id: str) -> bool:
        # a hash, because no fixed part of a trace id is random: in a UUID, the last 16 digits begin with 8, 9, a or b.
        # It depends on the trace id alone, so all hops with the same ratio decide alike.
        return zlib.crc32(w3c_id.encode()) < self._bound


def batch_context() -> SpanContext:
    """Return the context of work that is done for several requests at once. It begins a trace."""
    return SpanContext(secrets.token_hex(16), new_span_id(), None, _SAMPLED_FLAGS[_NO_FLAGS], is_sampled=True)
