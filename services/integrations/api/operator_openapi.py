"""The operators' calls in the OpenAPI document."""

from collections.abc import Iterator
from typing import Any, Final

from chassis.errors import (
    ConflictError,
    ForbiddenError,
    InvalidQueryParameterError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from chassis.openapi import DescribedOperation, header_parameter, json_reply, path_parameter, query_parameter
from chassis.patterns import pattern_of
from integrations.api import json_schema, replies, schemas
from integrations.api.operator_handlers import MAX_OPERATOR_CHARACTERS, OPERATOR_HEADER
from integrations.api.parameters import DEFAULT_LIMIT, MAX_LIMIT, PLACE
from integrations.events import EventType

TAG: Final = "Operators of the platform"
ABOUT: Final = "For the users in QUOTES_OPERATORS: the deliveries of all users' integrations."


def _one_of(name: str, description: str, values: tuple[str, ...]) -> dict[str, Any]:
    return query_parameter(name, description, {"type": "string", "enum": [*values]})


UUID: Final = {"type": "string", "format": "uuid"}
ID: Final = path_parameter(
    "id", "The integration's id.", UUID, example="0c2d1a44-37d4-46e5-8f4e-2a5f8e0f1b35"
)
EVENT_ID: Final = path_parameter(
    "eventId", "The event's id.", UUID, example="1f0c7a0e-9d3b-4a51-8a4b-5f3f0a1de7c8"
)
_AFTER: Final = query_parameter(
    "after", "`next` of the previous page.", {"type": "string", "pattern": pattern_of(PLACE)}
)
LIMIT: Final = query_parameter(
    "limit", "How many.", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
)
_SINCE: Final = query_parameter("since", json_schema.SINCE_TEXT, {"type": "string", "format": "date-time"})
_OPERATOR: Final = header_parameter(
    OPERATOR_HEADER,
    f"Name of the person for whom the caller does this, percent-encoded UTF-8. It is logged, cut to"
    f" {MAX_OPERATOR_CHARACTERS} characters.",
    {"type": "string"},
)
EVENT_FILTERS: Final = (
    _one_of("state", "Only events in this state.", replies.EVENT_STATES),
    _one_of("type", "Only events of this type.", tuple(str(each) for each in EventType)),
    query_parameter("strategyId", "Only events of this strategy."),
)
_READ_ERRORS: Final = (ForbiddenError, InvalidQueryParameterError, UnavailableError)
CHANGE_ERRORS: Final = (ForbiddenError, NotFoundError, ConflictError, UnavailableError)


def operations() -> Iterator[tuple[str, str, DescribedOperation]]:
    """Return method, path and description of each operation."""
    root, one = "/v1/operations", "/v1/operations/integrations/{id}"
    yield "GET", f"{root}/backlog", _backlog()
    yield "GET", f"{root}/integrations", _integrations()
    yield "GET", one, _integration()
    yield "POST", f"{one}/resume", _resume()
    yield "POST", f"{one}/retry", _retry_now()
    yield "GET", f"{one}/deliveries", _deliveries()
    yield "GET", f"{one}/deliveries/{{eventId}}", _delivery()
    yield "POST", f"{one}/deliveries/{{eventId}}/replay", _replay()
    yield "GET", f"{one}/replays", _failed()
    yield "POST", f"{one}/replays", _replay_failed()


def _backlog() -> DescribedOperation:
    return DescribedOperation(
        id="readBacklog",
        summary="How many events wait, and which integrations are paused, fail or have waiting events",
        tag=TAG,
        answers={200: json_reply("The figures.", replies.BacklogOverviewReply)},
        errors=_READ_ERRORS,
    )


def _integrations() -> DescribedOperation:
    return DescribedOperation(
        id="listAllIntegrations",
        summary="The integrations of all users, the one whose status changed last first",
        tag=TAG,
        parameters=[
            _one_of("state", "Only integrations with this status, such as PAUSED.", replies.STATES),
            query_parameter(
                "userEmail",
                "Only integrations of this user.",
                {"type": "string", "minLength": 1, "maxLength": schemas.MAX_EMAIL_CHARACTERS},
            ),
            _AFTER,
            LIMIT,
        ],
        answers={200: json_reply("A page of integrations.", replies.OperatorIntegrationList)},
        errors=_READ_ERRORS,
    )


def _integration() -> DescribedOperation:
    return DescribedOperation(
        id="readIntegration",
        summary="One integration and its lanes",
        tag=TAG,
        parameters=[ID],
        answers={200: json_reply("The integration.", replies.OperatorIntegrationWithLanesReply)},
        errors=[*_READ_ERRORS, NotFoundError],
    )


def _resume() -> DescribedOperation:
    return DescribedOperation(
        id="resumePausedIntegration",
        summary="Resume a paused integration; its strategies stay disabled until the user enables them",
        tag=TAG,
        parameters=[ID, _OPERATOR],
        answers={200: json_reply("The integration as it is now.", replies.OperatorIntegrationWithLanesReply)},
        errors=CHANGE_ERRORS,
    )


def _retry_now() -> DescribedOperation:
    return DescribedOperation(
        id="retryNow",
        summary="Attempt at once the events that wait for their next attempt",
        tag=TAG,
        description="Also if the webhook asked for a later time with Retry-After. The other attempts stay at their times.",
        parameters=[ID, _OPERATOR],
        answers={202: json_reply("They are attempted.", replies.RetryReply)},
        errors=[*CHANGE_ERRORS, TooManyRequestsError],
    )


def _deliveries() -> DescribedOperation:
    return DescribedOperation(
        id="listAllDeliveries",
        summary="An integration's events with requests and responses, newest first",
        tag=TAG,
        description="A page may have fewer events than `limit`, or none, and not be the last one: `next` decides.",
        parameters=[
            ID,
            *EVENT_FILTERS,
            _SINCE,
            _AFTER,
            LIMIT,
        ],
        answers={200: json_reply("A page of events.", replies.RecordedDeliveryList)},
        errors=[*_READ_ERRORS, NotFoundError],
    )


def _delivery() -> DescribedOperation:
    return DescribedOperation(
        id="readDelivery",
        summary="One event with its request and the response to each attempt",
        tag=TAG,
        parameters=[ID, EVENT_ID],
        answers={200: json_reply("The event.", replies.RecordedDeliveryReply)},
        errors=[*_READ_ERRORS, NotFoundError],
    )


def _replay() -> DescribedOperation:
    return DescribedOperation(
        id="replayDelivery",
        summary="Send an event again, with the same webhook-id",
        tag=TAG,
        parameters=[ID, EVENT_ID, _OPERATOR],
        answers={202: json_reply("It waits to be sent.", replies.ReplayReply)},
        errors=[*CHANGE_ERRORS, TooManyRequestsError],
    )


def _failed() -> DescribedOperation:
    return DescribedOperation(
        id="previewReplay",
        summary="How many failed events a replay of all would send again now",
        tag=TAG,
        parameters=[
            ID,
            {**_SINCE, "required": True},
            query_parameter("until", json_schema.UNTIL_TEXT, {"type": "string", "format": "date-time"}),
            _one_of("state", json_schema.REPLAYED_STATE_TEXT, schemas.REPLAYED_STATES),
        ],
        answers={200: json_reply("What the replay would do.", replies.ReplayedReply)},
        errors=[*_READ_ERRORS, NotFoundError],
    )


def _replay_failed() -> DescribedOperation:
    return DescribedOperation(
        id="replayFailed",
        summary="Send all failed events since a time again, in the order of their lanes",
        tag=TAG,
        description="Events are skipped if a later event of their lane was sent or waits. QUOTES_REPLAYS_PER_MINUTE"
        " limits the number; those beyond it are `left` for a later call.",
        parameters=[ID, _OPERATOR],
        body=schemas.NewReplay,
        body_examples={"since": {"since": "2026-01-31T20:00:00Z"}},
        answers={202: json_reply("They wait to be sent.", replies.ReplayedReply)},
        errors=[*CHANGE_ERRORS, TooManyRequestsError],
    )
