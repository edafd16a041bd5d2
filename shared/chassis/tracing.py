"""Trace ids: all requests of one unit of work have the same trace id (wire.md §3)."""

import re
import secrets
from itertools import count
from typing import Final
from uuid import uuid4

TRACE_HEADER: Final = "L1p-Trace-Id"

_TRACE_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_PROCESS_PART: Final = str(uuid4())[:-12]
_NUMBERS: Final = count(secrets.randbits(48))
_LAST_48_BITS: Final = (1 << 48) - 1
_MULTIPLIER: Final = 0x9E3779B97F4B
"""Makes the ids of neighbouring numbers look different. It is odd, so different numbers give different ids."""


def trace_id_from(header: str | None) -> str:
    """Return the caller's trace id if the header is a valid trace id, else a new one."""
    return header if header is not None and _TRACE_ID.match(header) else new_trace_id()


def new_trace_id() -> str:
    """Return a new trace id in the form of a UUID, at a fiftieth of the cost of uuid4: it may be easy to guess."""
    return f"{_PROCESS_PART}{next(_NUMBERS) * _MULTIPLIER & _LAST_48_BITS:012x}"
