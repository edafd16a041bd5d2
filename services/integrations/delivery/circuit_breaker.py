"""How integrations fare: many failures in a row over some time, or a webhook that is gone, pause them."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.database import Connection, Database
from integrations.delivery.batches import Batches
from integrations.delivery.outbox import disable
from integrations.delivery.queue import LaneReport, LaneStatus
from integrations.notification_texts import Notification, paused, tell

MAX_FAILURES: Final = 20
FAILING_SECONDS: Final = 600.0
MAX_BEATS: Final = 1_000

LOCK: Final = "SELECT FROM integration WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"

# rows come with all failures in a row; `is_reset` where something else came before them
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

PAUSE: Final = "UPDATE integration SET state = 'PAUSED', changed = clock_timestamp() WHERE id = $1"


@dataclass(slots=True)
class FailureStreak:
    """What came of an integration's attempts, in a row: failures at the end, and whether there was an answer."""

    failures: int = 0
    is_reset: bool = False
    is_gone: bool = False


@dataclass(frozen=True, slots=True)
class AttemptHealth:
    integration_id: UUID
    is_healthy: bool
    is_gone: bool


class CircuitBreaker:
    """Counts failures beside the deliveries: a count that is lost with a process is no harm."""

    def __init__(
        self, database: Database, on_fault: Callable[..., object], on_pause: Callable[[UUID], object]
    ) -> None:
        self._database = database
        self._on_fault = on_fault
        self._on_pause = on_pause
        self._beats: Batches[AttemptHealth, None] = Batches(self._count, MAX_BEATS)

    def note(self, news: Iterable[tuple[LaneReport, LaneStatus]]) -> None:
        """Takes in what was reported; success is of interest only after a failure."""
        for report, held in news:
            attempt = report.attempt
            if (
                attempt is not None
                and attempt.log is not None
                and (held.is_failing or not attempt.is_healthy)
            ):
                beat = AttemptHealth(report.lane.integration_id, attempt.is_healthy, attempt.is_gone)
                self._beats.add(beat).add_done_callback(self._counted)

    def _counted(self, done: "asyncio.Future[None]") -> None:
        if not done.cancelled() and (error := done.exception()) is not None:
            self._on_fault("failures are not counted", cause=str(getattr(error, "cause", None) or error))

    async def _count(self, beats: Sequence[AttemptHealth]) -> Sequence[None]:
        runs: dict[UUID, FailureStreak] = {}
        for beat in beats:
            run = runs.setdefault(beat.integration_id, FailureStreak())
            if beat.is_healthy:
                run.failures, run.is_reset = 0, True
            else:
                run.failures += 1
                run.is_gone = run.is_gone or beat.is_gone

        async def work(connection: Connection) -> list[UUID]:
            return await _write(connection, runs)

        for each in await self._database.transaction(work):
            self._on_pause(each)
        return [None] * len(beats)


async def _write(connection: Connection, runs: dict[UUID, FailureStreak]) -> list[UUID]:
    """The integrations that are paused by this."""
    ids = sorted(runs)
    await connection.execute(LOCK, ids)
    rows = await connection.fetch(
        COUNT,
        ids,
        [runs[each].is_reset for each in ids],
        [runs[each].failures for each in ids],
        [runs[each].is_gone for each in ids],
        MAX_FAILURES,
        FAILING_SECONDS,
    )
    over = [row for row in rows if row["is_over"]]
    for row in over:
        await connection.execute(PAUSE, row["id"])
        await disable(connection, row["id"])
    if over:
        await tell(
            connection,
            [
                Notification(
                    row["id"], None, "Paused", paused(row["name"], row["description"], is_gone=row["is_gone"])
                )
                for row in over
            ],
        )
    return [row["id"] for row in over]
