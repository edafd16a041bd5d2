"""Sends the events of one lane, one after another.

A worker sends an event only before the event expires, and only if the lane's lease lasts MARGIN_SECONDS longer than an
attempt can take. It measures the event's life and the lease with the monotonic clock, and both times begin before the
statement that read the event or the lease.

After a final result, the worker sends the next event before the result is committed. At most MAX_UNCOMMITTED results
may be uncommitted; after a crash their events are sent again, in the same order and with the same ids.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiohttp import hdrs

from chassis.logs import Logs
from chassis.spans import Tracer
from integrations.delivery.attempt_outcome import after_attempt, expired
from integrations.delivery.endpoint_cache import EndpointCache
from integrations.delivery.lane_reporter import LaneReporter
from integrations.delivery.metrics import DeliveryMetrics
from integrations.delivery.queue import (
    LEASE_SECONDS,
    AttemptResult,
    ClaimedLane,
    LaneContents,
    LaneReport,
    LaneStatus,
    Position,
    QueuedEvent,
)
from integrations.timestamps import iso
from integrations.webhook.client import Endpoint, WebhookClient
from integrations.webhook.webhook_response import AttemptOutcome, WebhookResponse

MARGIN_SECONDS: Final = 5.0
MAX_UNCOMMITTED: Final = 16
MAX_LINGERING: Final = MAX_UNCOMMITTED // 2
READ_MORE_BELOW: Final = 4
_UNKNOWN: Final = -1
_SPAN_NAME: Final = f"{hdrs.METH_POST} webhook"


@dataclass(slots=True)
class LaneContext:
    """The objects that all lanes of one process share."""

    client: WebhookClient
    endpoints: EndpointCache
    reporter: LaneReporter
    metrics: DeliveryMetrics
    logs: Logs
    wake_in: Callable[[int, float], None]
    """Function that wakes the dispatcher later. Arguments: the lane's id, and the seconds until its next retry."""
    tracer: Tracer | None = None
    is_closing: bool = False


@dataclass(frozen=True, slots=True)
class PendingReport:
    """A report that is not committed yet, and the worker's counters from the time when the report was made."""

    report: LaneReport
    invalidations: int
    drops: int
    began: float


