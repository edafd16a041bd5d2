"""Rate limits for requests that need no credentials."""

import math
import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from chassis.errors import TooManyRequestsError

WINDOW_SECONDS: Final = 60.0
MAX_KEYS: Final = 100_000


class RateLimit:
    """Limits the calls with the same key to a maximum per minute. The minute begins with the key's first call."""

    def __init__(self, max_calls: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_calls = max_calls
        self._clock = clock
        self._counts: TTLCache[str, tuple[int, float]] = TTLCache(MAX_KEYS, WINDOW_SECONDS, clock)

    def count(self, key: str) -> None:
        """Count one call with this key. Above the maximum, raises TooManyRequestsError with the seconds to wait."""
        now = self._clock()
        count, began = self._counts.get(key, (0, now))
        left = began + WINDOW_SECONDS - now
        if left <= 0:
            count, began, left = 0, now, WINDOW_SECONDS
        if count >= self._max_calls:
            seconds = math.ceil(left)
            raise TooManyRequestsError(
                f"Too many requests: at most {self._max_calls} in a minute are allowed. Retry after {seconds} s.",
                retry_after=seconds,
            )
        self._counts[key] = count + 1, began
