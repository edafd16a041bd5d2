"""Workers: each lane that is taken up is one coroutine that sends its events one after another.

An event goes out only while the lease outlasts the time an attempt may take by five seconds, and while the event
lives, both on the monotonic clock and counted from before the statement that said so. What came of it goes to the
database in batches; a lane need not wait for that to send its next event after a final answer, but no more than
so many are uncommitted at once: after a crash those are sent again, in order, with the same ids.
"""

import asyncio
import contextlib
import time
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from chassis.errors import QuotingError, UnavailableError
from chassis.logs import Logs, iso_time
from integrations.delivery.attempt_outcome import expired, judge
from integrations.delivery.batches import Batches
from integrations.delivery.circuit_breaker import CircuitBreaker
from integrations.delivery.endpoint_cache import EndpointCache
from integrations.delivery.metrics import DeliveryMetrics
from integrations.delivery.queue import (
    LEASE_SECONDS,
    AttemptResult,
    ClaimedLane,
    LaneContents,
    LaneQueue,
    LaneReport,
    LaneStatus,
    Place,
    QueuedEvent,
)
from integrations.webhook.client import Endpoint, WebhookClient

POLL_SECONDS: Final = 1.0
MARGIN_SECONDS: Final = 5.0
MAX_CLAIMED: Final = 64
MAX_PER_INTEGRATION: Final = 64
MAX_REPORTS: Final = 512
MAX_UNCOMMITTED: Final = 16
MAX_WAITING: Final = MAX_UNCOMMITTED // 2
WAIT_SECONDS: Final = 0.01
"""How long what is not asked for yet may wait for company: a commit each would hold up a lane by itself."""
LOW: Final = 4
START_SECONDS: Final = 0.05
AGAIN_SECONDS: Final = 0.25
CLOSE_SECONDS: Final = 1.5
CLAIM_SECONDS: Final = 0.5
"""What a claim under way gets to end by itself when the process stops."""


@dataclass(frozen=True, slots=True)
class ReadPoint:
    """What was before lanes were taken up and read: the monotonic clock, and how many alarms had been heard."""

    at: float
    heard: int


@dataclass(slots=True)
class LaneWorker:
    """A lane under way."""

    lane: ClaimedLane
    to: Endpoint
    revision: int
    changes: int
    queue: list[QueuedEvent]
    lease_until: float
    begun: Place
    is_held: bool = True
    alarms: int = 0
    """How often something that waited here may have been cancelled, and how many of these have been heeded."""
    heeded: int = 0
    uncommitted: int = 0
    drops: int = 0
    """How often the queue has been dropped: what was asked for before that comes after what is missing now."""
    is_reading: bool = False
    """Whether a report is under way that brings what else is in the lane."""
    reported: "asyncio.Future[LaneStatus] | None" = None

    @property
    def last(self) -> Place:
        return self.queue[-1].place if self.queue else self.begun


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A report, and how its lane's work stood when it was made; `began` is on the monotonic clock."""

    report: LaneReport
    alarms: int
    drops: int
    began: float


