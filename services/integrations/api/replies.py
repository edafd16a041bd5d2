"""Bodies of the API's responses, as marshmallow schemas."""

from typing import Final

from marshmallow import fields, validate

from chassis.openapi import Reply
from integrations.events import EventType
from integrations.webhook.webhook_response import AttemptOutcome

STATES: Final = ("PENDING", "APPROVED", "REJECTED", "PAUSED", "DELETED")
EVENT_STATES: Final = ("WAITING", "DELIVERED", "REFUSED", "FAILED", "EXPIRED", "CANCELLED")
_SECRET: Final = {
    "description": "The secret that signs the events. No other response shows it.",
    "format": "password",
}


class WebhookReply(Reply):
    """The webhook without the values of its headers."""

    url = fields.String(required=True)
    headerNames = fields.List(fields.String(), required=True)  # noqa: N815 - the names in JSON


class CreatedIntegrationReply(Reply):
    """A request that waits for the user."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.Equal("PENDING"))
    name = fields.String(required=True)
    description = fields.String(required=True)
    imageUrl = fields.String(required=True)  # noqa: N815
    userEmail = fields.String(required=True)  # noqa: N815
    webhook = fields.Nested(WebhookReply, required=True)
    signingSecret = fields.String(required=True, metadata=_SECRET)  # noqa: N815


class IntegrationReply(Reply):
    """A user's integration."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATES))
    name = fields.String(required=True)
    description = fields.String(required=True)
    imageUrl = fields.String(required=True)  # noqa: N815
    webhook = fields.Nested(WebhookReply, required=True)
    created = fields.AwareDateTime(required=True)
    strategies = fields.List(
        fields.String(), required=True, metadata={"description": "Those that it is enabled for."}
    )


class IntegrationList(Reply):
    """The user's integrations, newest first; rejected and deleted ones last."""

    integrations = fields.List(fields.Nested(IntegrationReply), required=True)


class SigningSecretReply(Reply):
    """A new signing secret."""

    signingSecret = fields.String(required=True, metadata=_SECRET)  # noqa: N815


class StrategyReply(Reply):
    """A strategy as its engine stored it."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    userEmail = fields.String(required=True)  # noqa: N815


class UserStrategyReply(Reply):
    """A strategy of the user."""

    id = fields.String(required=True)
    name = fields.String(required=True)
    integrations = fields.List(
        fields.UUID(), required=True, metadata={"description": "Those that get its signals."}
    )


class StrategyList(Reply):
    """The user's strategies."""

    strategies = fields.List(fields.Nested(UserStrategyReply), required=True)


class SignalReply(Reply):
    """A signal that was taken."""

    events = fields.Integer(required=True, metadata={"description": "How many integrations get it."})


class SwitchReply(Reply):
    """Whether an integration gets a strategy's signals."""

    strategyId = fields.String(required=True)  # noqa: N815
    integrationId = fields.UUID(required=True)  # noqa: N815
    enabled = fields.Boolean(required=True)


class AttemptReply(Reply):
    """One attempt to deliver an event."""

    at = fields.AwareDateTime(required=True)
    status = fields.Integer(
        required=True, allow_none=True, metadata={"description": "Null: there was no response."}
    )
    outcome = fields.String(required=True, validate=validate.OneOf([str(each) for each in AttemptOutcome]))
    errorType = fields.String(required=True, allow_none=True)  # noqa: N815
    cause = fields.String(required=True, allow_none=True)
    durationMs = fields.Integer(required=True)  # noqa: N815


class HeaderReply(Reply):
    """A header of a request or a response."""

    name = fields.String(required=True)
    value = fields.String(required=True, allow_none=True)


class RecordedResponseReply(Reply):
    """The part of a response that is stored."""

    headers = fields.List(fields.Nested(HeaderReply), required=True)
    body = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Null: it was too long or could not be read; `cause` says which."},
    )
    isCut = fields.Boolean(  # noqa: N815
        required=True, metadata={"description": "Whether headers or body were longer than what is stored."}
    )


class RecordedAttemptReply(AttemptReply):
    """One attempt to deliver an event, with the webhook's response."""

    response = fields.Nested(
        RecordedResponseReply,
        required=True,
        allow_none=True,
        metadata={"description": "Null: there was none, or it was a success without a body."},
    )


