"""How often anybody may ask where nobody shows credentials."""

import math
import time
from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from chassis.errors import TooManyRequestsError

WINDOW_SECONDS: Final = 60.0
MAX_REMEMBERED: Final = 100_000


class RateLimit:
    """So many a minute for one key; counts are kept for a minute from the first."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._counts: TTLCache[str, tuple[int, float]] = TTLCache(MAX_REMEMBERED, WINDOW_SECONDS, clock)

    def take(self, key: str) -> None:
        """Raises TooManyRequestsError, which says when to ask again."""
        now = self._clock()
        count, began = self._counts.get(key, (0, now))
        left = began + WINDOW_SECONDS - now
        if left <= 0:
            count, began, left = 0, now, WINDOW_SECONDS
        if count >= self._most:
            raise TooManyRequestsError("Too many requests; try again later.", retry_after=math.ceil(left))
        self._counts[key] = count + 1, began
