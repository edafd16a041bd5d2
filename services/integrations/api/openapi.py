"""The OpenAPI document of the API."""

from typing import Any, Final

from marshmallow import Schema

from chassis.content import JSON
from chassis.errors import (
    ForbiddenError,
    InvalidQueryParameterError,
    NotFoundError,
    TooManyRequestsError,
    UnavailableError,
)
from chassis.openapi import (
    Answer,
    DescribedOperation,
    Document,
    header_parameter,
    json_reply,
    path_parameter,
    query_parameter,
)
from chassis.patterns import pattern_of
from integrations.api import operator_openapi, replies, schemas
from integrations.api.operator_openapi import CHANGE_ERRORS, EVENT_FILTERS, EVENT_ID, ID, LIMIT, UUID

_PARTNERS, _USERS, _ENGINE = "Partners", "Users", "Strategy engine"
_ABOUT: Final = (
    "The platform of the integration guide. Partners request integrations, users approve them and enable them for"
    " strategies, and the signals of the strategies are sent to the partners' webhooks."
)
_TAGS: Final = {
    _PARTNERS: "The guide's one call, without credentials.",
    _USERS: "For users; a user's name is an e-mail address.",
    _ENGINE: "For the strategy engine's user.",
    operator_openapi.TAG: operator_openapi.ABOUT,
}
_STRATEGY_ID: Final = path_parameter(
    "strategyId",
    "The strategy's id.",
    {"type": "string", "pattern": pattern_of(schemas.STRATEGY_ID)},
    example="gold",
)
_WHOLE: Final = {"type": "integer", "minimum": 0, "maximum": 10**18 - 1}
_SAMPLE_REQUEST: Final = {
    "name": "user@example.com",
    "description": "Foo Bar FX",
    "imageUrl": "https://foo.bar/logo.png",
    "userEmail": "user@example.com",
    "webhook": {"url": "https://foo.bar/api/proquant", "headers": {"x-foo-bar-api-token": "baz"}},
}
_SAMPLE_SIGNAL: Final = {
    "signalId": "1",
    "type": "OPEN",
    "direction": "BUY",
    "ticker": "XAUUSD",
    "quantity": 10,
    "proquantPositionId": "960fe1a63d264d0f4e19a0ebf385497e",
}


def openapi(name: str) -> dict[str, Any]:
    document = Document(name, _ABOUT, _TAGS)
    mine, one = "/v1/me", "/v1/me/integrations/{id}"
    switch = f"{mine}/strategies/{{strategyId}}/integrations/{{id}}"
    for method, path, operation in (
        ("POST", "/api/integrations/v1/integrations", _request()),
        ("PUT", "/v1/strategies/{strategyId}", _put_strategy()),
        ("POST", "/v1/strategies/{strategyId}/signals", _send_signal()),
        ("GET", f"{mine}/integrations", _list("Integrations", replies.IntegrationList)),
        ("GET", f"{mine}/strategies", _list("Strategies", replies.StrategyList)),
        ("GET", f"{mine}/notifications", _notifications()),
        ("DELETE", one, _change("delete", "Delete an integration; waiting events are cancelled")),
        ("POST", f"{one}/approve", _change("approve", "Approve a pending integration")),
        ("POST", f"{one}/reject", _change("reject", "Reject a pending integration")),
        ("POST", f"{one}/resume", _change("resume", "Resume a paused integration")),
        ("POST", f"{one}/secret", _rotate_secret()),
        ("GET", f"{one}/deliveries", _deliveries()),
        ("POST", f"{one}/deliveries/{{eventId}}/replay", _replay()),
        ("PUT", switch, _switch("enable", "Send a strategy's signals to an integration")),
        ("DELETE", switch, _switch("disable", "Stop a strategy's signals to an integration")),
        *operator_openapi.operations(),
    ):
        document.add(method, path, operation)
    return document.to_dict()


def _request() -> DescribedOperation:
    return DescribedOperation(
        id="requestIntegration",
        summary="Request an integration (guide, Creating an Integration)",
        tag=_PARTNERS,
        is_open=True,
        body=schemas.NewIntegration,
        body_examples={"guide": _SAMPLE_REQUEST},
        answers={201: json_reply("The user may approve it now.", replies.CreatedIntegrationReply)},
        errors=[ForbiddenError, TooManyRequestsError, UnavailableError],
    )


