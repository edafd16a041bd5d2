"""Read and check path and query parameters of the JSON API and the user's page."""

import re
from typing import Final
from uuid import UUID

from aiohttp import web

from chassis.errors import Fault, InvalidQueryParameterError, NotFoundError
from chassis.queries import query_parameters
from integrations.api.replies import EVENT_STATES
from integrations.api.schemas import STRATEGY_ID
from integrations.events import EventType
from integrations.operations import DeliveryQuery

MAX_LIMIT: Final = 100
DEFAULT_LIMIT: Final = 50
WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}\Z")

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)


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
    if not _UUID.match(text):
        raise NotFoundError(message)
    return UUID(text)


def query_of(request: web.Request, *allowed: str) -> dict[str, str]:
    """Return the query parameters. Raises InvalidQueryParameterError if one is not in `allowed`."""
    return dict(query_parameters(request.rel_url.raw_query_string, frozenset(allowed)))


def delivery_query(query: dict[str, str]) -> DeliveryQuery:
    """Raises InvalidQueryParameterError."""
    for name, known in (("state", EVENT_STATES), ("type", tuple(EventType))):
        if name in query and query[name] not in known:
            raise _query_fault(name, f"must be one of {', '.join(known)}", query[name])
    return DeliveryQuery(
        query.get("state"),
        query.get("type"),
        query.get("strategyId"),
        _event_of(query, "before"),
        _event_of(query, "event"),
        limit_of(query),
    )


def _event_of(query: dict[str, str], name: str) -> UUID | None:
    text = query.get(name)
    if text is not None and not _UUID.match(text):
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