class RequestReply(Reply):
    """The latest request, or the one that will be sent; made again from the stored event."""

    method = fields.String(required=True)
    url = fields.String(required=True)
    headers = fields.List(
        fields.Nested(HeaderReply),
        required=True,
        metadata={"description": "The values of the partner's own headers and the signature are hidden."},
    )
    body = fields.String(
        required=True, metadata={"description": "The values of the partner's headers are hidden."}
    )


class RecordedDeliveryReply(Reply):
    """An event with its request and the responses to each attempt."""

    eventId = fields.UUID(required=True)  # noqa: N815
    integrationId = fields.UUID(required=True)  # noqa: N815
    type = fields.String(required=True, validate=validate.OneOf([str(each) for each in EventType]))
    strategyId = fields.String(required=True, allow_none=True)  # noqa: N815
    summary = fields.String(
        required=True, metadata={"description": "The signal or the strategy, for people."}
    )
    state = fields.String(required=True, validate=validate.OneOf(EVENT_STATES))
    created = fields.AwareDateTime(required=True)
    expires = fields.AwareDateTime(required=True)
    replays = fields.Integer(required=True, metadata={"description": "How often it was sent again."})
    replayFault = fields.String(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "Why it cannot be sent again; null: it can."}
    )
    request = fields.Nested(RequestReply, required=True)
    attempts = fields.List(fields.Nested(RecordedAttemptReply), required=True)


_NEXT: Final = {"description": "The `after` of the next page; null: this is the last one."}


class RecordedDeliveryList(Reply):
    """Events, newest first."""

    deliveries = fields.List(fields.Nested(RecordedDeliveryReply), required=True)
    next = fields.String(required=True, allow_none=True, metadata=_NEXT)


class LastFailureReply(AttemptReply):
    """The latest failed attempt of an integration, among its newest events."""

    eventId = fields.UUID(required=True)  # noqa: N815
    type = fields.String(required=True, validate=validate.OneOf([str(each) for each in EventType]))


class BacklogReply(Reply):
    """The events of an integration that wait."""

    waiting = fields.Integer(required=True, metadata={"description": "How many events wait."})
    lanes = fields.Integer(required=True, metadata={"description": "Lanes with waiting events."})
    lanesInProgress = fields.Integer(  # noqa: N815
        required=True, metadata={"description": "Lanes that a process is sending now."}
    )
    oldestWaiting = fields.AwareDateTime(  # noqa: N815
        required=True,
        allow_none=True,
        metadata={"description": "When the oldest waiting event was stored, or sent again."},
    )
    nextAttempt = fields.AwareDateTime(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "The time of the next retry."}
    )


class OperatorIntegrationReply(Reply):
    """An integration as operators see it."""

    id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATES))
    name = fields.String(required=True)
    description = fields.String(required=True)
    userEmail = fields.String(required=True)  # noqa: N815
    url = fields.String(
        required=True, metadata={"description": "The webhook; the values of its query are hidden."}
    )
    created = fields.AwareDateTime(required=True)
    changed = fields.AwareDateTime(required=True, metadata={"description": "When its status changed last."})
    pausedSince = fields.AwareDateTime(required=True, allow_none=True)  # noqa: N815
    pauseReason = fields.String(  # noqa: N815
        required=True,
        allow_none=True,
        validate=validate.OneOf(["GONE", "FAILURES"]),
        metadata={"description": "GONE: an untyped 410; FAILURES: too many failures in a row."},
    )
    failures = fields.Integer(required=True, metadata={"description": "Failed attempts in a row."})
    failingSince = fields.AwareDateTime(required=True, allow_none=True)  # noqa: N815
    lastFailure = fields.Nested(LastFailureReply, required=True, allow_none=True)  # noqa: N815
    backlog = fields.Nested(
        BacklogReply,
        required=True,
        allow_none=True,
        metadata={"description": "Null where it was not counted."},
    )


class LaneReply(Reply):
    """A lane: an integration's events of one strategy, or its INTEGRATION_* events."""

    strategyId = fields.String(required=True, allow_none=True)  # noqa: N815
    enabled = fields.Boolean(required=True)
    waiting = fields.Integer(required=True)
    inProgress = fields.Boolean(required=True)  # noqa: N815
    oldestWaiting = fields.AwareDateTime(required=True, allow_none=True)  # noqa: N815
    nextAttempt = fields.AwareDateTime(required=True, allow_none=True)  # noqa: N815