def _put_strategy() -> DescribedOperation:
    return DescribedOperation(
        id="putStrategy",
        summary="Create or rename a strategy",
        tag=_ENGINE,
        parameters=[_STRATEGY_ID],
        body=schemas.NewStrategy,
        body_examples={"sample": {"name": "Gold High-Risk", "userEmail": "user@example.com"}},
        answers={200: json_reply("It is stored.", replies.StrategyReply)},
        errors=CHANGE_ERRORS,
    )


def _send_signal() -> DescribedOperation:
    return DescribedOperation(
        id="sendSignal",
        summary="Send a signal of a strategy",
        tag=_ENGINE,
        description="The same signalId again changes nothing; with another body it is a 409.",
        parameters=[_STRATEGY_ID],
        body=schemas.NewSignal,
        body_examples={"open": _SAMPLE_SIGNAL},
        answers={202: json_reply("It is stored and will be delivered.", replies.SignalReply)},
        errors=CHANGE_ERRORS,
    )


def _list(what: str, reply: type[Schema]) -> DescribedOperation:
    return DescribedOperation(
        id=f"list{what}",
        summary=f"The user's {what.lower()}",
        tag=_USERS,
        answers={200: json_reply("The list.", reply)},
        errors=[InvalidQueryParameterError, UnavailableError],
    )


def _notifications() -> DescribedOperation:
    return DescribedOperation(
        id="listNotifications",
        summary="The user's notifications, newest first, or a stream of new ones",
        tag=_USERS,
        description="With `Accept: text/event-stream` the response is a stream of server-sent events and takes no query.",
        parameters=[
            query_parameter("before", "Only notifications with a lower id.", _WHOLE),
            LIMIT,
            header_parameter(
                "Last-Event-ID",
                "Of a stream: the id of the last event that the client got.",
                {"type": "string"},
            ),
        ],
        answers={
            200: Answer(
                description="The list or the stream.",
                content={JSON: replies.NotificationList, "text/event-stream": {"type": "string"}},
            )
        },
        errors=[InvalidQueryParameterError, UnavailableError],
    )


def _change(word: str, summary: str) -> DescribedOperation:
    return DescribedOperation(
        id=f"{word}Integration",
        summary=summary,
        tag=_USERS,
        parameters=[ID],
        answers={200: json_reply("The integration as it is now.", replies.IntegrationReply)},
        errors=CHANGE_ERRORS,
    )


def _rotate_secret() -> DescribedOperation:
    return DescribedOperation(
        id="rotateSigningSecret",
        summary="Make a new signing secret",
        tag=_USERS,
        description="For a day requests are signed with both secrets.",
        parameters=[ID],
        answers={200: json_reply("The new secret.", replies.SigningSecretReply)},
        errors=CHANGE_ERRORS,
    )


def _deliveries() -> DescribedOperation:
    return DescribedOperation(
        id="listDeliveries",
        summary="An integration's events and the attempts to deliver them, newest first",
        tag=_USERS,
        parameters=[
            ID,
            *EVENT_FILTERS,
            query_parameter(
                "before", "Only older events: the eventId of the last one of the page before.", UUID
            ),
            LIMIT,
        ],
        answers={200: json_reply("A page of events.", replies.DeliveryList)},
        errors=[InvalidQueryParameterError, NotFoundError, UnavailableError],
    )


def _replay() -> DescribedOperation:
    return DescribedOperation(
        id="replayEvent",
        summary="Send an event again, with the same webhook-id",
        tag=_USERS,
        parameters=[ID, EVENT_ID],
        answers={202: json_reply("It waits to be sent.", replies.ReplayReply)},
        errors=CHANGE_ERRORS,
    )


def _switch(word: str, summary: str) -> DescribedOperation:
    return DescribedOperation(
        id=f"{word}Strategy",
        summary=summary,
        tag=_USERS,
        parameters=[_STRATEGY_ID, ID],
        answers={200: json_reply("It is so now.", replies.SwitchReply)},
        errors=CHANGE_ERRORS,
    )
