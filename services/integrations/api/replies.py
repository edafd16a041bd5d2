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
