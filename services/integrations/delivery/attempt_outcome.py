"""What is to come of an attempt: try again and when, or be done, and what the user is told. Pure."""

from uuid import UUID

from integrations import notification_texts
from integrations.delivery.queue import AttemptResult, ClaimedLane, QueuedEvent
from integrations.events import IntegrationData, next_try
from integrations.notification_texts import Notification
from integrations.webhook.webhook_response import GENERIC, AttemptOutcome, WebhookResponse


def judge(
    lane: ClaimedLane,
    queued: QueuedEvent,
    to: IntegrationData,
    answer: WebhookResponse,
    *,
    at: str,
    seconds: float,
) -> AttemptResult:
    """What follows from an answer that took `seconds`; `at` is the wall clock's time, for the log."""
    age = queued.age_seconds
    since_first = (queued.since_first_seconds or 0.0) + (age if queued.tries else seconds)
    wait = _wait(queued, answer, since_first, age) if answer.meaning is AttemptOutcome.RETRY else None
    state = "EXPIRED" if answer.meaning is AttemptOutcome.RETRY else str(answer.meaning)
    log: dict[str, object] = {
        "at": at,
        "status": answer.status,
        "outcome": str(answer.meaning),
        "errorType": answer.error_type,
        "cause": answer.cause,
        "durationMs": round(seconds * 1000),
    }
    kind = _kind(queued, answer)
    return AttemptResult(
        queued,
        "WAITING" if wait is not None else state,
        log,
        seconds,
        wait,
        None if kind is None else _notice(lane, queued, to, kind),
        is_told=kind is not None,
        is_healthy=answer.is_healthy,
        is_gone=answer.is_gone,
    )


def _wait(queued: QueuedEvent, answer: WebhookResponse, since_first: float, age: float) -> float | None:
    """Seconds until the next attempt; None where none is left within the event's life."""
    due = next_try(queued.event.type, since_first)
    if due is None:
        return None
    wait = max(due - since_first, answer.retry_after_seconds or 0.0)
    return wait if wait < queued.lives_seconds - age else None


def _kind(queued: QueuedEvent, answer: WebhookResponse) -> str | None:
    """Told at the first failure, once an event, and once more if a retry then succeeds."""
    if answer.meaning is AttemptOutcome.DELIVERED:
        return "Recovered" if queued.is_told else None
    if queued.is_told:
        return None
    return "NoAnswer" if answer.status is None else answer.error_type or GENERIC


def expired(lane: ClaimedLane, queued: QueuedEvent, to: IntegrationData) -> AttemptResult:
    """An event that may not be sent any more."""
    notice = None if queued.is_told else _notice(lane, queued, to, "Expired")
    return AttemptResult(queued, "EXPIRED", None, notice=notice, is_told=notice is not None)


def _notice(lane: ClaimedLane, queued: QueuedEvent, to: IntegrationData, kind: str) -> Notification:
    text = notification_texts.text(kind, queued.event, to)
    return Notification(lane.integration_id, UUID(queued.event.id), kind, text)
