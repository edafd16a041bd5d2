"""The lifetimes of events, and the times at which failed attempts are repeated. Pure: no I/O."""

from collections.abc import Mapping
from typing import Final

from integrations.events import OPENING_SIGNALS, EventType

HOUR_SECONDS: Final = 3_600.0
CLOSE_INTERVAL_SECONDS: Final = 60.0

# an OPEN that arrives late would be a new and wrong trade; INTEGRATION_* events live a little longer than their retries
LIFETIME_SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys((str(each) for each in EventType), 600.0),
    **dict.fromkeys((str(each) for each in OPENING_SIGNALS), 60.0),
    **dict.fromkeys((str(each) for each in EventType if each.startswith("INTEGRATION_")), 28 * HOUR_SECONDS),
}

_SIGNAL_RETRIES: Final = (1.0, 3.0, 8.0, 20.0, 45.0)
_INTEGRATION_RETRIES: Final = (5.0, 305.0, 2_105.0, 9_305.0, 27_305.0, 63_305.0, 99_305.0)
"""Times of the retries in seconds after the first attempt.

The pauses between the attempts are 5 s, 5 min, 30 min, 2 h, 5 h, 10 h and 10 h.
"""


def next_retry(type_: str, since_first_seconds: float) -> float | None:
    """Return the time of the next retry, in seconds after the first attempt; None if there is no further retry.

    If the time of a retry passes during an attempt, that retry is left out.
    """
    schedule = _INTEGRATION_RETRIES if type_.startswith("INTEGRATION_") else _SIGNAL_RETRIES
    for seconds in schedule:
        if seconds > since_first_seconds:
            return seconds
    if type_ in OPENING_SIGNALS or schedule is _INTEGRATION_RETRIES:
        return None
    last = schedule[-1]
    return last + CLOSE_INTERVAL_SECONDS * ((since_first_seconds - last) // CLOSE_INTERVAL_SECONDS + 1)


def retry_delay(
    type_: str, since_first_seconds: float, retry_after_seconds: float | None, life_left_seconds: float
) -> float | None:
    """Return the seconds until the next retry; None if there is none, or if the event expires before it."""
    due = next_retry(type_, since_first_seconds)
    if due is None:
        return None
    delay = max(due - since_first_seconds, retry_after_seconds or 0.0)
    return delay if delay < life_left_seconds else None
