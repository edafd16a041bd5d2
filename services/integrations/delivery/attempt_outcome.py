"""Decide what follows from an attempt: the event's state, the time of a retry, and a notification. Pure: no I/O."""

from functools import partial
from uuid import UUID

from integrations import notification_texts
from integrations.delivery.queue import AttemptResult, ClaimedLane, QueuedEvent
from integrations.delivery.retry_policy import retry_delay
from integrations.events import IntegrationData
from integrations.notifications import Notification
from integrations.webhook.webhook_response import GENERIC, AttemptOutcome, WebhookResponse


def after_attempt(
    lane: ClaimedLane,
    queued: QueuedEvent,
    integration: IntegrationData,
    response: WebhookResponse,
    *,
    at: str,
    seconds: float,
    excerpt: dict[str, object] | None = None,
) -> AttemptResult:
    """Return the result of an attempt that took `seconds`.

    `at` is its wall-clock time, and `excerpt` the part of the response, for the attempt log.
    """
    age = queued.age_seconds
    since_first = (queued.since_first_seconds or 0.0) + (age if queued.attempts else seconds)
    delay = None
    state = str(response.outcome)
    if response.outcome is AttemptOutcome.RETRY:
        life_left = queued.lifetime_seconds - age
        delay = retry_delay(queued.event.type, since_first, response.retry_after_seconds, life_left)
        state = "EXPIRED" if delay is None else "WAITING"
    log: dict[str, object] = {
        "at": at,
        "status": response.status,
        "outcome": str(response.outcome),
        "errorType": response.error_type,
        "cause": response.cause,
        "durationMs": round(seconds * 1000),
    }
    if excerpt is not None:
        log["response"] = excerpt
    kind = _notification_kind(queued, response)
    notification = (
        None if kind is None else partial(_notification, lane, queued, integration, kind, response.status)
    )
    return AttemptResult(
        queued,
        state,
        log,
        seconds,
        delay,
        notification,
        is_healthy=response.is_healthy,
        is_gone=response.is_gone,
    )


def _notification_kind(queued: QueuedEvent, response: WebhookResponse) -> str | None:
    """Return the kind of notification for the user; None for no notification.

    The user is notified of an event's first failure, and of a success after a failure.
    """
    if response.outcome is AttemptOutcome.DELIVERED:
        return notification_texts.RECOVERED if queued.is_user_notified else None
    if queued.is_user_notified:
        return None
    return notification_texts.NO_ANSWER if response.status is None else response.error_type or GENERIC


def expired(lane: ClaimedLane, queued: QueuedEvent, integration: IntegrationData) -> AttemptResult:
    """Return the result for an event that expired before it could be sent."""
    kind = notification_texts.EXPIRED
    notification = (
        None if queued.is_user_notified else partial(_notification, lane, queued, integration, kind, None)
    )
    return AttemptResult(queued, "EXPIRED", None, notification=notification)


def _notification(
    lane: ClaimedLane,
    queued: QueuedEvent,
    integration: IntegrationData,
    kind: str,
    status: int | None,
    state: str,
) -> Notification:
    text = notification_texts.about_event(kind, queued.event, integration, status=status, state=state)
    return Notification(lane.integration_id, UUID(queued.event.id), kind, text)
