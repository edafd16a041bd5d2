"""One line a request, however many services it went through; under load one line a second."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from network import lines, plan
from network.records import Record, clock
from network.terminal import Terminal

_QUIET_SECONDS = 0.5
_PERIOD_SECONDS = 1.0
_MOST_LINES_A_PERIOD = 50
_MOST_TRACES = 5_000
_MOST_RECORDS_A_TRACE = 100
# two times in whole milliseconds may differ from the true ones by as much
_GRAIN_SECONDS = 0.002


@dataclass
class _Trace:
    latest: float
    records: list[Record] = field(default_factory=list)


class Requests:
    """Gathers lines by trace id, and gives each request's line at its first service once no more come.

    A caller may use one trace id for many requests: each line of the first service is one.
    """

    def __init__(self, *, ignored: Iterable[str] = ()) -> None:
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        # where traces entered that were given already: what comes late of their later hops is no request
        self._entered: OrderedDict[str, int] = OrderedDict.fromkeys(ignored, -1)

    def add(self, records: Iterable[Record], now: float) -> None:
        for record in records:
            if record.is_request:
                trace = self._traces.setdefault(record.trace_id, _Trace(now))
                trace.latest = now
                trace.records.append(record)
                self._traces.move_to_end(record.trace_id)

    def take(self, now: float) -> list[Record]:
        """Return the requests of traces that are quiet or too large, and of the oldest where there are too many."""
        taken: list[Record] = []
        for trace_id, trace in list(self._traces.items()):
            quiet = now - trace.latest >= _QUIET_SECONDS
            crowded = len(self._traces) > _MOST_TRACES or len(trace.records) > _MOST_RECORDS_A_TRACE
            if quiet or crowded:
                del self._traces[trace_id]
                taken += self._entries(trace_id, trace.records)
        return sorted(taken, key=lambda record: record.began)

    def _entries(self, trace_id: str, records: list[Record]) -> list[Record]:
        first = min(record.began for record in records)
        entered = min(
            plan.rank(record.service) for record in records if record.began <= first + _GRAIN_SECONDS
        )
        known = self._entered.get(trace_id)
        if known is not None and entered > known:
            return []
        self._entered[trace_id] = entered
        while len(self._entered) > _MOST_TRACES:
            self._entered.popitem(last=False)
        return [record for record in records if plan.rank(record.service) == entered]


class Traffic:
    """Says each request to the terminal, or how many they were where they are too many to read."""

    def __init__(self, terminal: Terminal, wall_clock: Callable[[], float]) -> None:
        self._terminal = terminal
        self._wall_clock = wall_clock
        self._said: deque[float] = deque()
        self._count = self._failed = 0
        self._since: float | None = None

    def show(self, requests: Iterable[Record], now: float) -> None:
        while self._said and now - self._said[0] >= _PERIOD_SECONDS:
            self._said.popleft()
        for record in requests:
            if self._since is None and len(self._said) < _MOST_LINES_A_PERIOD:
                self._said.append(now)
                self._terminal.say(f"{clock(record.began)}  {lines.request(record, self._terminal)}")
                continue
            self._since = now if self._since is None else self._since
            self._count += 1
            self._failed += record.status >= HTTPStatus.BAD_REQUEST
        if self._since is not None and now - self._since >= _PERIOD_SECONDS:
            self._sum_up(now)

    def _sum_up(self, now: float) -> None:
        if self._count:
            self._terminal.say(f"{clock(self._wall_clock())}  {self._count} requests, {self._failed} failed")
        # few enough to read again: lines
        self._since = now if self._count > _MOST_LINES_A_PERIOD else None
        self._count = self._failed = 0
