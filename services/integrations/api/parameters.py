"""Read and check path and query parameters of the JSON API and the user's page."""

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from aiohttp import web

from chassis.errors import Fault, InvalidQueryParameterError, NotFoundError
from chassis.patterns import is_uuid
from integrations.api.replies import EVENT_STATES, STATES
from integrations.api.schemas import MAX_EMAIL_CHARACTERS, REPLAYED_STATES, STRATEGY_ID, time_of
from integrations.events import EventType
from integrations.operations import DeliveryQuery
from integrations.operator_operations import (
    FAILED_STATES,
    DeliveryFilter,
    FailedQuery,
    IntegrationQuery,
    Place,
)

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 50
WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}\Z")
PLACE: Final = re.compile(r"([0-9]{1,16})\.([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\Z")
"""A `Place` as text: microseconds since 1970, and the id."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def integration_id(request: web.Request) -> UUID:
    """Return the integration's id from the path. Raises NotFoundError if the text is not an id."""
    return _uuid(request.match_info["id"], "There is no such integration.")


def event_id(request: web.Request) -> UUID:
    """Raises NotFoundError."""
    return _uuid(request.match_info["eventId"], "There is no such event.")


def strategy_id(request: web.Request) -> str:
    """Raises NotFoundError."""
    id_ = request.match_info["strategyId"]
    if not STRATEGY_ID.match(id_):
        raise NotFoundError("A strategy's id is 1 to 128 of A-Z, a-z, 0-9, '.', '_', ':' and '-'.")
    return id_


def _uuid(text: str, message: str) -> UUID:
    if not is_uuid(text):
        raise NotFoundError(message)
    return UUID(text)


def delivery_query(query: dict[str, str]) -> DeliveryQuery:
    """Raises InvalidQueryParameterError."""
    return DeliveryQuery(
        _one_of(query, "state", EVENT_STATES),
        _one_of(query, "type", tuple(EventType)),
        query.get("strategyId"),
        _event_of(query, "before"),
        _event_of(query, "event"),
        limit_of(query),
    )


def integration_query(query: dict[str, str]) -> IntegrationQuery:
    """Return the filter for integrations. Raises InvalidQueryParameterError."""
    email = query.get("userEmail")
    if email is not None and not 1 <= len(email) <= MAX_EMAIL_CHARACTERS:
        raise _query_fault("userEmail", f"must have 1 to {MAX_EMAIL_CHARACTERS} characters", email)
    return IntegrationQuery(_one_of(query, "state", STATES), email, _place_of(query), limit_of(query))


def delivery_filter(query: dict[str, str]) -> DeliveryFilter:
    """Return the filter for the events of an integration. Raises InvalidQueryParameterError."""
    return DeliveryFilter(
        _one_of(query, "state", EVENT_STATES),
        _one_of(query, "type", tuple(EventType)),
        query.get("strategyId"),
        _time_of(query, "since"),
        _place_of(query),
        limit_of(query),
    )


def failed_query(query: dict[str, str]) -> FailedQuery:
    """Return the failed events that the query selects. Raises InvalidQueryParameterError."""
    since = _time_of(query, "since")
    if since is None:
        raise _query_fault("since", "is missing", "")
    return failed_events(since, _time_of(query, "until"), _one_of(query, "state", REPLAYED_STATES))


def failed_events(since: datetime, until: datetime | None, state: str | None) -> FailedQuery:
    return FailedQuery(since, until, FAILED_STATES if state is None else (state,))


def text_of(place: Place | None) -> str | None:
    """Return a place as the text that the query parameter `after` takes."""
    return None if place is None else f"{(place.at - _EPOCH) // _MICROSECOND}.{place.id}"


def _place_of(query: dict[str, str]) -> Place | None:
    text = query.get("after")
    if text is None:
        return None
    found = PLACE.match(text)
    if found is None:
        raise _query_fault("after", "must be `next` of the previous page", text)
    return Place(_EPOCH + int(found[1]) * _MICROSECOND, UUID(found[2]))


def _time_of(query: dict[str, str], name: str) -> datetime | None:
    text = query.get(name)
    if text is None:
        return None
    found = time_of(text)
    if found is None:
        raise _query_fault(name, "must be a time such as 2026-01-31T20:00:00Z", text)
    return found


def _one_of(query: dict[str, str], name: str, known: Collection[str]) -> str | None:
    text = query.get(name)
    if text is not None and text not in known:
        raise _query_fault(name, f"must be one of {', '.join(known)}", text)
    return text


def _event_of(query: dict[str, str], name: str) -> UUID | None:
    text = query.get(name)
    if text is not None and not is_uuid(text):
        raise _query_fault(name, "must be an eventId", text)
    return None if text is None else UUID(text)


def limit_of(query: dict[str, str]) -> int:
    """Raises InvalidQueryParameterError."""
    limit = number_of(query, "limit")
    if limit is None:
        return DEFAULT_LIMIT
    if not 1 <= limit <= MAX_LIMIT:
        raise _query_fault("limit", f"must be from 1 to {MAX_LIMIT}", str(limit))
    return limit


def number_of(query: dict[str, str], name: str) -> int | None:
    """Raises InvalidQueryParameterError."""
    text = query.get(name)
    if text is not None and not WHOLE_NUMBER.match(text):
        raise _query_fault(name, "must be a whole number", text)
    return None if text is None else int(text)


def _query_fault(name: str, message: str, value: str) -> InvalidQueryParameterError:
    return InvalidQueryParameterError(faults=[Fault(name, message, value)])
