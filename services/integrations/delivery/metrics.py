"""Prometheus metrics of deliveries: attempts of this process, and the backlog of all processes (docs/metrics.md)."""

from collections.abc import Iterator
from typing import Final

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from chassis.database import Database
from integrations.delivery import queue
from integrations.delivery.queue import QueuedEvent
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.webhook.webhook_response import AttemptOutcome, WebhookResponse

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)

# a lane without a strategy has the INTEGRATION_* events; the index lane_ready has the lanes with events to send
BACKLOG: Final = f"""
SELECT count(*) FILTER (WHERE l.is_held AND l.due > clock_timestamp()) AS in_progress,
    count(*) FILTER (WHERE l.due <= clock_timestamp()) AS due,
    count(*) FILTER (WHERE NOT l.is_held AND l.due > clock_timestamp()) AS retrying,
    coalesce(sum(l.last_seq - l.done_seq), 0)::bigint AS events,
    extract(epoch FROM clock_timestamp() - min(h.queued) FILTER (WHERE l.strategy_id <> ''))::float8 AS signal,
    extract(epoch FROM clock_timestamp() - min(h.queued) FILTER (WHERE l.strategy_id = ''))::float8 AS lifecycle
FROM lane l LEFT JOIN LATERAL (
    SELECT {queue.queued_at("event")} AS queued FROM event
    WHERE lane_id = l.id AND seq > l.done_seq AND state = 'WAITING' ORDER BY seq, take LIMIT 1
) h ON true
WHERE l.last_seq > l.done_seq
"""

INTEGRATIONS: Final = """
SELECT lower(state) AS state, count(*) AS number, count(*) FILTER (WHERE failures > 0) AS failing
FROM integration GROUP BY state
"""

STATEMENTS: Final = {BACKLOG: "count_backlog", INTEGRATIONS: "count_integrations"}
STATES: Final = ("pending", "approved", "paused", "rejected", "deleted")


class DeliveryMetrics:
    """Metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lanes = Gauge(
            "webhook_lanes_in_progress", "Lanes whose events this process is sending", registry=registry
        )
        self._attempts = Counter(
            "webhook_attempts", "Attempts to deliver an event", ["outcome"], registry=registry
        )
        for outcome in AttemptOutcome:
            self._attempts.labels(str(outcome))
        self._seconds = Histogram(
            "webhook_attempt_duration_seconds", "Duration of an attempt", buckets=_BUCKETS, registry=registry
        )
        self._lag = Histogram(
            "webhook_first_attempt_lag_seconds",
            "Time from the commit of an event to the end of its first attempt",
            buckets=_BUCKETS,
            registry=registry,
        )

    def count(self, queued: QueuedEvent, response: WebhookResponse, seconds: float) -> None:
        self._attempts.labels(str(response.outcome)).inc()
        self._seconds.observe(seconds)
        if not queued.attempts:
            life_left = queued.lifetime_seconds - queued.age_seconds
            self._lag.observe(max(LIFETIME_SECONDS[queued.event.type] - life_left, 0.0))


class BacklogMetrics(Collector):
    """Figures from the database, which are the same for all processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._backlog: asyncpg.Record | None = None
        self._integrations: dict[str, asyncpg.Record] | None = None

    async def measure(self) -> None:
        """Measure for the next collection. Raises the errors of Database.fetch."""
        self._backlog = self._integrations = None
        (backlog,) = await self._database.fetch(BACKLOG)
        rows = await self._database.fetch(INTEGRATIONS)
        self._backlog, self._integrations = backlog, {row["state"]: row for row in rows}

    def collect(self) -> Iterator[Metric]:
        oldest = GaugeMetricFamily(
            "webhook_oldest_waiting_seconds", "Age of the oldest event that waits", labels=["kind"]
        )
        events = GaugeMetricFamily("webhook_events_waiting", "Events that are not finished, at most")
        lanes = GaugeMetricFamily("webhook_lanes", "Lanes that have events waiting", labels=["state"])
        integrations = GaugeMetricFamily("integrations", "Integrations by state", labels=["state"])
        failing = GaugeMetricFamily(
            "integrations_failing", "Approved integrations that failed at their last attempt"
        )
        backlog, by_state = self._backlog, self._integrations
        if backlog is not None and by_state is not None:
            for kind in ("signal", "lifecycle"):
                oldest.add_metric([kind], backlog[kind] or 0.0)
            events.add_metric([], backlog["events"])
            for state in ("in_progress", "due", "retrying"):
                lanes.add_metric([state], backlog[state])
            for state in STATES:
                integrations.add_metric([state], by_state[state]["number"] if state in by_state else 0)
            failing.add_metric([], by_state["approved"]["failing"] if "approved" in by_state else 0)
        yield from (oldest, events, lanes, integrations, failing)