class LaneWorker:
    """One lane in progress."""

    def __init__(
        self,
        lane: ClaimedLane,
        endpoint: Endpoint,
        contents: LaneContents,
        lease_until: float,
        invalidations: int,
        context: LaneContext,
    ) -> None:
        """`lease_until` is a monotonic time.

        `invalidations`: number of Dispatcher.invalidate calls since the lane was read.
        """
        self.lane = lane
        self._endpoint = endpoint
        self._revision = contents.revision
        self._changes = contents.changes
        self._queue = list(contents.events)
        self._lease_until = lease_until
        self._context = context
        self._last_started = lane.done
        self._is_held = True
        self._invalidations = invalidations
        self._seen_invalidations = 0
        self._uncommitted = 0
        self._drops = (
            0  # times the queue was dropped: a report made before a drop would bring back dropped events
        )
        self._is_reading = False
        self._reported: asyncio.Future[LaneStatus] | None = None

    def invalidate(self) -> None:
        """Read the waiting events again before the next one is sent, because some may have been cancelled."""
        self._invalidations += 1

    async def run(self) -> None:
        """Send events until the lane is empty, or until this process no longer holds the lane."""
        while (queued := await self._next_event()) is not None:
            await self._attempt(queued)

    @property
    def _is_valid(self) -> bool:
        return self._invalidations == self._seen_invalidations

    @property
    def _last_known(self) -> Position:
        return self._queue[-1].position if self._queue else self._last_started

    @property
    def _may_send(self) -> bool:
        lease_left = self._lease_until - time.monotonic()
        return (
            bool(self._queue)
            and not self._context.is_closing
            and self._is_valid
            and self._uncommitted < MAX_UNCOMMITTED
            and lease_left > self._context.client.timeout_seconds + MARGIN_SECONDS
        )

    async def _next_event(self) -> QueuedEvent | None:
        has_read = False
        while self._is_held:
            if self._may_send:
                return self._queue.pop(0)
            if self._reported is None or self._reported.done():
                if has_read and not self._queue and self._is_valid:
                    return None
                has_read = True
                self._report(None)
            await self._wait_for_reports()
        return None

    async def _attempt(self, queued: QueuedEvent) -> None:
        context = self._context
        self._last_started = queued.position
        if queued.age_seconds >= queued.lifetime_seconds:
            self._report(expired(self.lane, queued, self._endpoint.integration))
            await self._wait_for_reports()
            return
        at = context.client.now()
        began = time.monotonic()
        response, excerpt = await context.client.send(queued.event, self._endpoint, at)
        seconds = time.monotonic() - began
        context.metrics.count(queued, response, seconds)
        self._log(queued, response, seconds)
        if context.tracer is not None and queued.trace_id:
            attributes = self._span_attributes(queued, response)
            context.tracer.end_call(queued.trace_id, _SPAN_NAME, began, attributes, response.cause)
        result = after_attempt(
            self.lane,
            queued,
            self._endpoint.integration,
            response,
            at=iso(at),
            seconds=seconds,
            excerpt=excerpt,
        )
        self._report(result)
        if result.state in {"WAITING", "EXPIRED"}:
            await self._wait_for_reports()

    def _log(self, queued: QueuedEvent, response: WebhookResponse, seconds: float) -> None:
        """Log an attempt under the trace id of its signal. All fields are this service's own, or numbers."""
        logs = self._context.logs
        (logs.info if response.is_healthy else logs.warning)(
            "delivery",
            **({"traceId": queued.trace_id} if queued.trace_id else {}),
            integration=str(self.lane.integration_id),
            strategy=self.lane.strategy_id,
            eventId=queued.event.id,
            type=queued.event.type,
            attempt=queued.attempts + 1,
            outcome=response.outcome,
            status=response.status,
            duration_ms=round(seconds * 1_000, 3),
            cause=response.cause or response.error_type,
        )

    def _span_attributes(self, queued: QueuedEvent, response: WebhookResponse) -> dict[str, str | int]:
        """Return the attributes of an attempt's span. They have the same content as the log line."""
        attributes: dict[str, str | int] = {
            "http.request.method": hdrs.METH_POST,
            "http.request.resend_count": queued.attempts,
            "integration.id": str(self.lane.integration_id),
            "integration.strategy": self.lane.strategy_id,
            "integration.event.id": str(queued.event.id),
            "integration.event.type": queued.event.type,
            "integration.outcome": response.outcome,
        }
        if response.status is not None:
            attributes["http.response.status_code"] = response.status
        if response.outcome is not AttemptOutcome.DELIVERED:
            attributes["error.type"] = response.error_type or str(response.status)
        return attributes

    def _report(self, result: AttemptResult | None) -> None:
        if result is not None and result.state == "EXPIRED":
            # a CLOSE may take the place of the expired event, before all events in the queue
            self._queue.clear()
            self._drops += 1
            self._is_reading = False
        wants_more = len(self._queue) < READ_MORE_BELOW and not self._is_reading
        report = LaneReport(
            self.lane,
            result,
            self._last_started,
            self._last_known,
            self._changes if self._is_valid else _UNKNOWN,
            wants_more=wants_more,
            is_given_up=self._context.is_closing,
        )
        self._is_reading = self._is_reading or wants_more
        self._uncommitted += 1
        is_final = result is not None and result.state != "WAITING"
        may_linger = is_final and not wants_more and self._may_send and self._uncommitted < MAX_LINGERING
        self._reported = self._context.reporter.add(report, may_linger=may_linger)
        pending = PendingReport(report, self._invalidations, self._drops, time.monotonic())
        self._reported.add_done_callback(partial(self._apply, pending))

    async def _wait_for_reports(self) -> None:
        """Wait until all reports of this lane are committed and their results are used."""
        if self._reported is not None:
            await asyncio.wait([self._reported])
            await self._refresh_endpoint()

    async def _refresh_endpoint(self) -> None:
        if self._is_held and self._revision != self._endpoint.revision:
            id_ = self.lane.integration_id
            found = await self._context.endpoints.get({id_: self._revision})
            if id_ in found:
                self._endpoint = found[id_]
            else:
                self._is_held = False

    def _apply(self, pending: PendingReport, done: "asyncio.Future[LaneStatus]") -> None:
        """Use the state of the lane after a commit: its new lease, and the events that were read with it."""
        report = pending.report
        self._uncommitted -= 1
        if report.wants_more:
            self._is_reading = False
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._context.reporter.log_fault(
                "the results of deliveries cannot be stored, so their lanes wait until the leases end", error
            )
        status = done.result() if not done.cancelled() and error is None else None
        if status is None or not status.is_held:
            self._is_held = False
            delay = None if report.result is None else report.result.retry_delay_seconds
            if status is not None and delay is not None:
                self._context.wake_in(self.lane.id, delay)
            return
        self._lease_until = pending.began + LEASE_SECONDS
        if status.contents is not None and pending.drops == self._drops:
            self._revision = status.contents.revision
            if status.contents.changes != report.changes:
                self._queue.clear()
                self._changes, self._seen_invalidations = status.contents.changes, pending.invalidations
            self._queue += [each for each in status.contents.events if each.position > self._last_known]