class OperatorIntegrationWithLanesReply(OperatorIntegrationReply):
    """An integration with its lanes."""

    lanes = fields.List(fields.Nested(LaneReply), required=True)


class OperatorIntegrationList(Reply):
    """Integrations, the one whose status changed last first."""

    integrations = fields.List(fields.Nested(OperatorIntegrationReply), required=True)
    next = fields.String(required=True, allow_none=True, metadata=_NEXT)


class BacklogOverviewReply(Reply):
    """The events that wait, and the integrations in trouble."""

    at = fields.AwareDateTime(required=True, metadata={"description": "The time of these figures."})
    waiting = fields.Integer(required=True, metadata={"description": "How many events wait."})
    lanes = fields.Integer(required=True, metadata={"description": "Lanes with waiting events."})
    oldestWaiting = fields.AwareDateTime(required=True, allow_none=True)  # noqa: N815
    paused = fields.Integer(required=True, metadata={"description": "Paused integrations."})
    failing = fields.Integer(
        required=True, metadata={"description": "Integrations whose latest attempts failed."}
    )
    isComplete = fields.Boolean(  # noqa: N815
        required=True, metadata={"description": "False: more events wait than were counted."}
    )
    integrations = fields.List(
        fields.Nested(OperatorIntegrationReply),
        required=True,
        metadata={
            "description": "Those with waiting events, the oldest event first; then those that are paused or fail."
        },
    )


class RetryReply(Reply):
    """Events that are attempted at once."""

    lanes = fields.Integer(required=True, metadata={"description": "How many lanes they are in."})


class SkippedReply(Reply):
    """Failed events that cannot be sent again."""

    reason = fields.String(required=True)
    events = fields.Integer(required=True)


class ReplayedReply(Reply):
    """The failed events that are sent again, and those that are not."""

    since = fields.AwareDateTime(
        required=True, metadata={"description": "As requested, or later: see `isComplete`."}
    )
    until = fields.AwareDateTime(required=True)
    failed = fields.Integer(required=True, metadata={"description": "How many events have failed."})
    replayed = fields.Integer(required=True, metadata={"description": "How many of them are sent again."})
    left = fields.Integer(
        required=True, metadata={"description": "How many a later call can send again, because of the limit."}
    )
    retryAfterSeconds = fields.Integer(  # noqa: N815
        required=True, allow_none=True, metadata={"description": "When to call again; null if none is left."}
    )
    skipped = fields.List(fields.Nested(SkippedReply), required=True)
    isComplete = fields.Boolean(  # noqa: N815
        required=True,
        metadata={
            "description": "False: the integration has more events, and only the newest were looked at."
        },
    )


class DeliveryReply(Reply):
    """An event and the attempts to deliver it."""

    eventId = fields.UUID(required=True)  # noqa: N815
    type = fields.String(required=True, validate=validate.OneOf([str(each) for each in EventType]))
    strategyId = fields.String(required=True, allow_none=True)  # noqa: N815
    timestamp = fields.Integer(required=True, metadata={"description": "Milliseconds since 1970."})
    data = fields.Raw(
        required=True,
        allow_none=True,
        metadata={"type": ["object"], "description": "As in the guide, under Integration Events."},
    )
    state = fields.String(required=True, validate=validate.OneOf(EVENT_STATES))
    created = fields.AwareDateTime(required=True)
    expires = fields.AwareDateTime(required=True)
    attempts = fields.List(fields.Nested(AttemptReply), required=True)


class DeliveryList(Reply):
    """Events, newest first."""

    deliveries = fields.List(fields.Nested(DeliveryReply), required=True)


class ReplayReply(Reply):
    """An event that is sent again."""

    eventId = fields.UUID(required=True)  # noqa: N815
    state = fields.String(required=True, validate=validate.Equal("WAITING"))


class NotificationReply(Reply):
    """A notification for the user."""

    id = fields.Integer(required=True)
    created = fields.AwareDateTime(required=True)
    type = fields.String(required=True)
    text = fields.String(required=True)
    integrationId = fields.UUID(required=True)  # noqa: N815
    eventId = fields.UUID(required=True, allow_none=True)  # noqa: N815


class NotificationList(Reply):
    """Notifications, newest first."""

    notifications = fields.List(fields.Nested(NotificationReply), required=True)
