"""Commits the reports of all lanes to the database, in one batch after another."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from chassis.batching import Batcher, FutureItem, Items
from chassis.errors import UnavailableError, cause_of
from integrations.delivery.circuit_breaker import CircuitBreaker
from integrations.delivery.queue import LEASE_SECONDS, LaneQueue, LaneReport, LaneStatus

MAX_REPORTS: Final = 512
LINGER_SECONDS: Final = 0.01
"""A report waits up to this time for other reports, unless its lane is waiting for the commit.

A separate commit for each report would make the lane slower.
"""
RETRY_SECONDS: Final = 0.25


class LaneReporter:
    """Collects reports into batches. If the database is away, it retries a batch for LEASE_SECONDS."""

    def __init__(
        self,
        queue: LaneQueue,
        circuit_breaker: CircuitBreaker,
        log_error: Callable[..., object],
        max_waiting: int,
    ) -> None:
        self._queue = queue
        self._circuit_breaker = circuit_breaker
        self._log_error = log_error
        self._logged_cause = ""
        self._is_closing = False
        self._batcher: Batcher[LaneReport, LaneStatus] = Batcher(
            self._commit,
            window=1,
            max_items=MAX_REPORTS,
            max_in_flight=1,
            max_waiting=max_waiting,
            linger_seconds=LINGER_SECONDS,
        )

    def add(self, report: LaneReport, *, may_linger: bool) -> "asyncio.Future[LaneStatus]":
        item: FutureItem[LaneReport, LaneStatus] = FutureItem(report)
        self._batcher.add(item, may_linger=may_linger)
        return item.result

    async def _commit(self, items: Items[LaneReport, LaneStatus], _release: Callable[[], None]) -> None:
        until = time.monotonic() + LEASE_SECONDS
        reports = [item.value for item in items]
        while True:
            try:
                statuses = await self._queue.report(reports)
            except UnavailableError as error:
                if self._is_closing or time.monotonic() >= until:
                    raise
                self.log_fault("the results of deliveries cannot be stored yet", error)
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        self._logged_cause = ""
        self._circuit_breaker.record(zip(reports, statuses, strict=True))
        for item, status in zip(items, statuses, strict=True):
            item.settle(status)

    def log_fault(self, event: str, error: BaseException) -> None:
        """Log a fault of the database once, even if many lanes meet the same fault."""
        cause = cause_of(error)
        if cause != self._logged_cause:
            self._logged_cause = cause
            self._log_error(event, cause=cause)

    def stop_retrying(self) -> None:
        self._is_closing = True

    async def close(self) -> None:
        await self._batcher.close()
