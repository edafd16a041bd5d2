"""Prints one line for each request, even if many services logged it. Under load it prints one line each second."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from network import log_format, topology
from network.log_files import LogChunk
from network.log_records import LogRecord, parse, time_of_day
from network.request_counter import RequestCounter
from network.terminal import Terminal, escape_controls

_QUIET_SECONDS = 0.5
_PERIOD_SECONDS = 1.0
_MAX_LINES_PER_PERIOD = 50
# during an outage, lines of failed requests must not hide the supervisor's lines
_MAX_FAILURES_PER_PERIOD = 5
_FAILURE_PERIOD_SECONDS = 10.0
_MAX_TRACES = 5_000
_MAX_RECORDS_PER_TRACE = 100
# seven services log each request: more lines at once mean more requests than a period may show
_MAX_LINES_AT_ONCE = 350
# two times in whole milliseconds may differ from the true ones by this much
_CLOCK_STEP_SECONDS = 0.002


@dataclass
class _PendingTrace:
    latest: float
    records: list[LogRecord] = field(default_factory=list)


class TraceBuffer:
    """Collects log lines by trace id. When a trace gets no more lines, `take` returns one line for each request.

    It is the line of the hop nearest to the caller. A caller may use one trace id for many requests.
    """

    def __init__(self, *, ignored: Iterable[str] = ()) -> None:
        self._traces: OrderedDict[str, _PendingTrace] = OrderedDict()
        # by trace: position of the first service that was returned; late lines of later hops are dropped
        self._first_position: OrderedDict[str, int] = OrderedDict.fromkeys(ignored, -1)
        self._late: tuple[Collection[str], float] = ((), 0.0)

    def ignore(self, trace_ids: Collection[str], *, until: float) -> None:
        """Ignore lines of these traces until the time `until`, because their requests have been counted already.

        Later lines may belong to new requests.
        """
        self._late = trace_ids, until

    def add(self, records: Iterable[LogRecord], now: float) -> None:
        late, until = self._late
        for record in records:
            if record.is_request and not (now < until and record.trace_id in late):
                trace = self._traces.setdefault(record.trace_id, _PendingTrace(now))
                trace.latest = now
                trace.records.append(record)
                self._traces.move_to_end(record.trace_id)

    def take(self, now: float) -> list[LogRecord]:
        """Remove and return the requests of all traces that have got no lines for a while or have too many lines.

        If there are too many traces, it returns the requests of the oldest traces too.
        """
        taken: list[LogRecord] = []
        for trace_id, trace in list(self._traces.items()):
            is_quiet = now - trace.latest >= _QUIET_SECONDS
            over_limit = len(self._traces) > _MAX_TRACES or len(trace.records) > _MAX_RECORDS_PER_TRACE
            if is_quiet or over_limit:
                del self._traces[trace_id]
                taken += self._first_service_records(trace_id, trace.records)
        return sorted(taken, key=lambda record: record.start_time)

    def take_all(self) -> list[LogRecord]:
        """Remove and return all collected lines, without waiting for more lines of their traces."""
        taken = [record for trace in self._traces.values() for record in trace.records]
        self._traces.clear()
        return taken

    def _first_service_records(self, trace_id: str, records: list[LogRecord]) -> list[LogRecord]:
        earliest = min(record.start_time for record in records)
        position = min(
            topology.chain_position(record.service)
            for record in records
            if record.start_time <= earliest + _CLOCK_STEP_SECONDS
        )
        known = self._first_position.get(trace_id)
        if known is not None and position > known:
            return []
        self._first_position[trace_id] = position
        while len(self._first_position) > _MAX_TRACES:
            self._first_position.popitem(last=False)
        return [record for record in records if topology.chain_position(record.service) == position]


class FailureLimiter:
    """Lets a few failed requests (status 500 or higher) be shown in each period, and counts the others."""

    def __init__(self) -> None:
        self._period_start = float("-inf")
        self._shown = 0
        self._hidden: Counter[str] = Counter()

    def is_shown(self, record: LogRecord, now: float) -> bool:
        if record.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return True
        if now - self._period_start >= _FAILURE_PERIOD_SECONDS and not self._hidden:
            self._period_start, self._shown = now, 0
        self._shown += 1
        if self._shown <= _MAX_FAILURES_PER_PERIOD:
            return True
        self._hidden[f"{record.status} {record.text_of('id')}".rstrip()] += 1
        return False

    def take_summary(self, now: float) -> str:
        """Return a line about the requests that were not shown; empty until their period has ended."""
        if not self._hidden or now - self._period_start < _FAILURE_PERIOD_SECONDS:
            return ""
        kinds = ", ".join(f"{count} of them {kind}" for kind, count in self._hidden.most_common())
        text = f"{self._hidden.total()} more requests failed in {_FAILURE_PERIOD_SECONDS:.0f} s: {kinds}"
        self._hidden.clear()
        return text


class RequestPrinter:
    """Prints each request. If there are too many to read, it prints their number each second.

    It does not print requests whose trace ids are in `ignored`. If many requests fail, it prints only some of them.
    """

    def __init__(
        self, terminal: Terminal, wall_clock: Callable[[], float], *, ignored: Iterable[str] = ()
    ) -> None:
        self._terminal = terminal
        self._wall_clock = wall_clock
        self._traces = TraceBuffer(ignored=ignored)
        self._printed_at: deque[float] = deque()
        self._failures = FailureLimiter()
        self._counter: RequestCounter | None = None

    def show(self, chunks: Sequence[LogChunk], now: float) -> None:
        """Read the new log lines, and print the requests that are complete."""
        if self._counter is None and sum(chunk.line_count for chunk in chunks) > _MAX_LINES_AT_ONCE:
            self._start_counting([], now)
        if self._counter is None:
            self._traces.add((record for chunk in chunks for record in _records(chunk)), now)
            requests = [r for r in self._traces.take(now) if self._failures.is_shown(r, now)]
            self._print_each(requests, now)
        else:
            for chunk in chunks:
                self._counter.add(chunk)
            if now - self._counter.period_start >= _PERIOD_SECONDS:
                self._print_counts(self._counter, now)
        if summary := self._failures.take_summary(now):
            self._print_now(summary)

    def _print_each(self, requests: Sequence[LogRecord], now: float) -> None:
        while self._printed_at and now - self._printed_at[0] >= _PERIOD_SECONDS:
            self._printed_at.popleft()
        free_lines = _MAX_LINES_PER_PERIOD - len(self._printed_at)
        for record in requests[:free_lines]:
            self._printed_at.append(now)
            text = log_format.format_request(record, self._terminal)
            self._terminal.print_line(f"{time_of_day(record.start_time)}  {text}")
        if requests[free_lines:]:
            self._start_counting(requests[free_lines:], now)

    def _start_counting(self, unprinted: Sequence[LogRecord], now: float) -> None:
        self._counter = RequestCounter(now, _MAX_LINES_PER_PERIOD)
        self._counter.add_records([*unprinted, *self._traces.take_all()])

    def _print_counts(self, counter: RequestCounter, now: float) -> None:
        counts = counter.end_period(now)
        if counts.requests:
            self._print_now(f"{counts.requests} requests, {counts.failed} failed")
        if counts.few:
            self._traces.ignore(counts.trace_ids, until=now + _PERIOD_SECONDS)
            self._counter = None

    def _print_now(self, text: str) -> None:
        self._terminal.print_line(f"{time_of_day(self._wall_clock())}  {escape_controls(text)}")


def _records(chunk: LogChunk) -> Iterator[LogRecord]:
    return (parse(chunk.service, line.decode(errors="replace"), default_time=0) for line in chunk.lines())
