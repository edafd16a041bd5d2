"""Counts requests in the raw bytes of log lines, when there are too many requests to show each one.

To parse each line would cost as much processor time as a service of the chain needs.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from network import topology
from network.log_files import LogChunk
from network.log_records import LogRecord

_TRACE_ID = re.compile(rb'"event":"request","traceId":"([^"]*)"')


@dataclass(frozen=True)
class RequestCounts:
    """The requests of one period. `few` means that they are not too many to show each one.

    `trace_ids` is complete only if the requests are few.
    """

    requests: int
    failed: int
    few: bool
    trace_ids: frozenset[str]


class RequestCounter:
    """Counts the requests of each period. Up to `max_few` requests in a period are `few`.

    A request is logged by each service of the chain that it passes. So the number of requests is the largest count of
    any service in the chain. (If some requests are rejected at the first hop and others enter at a later hop, this
    counts only the larger group.) The largest count of a service outside the chain is added. The counts never restart
    at 0, because the services write their lines at different times.
    """

    def __init__(self, period_start: float, max_few: int) -> None:
        self.period_start = period_start
        self._max_few = max_few
        self._requests: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._requests_before = self._failed_before = 0
        self._trace_ids: set[str] = set()

    def add_records(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            self._requests[record.service] += 1
            self._failed[record.service] += record.status >= HTTPStatus.BAD_REQUEST

    def add(self, chunk: LogChunk) -> None:
        # no other line can contain this text: inside a JSON string a quote is escaped by a backslash
        request = f'"service":"{chunk.service}","event":"request"'.encode()
        count = chunk.data.count(request)
        self._requests[chunk.service] += count
        # the level is info if the status is below 400
        self._failed[chunk.service] += count - chunk.data.count(b'"level":"info",' + request)
        if _total(self._requests) - self._requests_before <= self._max_few:
            self._trace_ids.update(trace_id.decode() for trace_id in _TRACE_ID.findall(chunk.data))

    def end_period(self, now: float) -> RequestCounts:
        """Return the counts since the end of the previous period, and begin the next period."""
        requests, failed = _total(self._requests), _total(self._failed)
        new = requests - self._requests_before
        counts = RequestCounts(
            new, failed - self._failed_before, new <= self._max_few, frozenset(self._trace_ids)
        )
        self.period_start, self._requests_before, self._failed_before = now, requests, failed
        self._trace_ids = set()
        return counts


def _total(counts: Mapping[str, int]) -> int:
    off_chain = (count for service, count in counts.items() if service not in topology.CHAIN)
    return max(counts.get(service, 0) for service in topology.CHAIN) + max(off_chain, default=0)
