"""Claims lanes while this process has room for more, and runs a worker for each claimed lane."""

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from chassis.errors import QuotingError
from chassis.logs import Logs
from chassis.spans import Tracer
from integrations.delivery.circuit_breaker import CircuitBreaker
from integrations.delivery.endpoint_cache import EndpointCache
from integrations.delivery.lane_reporter import LaneReporter
from integrations.delivery.lane_worker import MAX_UNCOMMITTED, LaneContext, LaneWorker
from integrations.delivery.metrics import DeliveryMetrics
from integrations.delivery.queue import LEASE_SECONDS, ClaimedLane, LaneContents, LaneQueue
from integrations.webhook.client import WebhookClient

POLL_SECONDS: Final = 1.0
MAX_CLAIMED: Final = 64
MAX_PER_INTEGRATION: Final = 64
MIGRATION_POLL_SECONDS: Final = 0.05
CLOSE_SECONDS: Final = 1.5
CLOSE_CLAIM_SECONDS: Final = 0.5
"""Seconds that a claim in progress gets when the process stops. A cancelled claim can leave lanes without a worker."""


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """A moment before lanes were claimed and read: its monotonic time, and the count of `invalidate` calls."""

    at: float
    invalidations: int


class Dispatcher:
    """Claims lanes and runs their workers."""

    def __init__(
        self,
        queue: LaneQueue,
        client: WebhookClient,
        endpoints: EndpointCache,
        circuit_breaker: CircuitBreaker,
        logs: Logs,
        metrics: DeliveryMetrics,
        max_lanes: int,
        tracer: Tracer | None = None,
    ) -> None:
        self.queue = queue
        self.endpoints = endpoints
        self._reserved = 0  # for lanes that are claimed elsewhere and then passed to start_lanes
        self._logs = logs
        self._max_lanes = max_lanes
        self._circuit_breaker = circuit_breaker
        max_waiting = max(max_lanes, 1) * MAX_UNCOMMITTED
        self._reporter = LaneReporter(queue, circuit_breaker, logs.error, max_waiting)
        self._context = LaneContext(client, endpoints, self._reporter, metrics, logs, self._wake_in, tracer)
        self._workers: dict[int, LaneWorker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._invalidations = 0
        self._woken = asyncio.Event()
        self._claiming: asyncio.Task[None] | None = None
        self._is_full = False
        metrics.lanes.set_function(lambda: len(self._workers))

    @property
    def has_room(self) -> bool:
        """Whether this process has room for another lane, so that it can start new work at once."""
        return not self._context.is_closing and self._room > 0

    @property
    def _room(self) -> int:
        return self._max_lanes - len(self._workers) - self._reserved

    def reserve_room(self, lanes: Sequence[tuple[int, UUID]]) -> list[int]:
        """Reserve room for lanes, and return the ids of the lanes for which there is room and which may be claimed.

        `lanes` has pairs of ids: the lane's and its integration's.
        """
        self._reserved = 0
        in_progress = self._lanes_by_integration()
        found: list[int] = []
        for lane, integration in lanes:
            if not self.has_room:
                break
            if in_progress[integration] < MAX_PER_INTEGRATION:
                in_progress[integration] += 1
                self._reserved += 1
                found.append(lane)
        return found

    def release_room(self) -> None:
        """End the reservation of `reserve_room`, after its lanes were started or not claimed."""
        self._reserved = 0

    def open(self) -> None:
        if self._max_lanes:
            self._claiming = asyncio.create_task(self._claim_for_ever())
            self._claiming.add_done_callback(self._task_ended)

    async def close(self) -> None:
        """Stop claiming lanes, wait CLOSE_SECONDS for attempts in flight, and release their lanes.

        If an attempt does not end in time, its lane stays claimed until its lease ends.
        """
        self._context.is_closing = True
        self._reporter.stop_retrying()
        if self._claiming is not None:
            self.wake()
            await asyncio.wait([self._claiming], timeout=CLOSE_CLAIM_SECONDS)
            self._claiming.cancel()
        for timer in self._timers.values():
            timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._reporter.close()
        await self._circuit_breaker.close()

    async def missing(self) -> list[str]:
        """Return the reason why this process cannot deliver, for the readiness check; empty if it can."""
        has_failed = self._claiming is not None and self._claiming.done() and not self._context.is_closing
        return ["deliveries: the dispatcher has failed; restart the service"] if has_failed else []

    def wake(self) -> None:
        """Claim lanes now, because new work was committed."""
        self._woken.set()

    def invalidate(self, integration_id: UUID | None = None) -> None:
        """Make workers read their waiting events again, after a change of these events was committed.

        This concerns the lanes of one integration, or all lanes if there is no `integration_id`.
        """
        self._invalidations += 1
        for worker in self._workers.values():
            if integration_id is None or worker.lane.integration_id == integration_id:
                worker.invalidate()

    async def _claim_for_ever(self) -> None:
        while not self._context.is_closing and await self.queue.missing():
            await asyncio.sleep(MIGRATION_POLL_SECONDS)
        has_taken_over = False
        while not self._context.is_closing:
            try:
                if not has_taken_over:
                    await self._take_over_from_dead_processes()
                    has_taken_over = True
                await self._claim()
            except (QuotingError, asyncpg.PostgresError) as error:
                self._reporter.log_fault("lanes cannot be claimed", error)
            # polling finds work whose notification was lost
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _take_over_from_dead_processes(self) -> None:
        lanes = await self.queue.release_lanes_of_dead_processes()
        if lanes:
            self._logs.info("lanes of a process that no longer exists were released", lanes=lanes)

    async def _claim(self) -> None:
        """Claim lanes until no lane has work or this process has no more room."""
        while not self._context.is_closing and (room := self._room) > 0:
            before = self.read_point()
            full = [
                each for each, count in self._lanes_by_integration().items() if count >= MAX_PER_INTEGRATION
            ]
            self._is_full = bool(full)
            max_lanes = min(room, MAX_CLAIMED)
            claimed = await self.queue.claim(max_lanes, full)
            if claimed:
                contents = await self.queue.read([(each.id, each.done) for each in claimed])
                await self.start_lanes(claimed, contents, before)
            if len(claimed) < max_lanes:
                return
        self._is_full = True

    def _lanes_by_integration(self) -> Counter[UUID]:
        return Counter(worker.lane.integration_id for worker in self._workers.values())

    def read_point(self) -> ReadPoint:
        return ReadPoint(time.monotonic(), self._invalidations)

    async def start_lanes(
        self, claimed: Sequence[ClaimedLane], contents: Mapping[int, LaneContents], before: ReadPoint
    ) -> None:
        """Start a worker for each lane. The lanes were claimed and read after the moment `before`.

        Starts none for a lane whose integration has been deleted, or whose secrets cannot be decrypted.
        """
        revisions = {
            each.integration_id: contents[each.id].revision for each in claimed if each.id in contents
        }
        endpoints = await self.endpoints.get(revisions)
        lease_until = before.at + LEASE_SECONDS
        # counts the invalidations of all integrations, because it is not stored which one was changed
        invalidations = self._invalidations - before.invalidations
        for lane in claimed:
            endpoint = endpoints.get(lane.integration_id)
            if endpoint is not None and lane.id in contents:
                self._start(
                    LaneWorker(lane, endpoint, contents[lane.id], lease_until, invalidations, self._context)
                )

    def _start(self, worker: LaneWorker) -> None:
        timer = self._timers.pop(worker.lane.id, None)
        if timer is not None:
            timer.cancel()
        self._workers[worker.lane.id] = worker
        task = asyncio.create_task(self._run(worker))
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)

    async def _run(self, worker: LaneWorker) -> None:
        try:
            await worker.run()
        finally:
            if self._workers.get(worker.lane.id) is worker:
                del self._workers[worker.lane.id]
            if self._is_full:
                self.wake()

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            cause = "".join(traceback.format_exception(error))
            self._logs.error("a delivery task has failed", cause=cause)

    def _wake_in(self, lane_id: int, seconds: float) -> None:
        def wake() -> None:
            self._timers.pop(lane_id, None)
            self.wake()

        before = self._timers.pop(lane_id, None)
        if before is not None:
            before.cancel()
        if not self._context.is_closing:
            self._timers[lane_id] = asyncio.get_running_loop().call_later(seconds, wake)
