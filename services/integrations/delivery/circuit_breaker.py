"""Circuit breaker: pauses an integration after many failures in a row, or if its webhook is gone (status 410)."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.batching import Batcher, FutureItem, Items
from chassis.database import Connection, Database
from chassis.errors import UnavailableError, cause_of
from integrations.delivery.outbox import disable
from integrations.delivery.queue import LaneReport, LaneStatus
from integrations.notification_texts import paused
from integrations.notifications import Notification, insert_notifications

MAX_FAILURES: Final = 20
FAILING_SECONDS: Final = 600.0
MAX_ATTEMPTS_COUNTED: Final = 1_000
GONE, FAILURES = "GONE", "FAILURES"
"""Reasons for a pause: GONE, the webhook no longer exists; FAILURES, many failures in a row."""

LOCK: Final = "SELECT FROM integration WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# each row has the number of failures after the last success of a batch; `is_reset`: the batch has a success
COUNT: Final = """
UPDATE integration AS i SET
    failures = n.failures,
    failing_since = CASE WHEN n.failures = 0 THEN NULL
        WHEN n.is_reset OR i.failing_since IS NULL THEN clock_timestamp() ELSE i.failing_since END
FROM (
    SELECT r.id, r.is_reset, r.is_gone, r.failures + CASE WHEN r.is_reset THEN 0 ELSE o.failures END AS failures
    FROM unnest($1::uuid[], $2::boolean[], $3::integer[], $4::boolean[]) AS r (id, is_reset, failures, is_gone)
    JOIN integration o ON o.id = r.id
) AS n
WHERE i.id = n.id
RETURNING i.id, i.name, i.description, n.is_gone,
    i.state = 'APPROVED' AND (n.is_gone OR (
        i.failures >= $5 AND i.failing_since <= clock_timestamp() - make_interval(secs => $6)
    )) AS is_over
"""

PAUSE: Final = """
UPDATE integration SET state = 'PAUSED', pause_reason = $2, changed = clock_timestamp() WHERE id = $1
"""


@dataclass(slots=True)
class FailureStreak:
    """Number of failed attempts after the last success in a batch. `is_reset` is True if the batch has a success."""

    failures: int = 0
    is_reset: bool = False
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class AttemptHealth:
    """Whether one attempt of an integration succeeded, and whether the webhook no longer exists (`is_gone`)."""

    integration_id: UUID
    is_healthy: bool
    is_gone: bool


class CircuitBreaker:
    """Counts failed attempts. Uses separate transactions, so that deliveries do not wait for the counting.

    Counts that are lost when the process ends do no harm.
    """

    def __init__(
        self, database: Database, on_fault: Callable[..., object], on_pause: Callable[[UUID], object]
    ) -> None:
        self._database = database
        self._on_fault = on_fault
        self._on_pause = on_pause
        self._is_closing = False
        self._attempts: Batcher[AttemptHealth, None] = Batcher(
            self._count, window=1, max_items=MAX_ATTEMPTS_COUNTED, max_in_flight=1
        )

    def record(self, news: Iterable[tuple[LaneReport, LaneStatus]]) -> None:
        """Count the attempts in these reports. A success is counted only if the integration had failures before."""
        for report, status in news:
            result = report.result
            if result is not None and result.log is not None and (status.is_failing or not result.is_healthy):
                health = AttemptHealth(report.lane.integration_id, result.is_healthy, result.is_gone)
                self._add(health)

    def _add(self, health: AttemptHealth) -> None:
        item: FutureItem[AttemptHealth, None] = FutureItem(health)
        item.result.add_done_callback(self._log_failure)
        try:
            self._attempts.add(item)
        except UnavailableError as error:
            item.fail(error)

    def _log_failure(self, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None and not self._is_closing:
            self._on_fault("failures of integrations could not be counted", cause=cause_of(error))

    async def _count(self, items: Items[AttemptHealth, None], _release: Callable[[], None]) -> None:
        streaks: dict[UUID, FailureStreak] = {}
        for health in (item.value for item in items):
            streak = streaks.setdefault(health.integration_id, FailureStreak())
            if health.is_healthy:
                streak.failures, streak.is_reset = 0, True
            else:
                streak.failures += 1
                streak.is_gone = streak.is_gone or health.is_gone

        async def work(connection: Connection) -> list[UUID]:
            return await _store(connection, streaks)

        for each in await self._database.transaction(work):
            self._on_pause(each)
        for item in items:
            item.settle(None)

    async def close(self) -> None:
        self._is_closing = True
        await self._attempts.close()


async def _store(connection: Connection, streaks: dict[UUID, FailureStreak]) -> list[UUID]:
    """Store the failure counts and pause integrations that are over the limit; return the ids of the paused ones."""
    ids = sorted(streaks)
    await connection.execute(LOCK, ids)
    rows = await connection.fetch(
        COUNT,
        ids,
        [streaks[each].is_reset for each in ids],
        [streaks[each].failures for each in ids],
        [streaks[each].is_gone for each in ids],
        MAX_FAILURES,
        FAILING_SECONDS,
    )
    over = [row for row in rows if row["is_over"]]
    for row in over:
        await connection.execute(PAUSE, row["id"], GONE if row["is_gone"] else FAILURES)
        await disable(connection, row["id"])
    if over:
        await insert_notifications(
            connection,
            [
                Notification(
                    row["id"], None, "Paused", paused(row["name"], row["description"], is_gone=row["is_gone"])
                )
                for row in over
            ],
        )
    return [row["id"] for row in over]
