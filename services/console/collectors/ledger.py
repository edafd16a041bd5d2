"""Requests and errors of the last hour by caller, by error and by hop, counted by the minute."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from console.collectors.samples import Window

MINUTES: Final = 60
MAX_KEYS: Final = 5_000
"""Maximum number of different keys in one minute; further keys are not counted."""


K = TypeVar("K")


class CallerErrorKey(NamedTuple):
    """Errors of one caller at one service; `error` is an error id."""

    service: str
    caller: str
    error: str


class ErrorKey(NamedTuple):
    """Errors of one service. `origin` is `own` if the service raised the error, else `upstream`."""

    service: str
    error: str
    status: str
    origin: str


class CallerKey(NamedTuple):
    """Requests of one caller at one service."""

    service: str
    caller: str


@dataclass
class _Minute:
    number: int
    requests: Counter[CallerKey] = field(default_factory=Counter)
    caller_errors: Counter[CallerErrorKey] = field(default_factory=Counter)
    errors: Counter[ErrorKey] = field(default_factory=Counter)


@dataclass(frozen=True)
class Tally:
    """The sums of some minutes."""

    requests: Counter[CallerKey]
    caller_errors: Counter[CallerErrorKey]
    errors: Counter[ErrorKey]


class Ledger:
    """Sums by minute. The growth between two looks counts for the minute of the second look."""

    def __init__(self) -> None:
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES)

    def add(self, service: str, windows: Sequence[Window], now: float) -> None:
        """Count the growth between the last two looks at a service. `now` is in seconds since 1970."""
        minute = self._minute(int(now // 60))
        for window in windows:
            for labels, grown in window.increases("caller_requests_total"):
                _count(minute.requests, CallerKey(service, labels["caller"]), grown)
            for labels, grown in window.increases("caller_errors_total"):
                _count(
                    minute.caller_errors, CallerErrorKey(service, labels["caller"], labels["error"]), grown
                )
            for labels, grown in window.increases("request_errors_total"):
                key = ErrorKey(service, labels["error"], labels["status"], labels["origin"])
                _count(minute.errors, key, grown)

    def tally(self, minutes: int, now: float) -> Tally:
        """Return the sums of the last minutes: `minutes` in all, with the present one."""
        first = int(now // 60) - minutes + 1
        found = [each for each in self._minutes if each.number >= first]
        return Tally(
            _sum(each.requests for each in found),
            _sum(each.caller_errors for each in found),
            _sum(each.errors for each in found),
        )

    def usual_errors(self, now: float) -> dict[tuple[str, str], float]:
        """Return the errors per second that each service raised itself, by service and error id.

        The present minute and the one before it do not count, because a rise must not raise the rate that it is compared with.
        """
        last = int(now // 60) - 2
        found = [each for each in self._minutes if each.number <= last]
        if not found:
            return {}
        seconds = (last - found[0].number + 1) * 60
        usual: Counter[tuple[str, str]] = Counter()
        for each in found:
            for key, count in each.errors.items():
                if key.origin == "own":
                    usual[key.service, key.error] += count
        return {key: count / seconds for key, count in usual.items()}

    def _minute(self, number: int) -> _Minute:
        if not self._minutes or self._minutes[-1].number < number:
            self._minutes.append(_Minute(number))
        return self._minutes[-1]


def _count(counter: Counter[K], key: K, grown: float) -> None:
    if grown and (key in counter or len(counter) < MAX_KEYS):
        counter[key] += round(grown)


def _sum(counters: Iterable[Counter[K]]) -> Counter[K]:
    total: Counter[K] = Counter()
    for each in counters:
        total.update(each)
    return total
