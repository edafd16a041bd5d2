"""When a request is repeated, and after which delay (wire.md §3). Pure: no clock, no network."""

import random
from typing import Final

UNKNOWN_OUTCOME: Final = frozenset({502, 503, 504})
"""Statuses after which a request is repeated, as after no response at all. Every other status is final."""
_FIRST_SECONDS: Final = 0.1
_MAX_SECONDS: Final = 1.0
_MAX_RETRY_AFTER_DIGITS: Final = 6


def delay_seconds(failures: int, retry_after: float | None, jitter: random.Random) -> float:
    """Return the delay before the next attempt, after this number of failures in a row.

    The bound grows from 0.1 to 1 s. The delay is any time up to it, so that many callers of a service that comes back
    do not arrive together. `Retry-After` comes on top.
    """
    bound = min(_MAX_SECONDS, _FIRST_SECONDS * 2 ** min(failures - 1, 10))
    return (retry_after or 0.0) + jitter.uniform(bound / 10, bound)


def retry_after_seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header; None for a missing or unreadable one, and for a date."""
    if header is None or not (header.isascii() and header.isdigit()) or len(header) > _MAX_RETRY_AFTER_DIGITS:
        return None
    return float(header)
