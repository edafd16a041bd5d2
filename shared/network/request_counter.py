"""Count requests in the raw bytes of log lines, for loads too high to show each request.

Parsing each line would cost as much processor time as one service of the chain does.
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
    """The requests of one period; `trace_ids` is complete only if the requests were `few`."""

    requests: int
    failed: int
    few: bool
    trace_ids: frozenset[str]


class RequestCounter:
    """Counts requests period by period. Up to `max_few` requests in a period are few.

    Each service of the chain logs each request that passes it, so the largest count of a service is the number of
    requests. If some requests are rejected at the first hop while others enter further down, the larger of the two
    groups is counted. Services off the chain are counted likewise and added. Counts are cumulative, because
    services write their lines at different times.
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
        """Return the counts since the previous period ended, and begin the next period."""
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
