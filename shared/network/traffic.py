"""One line a request, however many services it went through; under load one line a second."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from network import lines, plan
from network.crowd import Crowd
from network.records import Record, clock, read
from network.tail import Chunk
from network.terminal import Terminal

_QUIET_SECONDS = 0.5
_PERIOD_SECONDS = 1.0
_MAX_LINES_A_PERIOD = 50
_MAX_TRACES = 5_000
_MAX_RECORDS_A_TRACE = 100
# of seven services, so many that their requests cannot all be told
_MAX_LINES_AT_ONCE = 350
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
        self._late: tuple[Collection[str], float] = ((), 0.0)

    def ignore(self, traces: Collection[str], *, until: float) -> None:
        """Take what comes of these for late lines of requests that were told: for a while, as others may come."""
        self._late = traces, until

    def add(self, records: Iterable[Record], now: float) -> None:
        late, until = self._late
        for record in records:
            if record.is_request and not (now < until and record.trace_id in late):
                trace = self._traces.setdefault(record.trace_id, _Trace(now))
                trace.latest = now
                trace.records.append(record)
                self._traces.move_to_end(record.trace_id)

    def take(self, now: float) -> list[Record]:
        """Return the requests of traces that are quiet or too large, and of the oldest where there are too many."""
        taken: list[Record] = []
        for trace_id, trace in list(self._traces.items()):
            quiet = now - trace.latest >= _QUIET_SECONDS
            crowded = len(self._traces) > _MAX_TRACES or len(trace.records) > _MAX_RECORDS_A_TRACE
            if quiet or crowded:
                del self._traces[trace_id]
                taken += self._entries(trace_id, trace.records)
        return sorted(taken, key=lambda record: record.began)

    def take_all(self) -> list[Record]:
        """Return every line that waits for others of its trace."""
        taken = [record for trace in self._traces.values() for record in trace.records]
        self._traces.clear()
        return taken

    def _entries(self, trace_id: str, records: list[Record]) -> list[Record]:
        first = min(record.began for record in records)
        entered = min(
            plan.rank(record.service) for record in records if record.began <= first + _GRAIN_SECONDS
        )
        known = self._entered.get(trace_id)
        if known is not None and entered > known:
            return []
        self._entered[trace_id] = entered
        while len(self._entered) > _MAX_TRACES:
            self._entered.popitem(last=False)
        return [record for record in records if plan.rank(record.service) == entered]


class Traffic:
    """Says each request to the terminal, or each second how many they were where they are too many to read.

    `ignored` are traces whose requests are not said.
    """

    def __init__(
        self, terminal: Terminal, wall_clock: Callable[[], float], *, ignored: Iterable[str] = ()
    ) -> None:
        self._terminal = terminal
        self._wall_clock = wall_clock
        self._requests = Requests(ignored=ignored)
        self._said: deque[float] = deque()
        self._crowd: Crowd | None = None

    def show(self, chunks: Sequence[Chunk], now: float) -> None:
        """Take what is new in the logs, and say what is due."""
        if self._crowd is None and sum(chunk.count for chunk in chunks) > _MAX_LINES_AT_ONCE:
            self._begin_crowd([], now)
        if self._crowd is None:
            self._requests.add((record for chunk in chunks for record in _records(chunk)), now)
            self._say_each(self._requests.take(now), now)
        else:
            for chunk in chunks:
                self._crowd.add(chunk)
            if now - self._crowd.began >= _PERIOD_SECONDS:
                self._sum_up(self._crowd, now)

    def _say_each(self, requests: Sequence[Record], now: float) -> None:
        while self._said and now - self._said[0] >= _PERIOD_SECONDS:
            self._said.popleft()
        room = _MAX_LINES_A_PERIOD - len(self._said)
        for record in requests[:room]:
            self._said.append(now)
            self._terminal.say(f"{clock(record.began)}  {lines.request(record, self._terminal)}")
        if requests[room:]:
            self._begin_crowd(requests[room:], now)

    def _begin_crowd(self, untold: Sequence[Record], now: float) -> None:
        self._crowd = Crowd(now, _MAX_LINES_A_PERIOD)
        self._crowd.add_records([*untold, *self._requests.take_all()])

    def _sum_up(self, crowd: Crowd, now: float) -> None:
        period = crowd.end_period(now)
        if period.requests:
            told = f"{period.requests} requests, {period.failed} failed"
            self._terminal.say(f"{clock(self._wall_clock())}  {told}")
        if period.few:
            self._requests.ignore(period.traces, until=now + _PERIOD_SECONDS)
            self._crowd = None


def _records(chunk: Chunk) -> Iterator[Record]:
    return (read(chunk.service, line.decode(errors="replace"), otherwise_at=0) for line in chunk.lines())
