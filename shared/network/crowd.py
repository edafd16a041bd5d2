"""Requests that are too many to be shown: counted in the bytes of log lines.

To read each line would cost as much as a hop of the chain does.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from network import plan
from network.records import Record
from network.tail import Chunk

_TRACE = re.compile(rb'"event":"request","traceId":"([^"]*)"')


@dataclass(frozen=True)
class Period:
    """What came in a while; `traces` are known where the requests were `few`."""

    requests: int
    failed: int
    few: bool
    traces: frozenset[str]


class Crowd:
    """Counts requests from `began` on, period by period; up to `few` in one could be shown each.

    All services of the chain that a request passes have a line of it, so the one with the most has seen them all,
    wherever they came in. Of a mixture of what is refused at the front and what comes in behind it, that is the
    larger part. So it is with the services beside the chain. Counts are kept from period to period: services write
    at different times.
    """

    def __init__(self, began: float, few: int) -> None:
        self.began = began
        self._few = few
        self._requests: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._told = self._told_failed = 0
        self._traces: set[str] = set()

    def add_records(self, records: Iterable[Record]) -> None:
        for record in records:
            self._requests[record.service] += 1
            self._failed[record.service] += record.status >= HTTPStatus.BAD_REQUEST

    def add(self, chunk: Chunk) -> None:
        # nothing else can hold this: in a JSON string a quote has a backslash before it
        request = f'"service":"{chunk.service}","event":"request"'.encode()
        count = chunk.data.count(request)
        self._requests[chunk.service] += count
        # the level is info where the status is below 400
        self._failed[chunk.service] += count - chunk.data.count(b'"level":"info",' + request)
        if _most(self._requests) - self._told <= self._few:
            self._traces.update(trace.decode() for trace in _TRACE.findall(chunk.data))

    def end_period(self, now: float) -> Period:
        """Return what came since the last one ended."""
        requests, failed = _most(self._requests), _most(self._failed)
        came, few = requests - self._told, requests - self._told <= self._few
        period = Period(came, failed - self._told_failed, few, frozenset(self._traces))
        self.began, self._told, self._told_failed, self._traces = now, requests, failed, set()
        return period


def _most(counts: Mapping[str, int]) -> int:
    beside = (count for service, count in counts.items() if service not in plan.CHAIN)
    return max(counts.get(service, 0) for service in plan.CHAIN) + max(beside, default=0)
