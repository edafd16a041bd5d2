"""Prometheus metrics of deliveries."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from integrations.delivery.queue import QueuedEvent
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.webhook.webhook_response import WebhookResponse

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class DeliveryMetrics:
    """Metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lanes = Gauge(
            "lanes_in_progress", "Lanes whose events this process is sending", registry=registry
        )
        self._attempts = Counter("attempts", "Attempts to deliver an event", ["outcome"], registry=registry)
        self._seconds = Histogram(
            "attempt_seconds", "Duration of an attempt", buckets=_BUCKETS, registry=registry
        )
        self._lag = Histogram(
            "first_attempt_lag_seconds",
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
