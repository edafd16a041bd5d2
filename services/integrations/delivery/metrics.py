"""What Prometheus is told of deliveries."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from integrations.delivery.queue import QueuedEvent
from integrations.events import LIVES_SECONDS
from integrations.webhook.webhook_response import WebhookResponse

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600)


class DeliveryMetrics:
    """Counts of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lanes = Gauge("lanes_under_way", "Lanes this process works on", registry=registry)
        self._attempts = Counter("attempts", "Attempts to deliver", ["outcome"], registry=registry)
        self._took = Histogram("attempt_seconds", "Time of an attempt", buckets=_BUCKETS, registry=registry)
        self._lag = Histogram(
            "first_attempt_lag_seconds",
            "From an event's commit to the end of its first attempt",
            buckets=_BUCKETS,
            registry=registry,
        )

    def attempted(self, queued: QueuedEvent, answer: WebhookResponse, seconds: float) -> None:
        self._attempts.labels(str(answer.meaning)).inc()
        self._took.observe(seconds)
        if not queued.tries:
            left = queued.lives_seconds - queued.age_seconds
            self._lag.observe(max(LIVES_SECONDS[queued.event.type] - left, 0.0))
