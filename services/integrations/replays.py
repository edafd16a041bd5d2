"""Decide which failed events are sent again when an operator replays all of them. Pure: no I/O.

Within a lane the order of events must stay. So only the last failed events of a lane are sent again: all of them or, if
one call may not replay so many, the newest. An event is left out if a later event of its lane was sent and is not sent
again: the event would arrive out of order.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final
from uuid import UUID

from chassis.errors import TooManyRequestsError

WINDOW_SECONDS: Final = 60.0
MAX_EVENTS: Final = 1_000
"""Maximum number of events that one call replays."""


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A failed event. `fault` is the reason why it cannot be sent again; None if it can."""

    id: UUID
    type: str
    lane: int
    fault: str | None


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """The events to send again, in the order of their lanes, and the numbers of the others.

    `left` counts events of lanes for which there was no room; the next call can replay them. `skipped` counts the events
    that cannot be sent again, by their reasons.
    """

    events: tuple[FailedEvent, ...]
    left: int
    skipped: Counter[str]


def plan(failed: Sequence[FailedEvent], room: int, max_room: int) -> ReplayPlan:
    """Choose at most `room` of the events, which are sorted by lane and then by position.

    A lane for which `room` is too small is left for a later call. If a lane has more events than any call has room for,
    `max_room`, its newest are chosen.
    """
    too_many = f"Its lane has more failed events than the {max_room:,} that can be sent again at once."
    chosen: list[FailedEvent] = []
    skipped = Counter(each.fault for each in failed if each.fault is not None)
    left = 0
    for _, lane in groupby((each for each in failed if each.fault is None), key=lambda each: each.lane):
        events = list(lane)
        older = max(len(events) - max_room, 0)
        if older:
            skipped[too_many] += older
            events = events[older:]
        if len(chosen) + len(events) <= room:
            chosen += events
        else:
            left += len(events)
    return ReplayPlan(tuple(chosen), left, skipped)


class ReplayLimit:
    """Limits the number of events that operators send again in a minute. The minute begins with its first event."""

    def __init__(self, max_events: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_at_once = min(max_events, MAX_EVENTS)
        self._max_events = max_events
        self._clock = clock
        self._began = -math.inf
        self._taken = 0

    @property
    def left(self) -> int:
        """Number of events that can be sent again now."""
        self._renew()
        return min(self._max_events - self._taken, MAX_EVENTS)

    @property
    def seconds(self) -> int:
        """Seconds until the next minute begins."""
        return max(math.ceil(self._began + WINDOW_SECONDS - self._clock()), 1)

    def take(self, events: int) -> None:
        """Count events. Raises TooManyRequestsError if fewer are left."""
        if events > self.left:
            seconds = self.seconds
            raise TooManyRequestsError(
                f"At most {self._max_events:,} events in a minute are sent again. Retry after {seconds} s.",
                retry_after=seconds,
            )
        if events and not self._taken:
            self._began = self._clock()
        self._taken += events

    def give_back(self, events: int) -> None:
        """Do not count these events any more, because they were taken and not sent again."""
        self._taken = max(self._taken - events, 0)

    def _renew(self) -> None:
        if self._clock() >= self._began + WINDOW_SECONDS:
            self._taken = 0
