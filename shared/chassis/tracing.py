"""Trace ids and trace contexts: the requests of one unit of work have one trace id (wire.md §3).

Each request has two trace ids. The header `L1p-Trace-Id` is in every log line and error. The header `traceparent` of
W3C Trace Context has the id under which a tracing system knows the request. If the caller sends no `traceparent`, the
second id is made from the first, so either finds the other.
"""

import hashlib
import re
import secrets
import time
from itertools import chain, count, repeat
from typing import Final
from uuid import uuid4

import msgspec

from chassis.patterns import is_uuid

TRACE_HEADER: Final = "L1p-Trace-Id"
TRACEPARENT_HEADER: Final = "traceparent"
BATCH_SPANS_HEADER: Final = "Quote-Batch-Spans"
"""Header of a batch: the span id of the sender's request for the line with id 0. For each other line, add its id."""

is_traceparent: Final = re.compile(
    # W3C Trace Context §3.2.2: neither id is all zeros, no version is ff, version 00 has exactly four fields
    r"(?!ff)(?!00.{53}-)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[!-~]*)?\Z"
).match

_TRACE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_UUID_CHARACTERS: Final = 36
_NO_TRACE_ID: Final = "0" * 32
_PROCESS_PART: Final = str(uuid4())[:-12]
_NUMBERS: Final = count(secrets.randbits(48))
_LAST_48_BITS: Final = (1 << 48) - 1
_MULTIPLIER: Final = 0x9E3779B97F4B
"""Makes the ids of neighbouring numbers look different. It is odd, so different numbers give different ids."""
_SPAN_IDS: Final = map(
    # map and format run in C, which halves the cost; the first part is random for each process, and not 0
    f"{secrets.randbits(31) + 1:08x}%08x".__mod__,
    chain(range(secrets.randbits(32), 1 << 32), chain.from_iterable(repeat(range(1 << 32)))),
)
"""New span ids: 16 hex digits."""
_LAST_32_BITS: Final = (1 << 32) - 1
is_span_id: Final = re.compile(r"[0-9a-f]{16}\Z").match
_SAMPLED: Final = 1
_RANDOM: Final = 2
_FLAGS: Final = {
    f"{flags:02x}": (f"{flags & (_SAMPLED | _RANDOM):02x}", bool(flags & _SAMPLED)) for flags in range(256)
}
"""For each value of the received flags: the flags to pass on (those that W3C defines), and whether they say sampled."""
NO_FLAGS: Final = "00"
_SAMPLED_TOO: Final = {"00": "01", "02": "03"}
_ALL_OF_EIGHT_DIGITS: Final = 1 << 32


def trace_id_from(header: str | None) -> str:
    """Return the caller's trace id if the header is a valid trace id, else a new one."""
    return header if header is not None and _TRACE_ID.match(header) else new_trace_id()


def new_trace_id() -> str:
    """Return a new trace id in the form of a UUID, at a fiftieth of the cost of uuid4: it may be easy to guess."""
    return f"{_PROCESS_PART}{next(_NUMBERS) * _MULTIPLIER & _LAST_48_BITS:012x}"


class Line(msgspec.Struct, frozen=True, gc=False):
    """The place of a request in a batch, from which its sender's span id follows."""

    first_span: str
    number: int

    @property
    def span_id(self) -> str:
        return f"{self.first_span[:8]}{int(self.first_span[8:], 16) + self.number & _LAST_32_BITS:08x}"


def w3c_trace_id(trace_id: str) -> str:
    """Return the W3C trace id that belongs to an L1p trace id: 32 lower-case hex digits, not all zeros.

    These are the digits of a UUID. For an id of another form they are the first 16 bytes of its SHA-256.
    """
    if is_uuid(trace_id):
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
    """Whether the request gets a span however it ends."""
    links: "tuple[SpanContext, ...]" = ()
    """The batches and statements that the request was part of. Only sampled requests have links."""

    @property
    def traceparent(self) -> str:
        """The value of the header `traceparent` for the next hop."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


class Sampler:
    """Decides which requests are sampled: those of callers that set the flag, and a part of all others.

    The part is decided by the last eight digits of the trace id alone, so all hops decide alike. (OpenTelemetry's own
    sampler compares the last sixteen, but in a UUID those begin with 8, 9, a or b.) Under a load at which the ratio
    would give more than the maximum per second, a service lowers it. All hops see nearly the same load.
    """

    def __init__(self, ratio: float, max_per_second: float) -> None:
        """`ratio` is the part of the requests that is sampled, from 0 to 1."""
        self._ratio = ratio
        self._max_per_second = max_per_second
        self._bound = _bound(ratio)
        self._begun = 0
        self._adapted = time.monotonic()

    def may_sample(self, trace_id: str) -> bool:
        """Whether a request that came without `traceparent` may be sampled; `begin` decides it.

        This takes a fifth of the time of `begin`, and is False for nearly all requests of callers that use UUIDs.
        """
        if len(trace_id) == _UUID_CHARACTERS and trace_id[-8:] >= self._bound:
            self._begun += 1
            return False
        return True

    def begin(self, traceparent: str | None, trace_id: str) -> SpanContext:
        """Return the context of a request, from its `traceparent` header and its L1p trace id."""
        self._begun += 1
        if traceparent is not None and is_traceparent(traceparent):
            w3c_id = traceparent[3:35]
            flags, is_sampled = _FLAGS[traceparent[53:55]]
            if not is_sampled and w3c_id[24:] < self._bound:
                flags, is_sampled = _SAMPLED_TOO[flags], True
            return SpanContext(w3c_id, next(_SPAN_IDS), traceparent[36:52], flags, is_sampled)
        w3c_id = w3c_trace_id(trace_id)
        is_sampled = w3c_id[24:] < self._bound
        return SpanContext(w3c_id, next(_SPAN_IDS), None, "01" if is_sampled else "00", is_sampled)

    def adapt(self, now: float) -> None:
        """Fit the ratio to the load since the last call. Call it about once a second."""
        seconds = now - self._adapted
        expected = self._ratio * self._begun / seconds if seconds > 0 else 0.0
        self._bound = _bound(
            self._ratio * min(1.0, self._max_per_second / expected) if expected else self._ratio
        )
        self._begun, self._adapted = 0, now


def _bound(ratio: float) -> str:
    """Return a text. For this part of all trace ids, the last eight hex digits sort before it."""
    bound = round(ratio * _ALL_OF_EIGHT_DIGITS)
    return f"{bound:08x}" if bound < _ALL_OF_EIGHT_DIGITS else "g"


def batch_context() -> SpanContext:
    """Return the context of work that is done for several requests at once. It begins a trace."""
    return SpanContext(secrets.token_hex(16), next(_SPAN_IDS), None, "01", is_sampled=True)