@dataclass(slots=True)
class Dispatcher:
    """Takes up lanes as there is room, and works on them."""

    lanes: LaneQueue
    sender: WebhookClient
    destinations: EndpointCache
    health: CircuitBreaker
    logs: Logs
    metrics: DeliveryMetrics
    at_once: int
    promised: int = field(default=0, init=False)
    """Lanes that are being taken up elsewhere, and come to :meth:`begin`."""
    _working: dict[int, LaneWorker] = field(default_factory=dict, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _timers: dict[int, asyncio.TimerHandle] = field(default_factory=dict, init=False)
    _heard: int = field(default=0, init=False)
    _woken: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _reports: Batches[LaneReport, LaneStatus] = field(init=False)
    _claiming: asyncio.Task[None] | None = field(default=None, init=False)
    _is_full: bool = field(default=False, init=False)
    _is_closing: bool = field(default=False, init=False)
    _said: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self._reports = Batches(self._commit, MAX_REPORTS, WAIT_SECONDS)
        self.metrics.lanes.set_function(lambda: len(self._working))

    @property
    def has_room(self) -> bool:
        """Whether work that has just been committed is taken up by this process straight away."""
        return not self._is_closing and self._room > 0

    @property
    def _room(self) -> int:
        return self.at_once - len(self._working) - self.promised

    def room_for(self, lanes: Sequence[tuple[int, UUID]]) -> list[int]:
        """Which of these lanes, each with its integration, may be taken up; the room for them is promised."""
        self.promised = 0
        under_way = self._under_way()
        found: list[int] = []
        for lane, integration in lanes:
            if not self.has_room:
                break
            if under_way[integration] < MAX_PER_INTEGRATION:
                under_way[integration] += 1
                self.promised += 1
                found.append(lane)
        return found

    def open(self) -> None:
        if self.at_once:
            self._claiming = asyncio.create_task(self._claim_for_ever())
            self._claiming.add_done_callback(self._ended)

    async def close(self) -> None:
        """Begins nothing more, lets attempts under way end for a moment, and gives their lanes back.

        The lane of an attempt that does not end in time is nobody's until its lease ends.
        """
        self._is_closing = True
        if self._claiming is not None:
            # what is being taken up at this moment would be held by nobody if this were cut off
            self.wake()
            await asyncio.wait([self._claiming], timeout=CLAIM_SECONDS)
            self._claiming.cancel()
        for timer in self._timers.values():
            timer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_SECONDS)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def missing(self) -> list[str]:
        """What keeps this process from delivering (wire.md §6)."""
        is_over = self._claiming is not None and self._claiming.done() and not self._is_closing
        return ["deliveries"] if is_over else []

    def wake(self) -> None:
        """There is work: in the database, committed."""
        self._woken.set()

    def changed(self, integration_id: UUID | None = None) -> None:
        """What waits in lanes under way has changed, and the change is committed: it must be read again."""
        self._heard += 1
        for work in self._working.values():
            if integration_id is None or work.lane.integration_id == integration_id:
                work.alarms += 1

    async def _claim_for_ever(self) -> None:
        while not self._is_closing and await self.lanes.missing():  # which the service's readiness says
            await asyncio.sleep(START_SECONDS)
        while not self._is_closing:
            try:
                await self._claim()
            except (QuotingError, asyncpg.PostgresError) as error:
                self._say("lanes cannot be taken up", error)
            # the time is the net below all wake-ups
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _claim(self) -> None:
        """Takes lanes up until there are no more, or there is no more room."""
        while not self._is_closing and (room := self._room) > 0:
            began = time.monotonic()
            full = [each for each, count in self._under_way().items() if count >= MAX_PER_INTEGRATION]
            self._is_full = bool(full)
            most = min(room, MAX_CLAIMED)
            claimed = await self.lanes.claim(most, full)
            if claimed:
                before = ReadPoint(began, self._heard)
                found = await self.lanes.read([(each.id, each.done) for each in claimed])
                await self.begin(claimed, found, before)
            if len(claimed) < most:
                return
        self._is_full = True

    def _under_way(self) -> Counter[UUID]:
        return Counter(work.lane.integration_id for work in self._working.values())

    def now(self) -> ReadPoint:
        return ReadPoint(time.monotonic(), self._heard)

    async def begin(
        self, claimed: Sequence[ClaimedLane], found: Mapping[int, LaneContents], before: ReadPoint
    ) -> None:
        """Works on lanes that have been taken up and read since then, where their integrations are still there."""
        revisions = {each.integration_id: found[each.id].revision for each in claimed if each.id in found}
        destinations = await self.destinations.of(revisions)
        for lane in claimed:
            to = destinations.get(lane.integration_id)
            if to is None or lane.id not in found:
                continue  # deleted meanwhile, or not to be decrypted, which has been logged
            read = found[lane.id]
            until = before.at + LEASE_SECONDS
            work = LaneWorker(lane, to, read.revision, read.changes, list(read.events), until, lane.done)
            work.alarms = (
                self._heard - before.heard
            )  # who knows whose they were, and what was read before them
            self._start(work)

    def _start(self, work: LaneWorker) -> None:
        timer = self._timers.pop(work.lane.id, None)
        if timer is not None:
            timer.cancel()
        self._working[work.lane.id] = work
        task = asyncio.create_task(self._work(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            cause = "".join(traceback.format_exception(error))
            self.logs.error("deliveries have failed", cause=cause)

    async def _work(self, work: LaneWorker) -> None:
        try:
            while (queued := await self._next(work)) is not None:
                await self._attempt(work, queued)
        finally:
            if self._working.get(work.lane.id) is work:
                del self._working[work.lane.id]
            if self._is_full:
                self.wake()

    async def _next(self, work: LaneWorker) -> QueuedEvent | None:
        """The event to be sent now; None where the lane is this process's no more, or has none."""
        has_asked = False
        while work.is_held:
            if self._may_go_on(work):
                return work.queue.pop(0)
            if work.reported is None or work.reported.done():
                if has_asked and not work.queue and work.alarms == work.heeded:
                    return None  # left to the next holder
                has_asked = True
                self._report(work, None)
            await self._catch_up(work)
        return None

    def _may_go_on(self, work: LaneWorker) -> bool:
        return (
            bool(work.queue)
            and not self._is_closing
            and work.alarms == work.heeded
            and work.uncommitted < MAX_UNCOMMITTED
            and work.lease_until - time.monotonic() > self.sender.timeout_seconds + MARGIN_SECONDS
        )

    async def _attempt(self, work: LaneWorker, queued: QueuedEvent) -> None:
        work.begun = queued.place
        if queued.age_seconds >= queued.lives_seconds:
            self._report(work, expired(work.lane, queued, work.to.integration))
            await self._catch_up(work)
            return
        at = iso_time(self.sender.now().timestamp())
        began = time.monotonic()
        answer = await self.sender.send(queued.event, work.to)
        seconds = time.monotonic() - began
        self.metrics.attempted(queued, answer, seconds)
        attempt = judge(work.lane, queued, work.to.integration, answer, at=at, seconds=seconds)
        self._report(work, attempt)
        if attempt.state in {"WAITING", "EXPIRED"}:
            await self._catch_up(work)

    def _report(self, work: LaneWorker, attempt: AttemptResult | None) -> None:
        if attempt is not None and attempt.state == "EXPIRED":
            work.queue.clear()  # something else may stand in its place now, before all that
            work.drops += 1
            work.is_reading = False
        is_stale = work.alarms != work.heeded
        is_low = len(work.queue) < LOW and not work.is_reading
        report = LaneReport(
            work.lane,
            attempt,
            work.begun,
            work.last,
            -1 if is_stale else work.changes,
            is_low=is_low,
            is_given_up=self._is_closing,
        )
        work.is_reading = work.is_reading or is_low
        work.uncommitted += 1
        is_final = attempt is not None and attempt.state != "WAITING"
        may_wait = is_final and not is_low and self._may_go_on(work) and work.uncommitted < MAX_WAITING
        work.reported = self._reports.add(report, may_wait=may_wait)
        asked = PendingReport(report, work.alarms, work.drops, time.monotonic())
        work.reported.add_done_callback(partial(self._apply, work, asked))

    async def _catch_up(self, work: LaneWorker) -> None:
        """Returns when all that was reported of this lane is committed and has been applied."""
        if work.reported is not None:
            await asyncio.wait([work.reported])
            await self._refresh(work)

    async def _refresh(self, work: LaneWorker) -> None:
        """The integration's newer secret, where its lane has been read since it was changed."""
        if work.is_held and work.revision != work.to.revision:
            found = await self.destinations.of({work.lane.integration_id: work.revision})
            if work.lane.integration_id not in found:
                work.is_held = False
            else:
                work.to = found[work.lane.integration_id]

    def _apply(self, work: LaneWorker, asked: PendingReport, done: "asyncio.Future[LaneStatus]") -> None:
        """Takes over what the database said: whose the lane is, until when, and what else is in it."""
        report = asked.report
        work.uncommitted -= 1
        if report.is_low:
            work.is_reading = False
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._say("lanes are left to their next holders", error)
        held = done.result() if not done.cancelled() and error is None else None
        if held is None or not held.is_held:
            work.is_held = False
            if held is not None and report.attempt is not None and report.attempt.wait_seconds is not None:
                self._wake_in(work.lane.id, report.attempt.wait_seconds)
            return
        work.lease_until = asked.began + LEASE_SECONDS
        if held.read is not None and asked.drops == work.drops:
            work.revision = held.read.revision
            if held.read.changes != report.changes:
                work.queue.clear()
                work.changes, work.heeded = held.read.changes, asked.alarms
            work.queue += [each for each in held.read.events if each.place > work.last]

    def _wake_in(self, lane_id: int, seconds: float) -> None:
        def wake() -> None:
            self._timers.pop(lane_id, None)
            self.wake()

        before = self._timers.pop(lane_id, None)
        if before is not None:
            before.cancel()
        if not self._is_closing:
            self._timers[lane_id] = asyncio.get_running_loop().call_later(seconds, wake)

    async def _commit(self, reports: Sequence[LaneReport]) -> Sequence[LaneStatus]:
        """One batch of reports, as long as a lease may last where the database is away."""
        until = time.monotonic() + LEASE_SECONDS
        while True:
            try:
                held = await self.lanes.report(reports)
            except UnavailableError as error:
                if self._is_closing or time.monotonic() >= until:
                    raise
                self._say("the database is away", error)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._said = ""
                self.health.note(zip(reports, held, strict=True))
                return held

    def _say(self, what: str, error: BaseException) -> None:
        """Logs a fault of the database once, however many lanes meet it."""
        cause = str(getattr(error, "cause", None) or error)
        if cause != self._said:
            self._said = cause
            self.logs.error(what, cause=cause)
