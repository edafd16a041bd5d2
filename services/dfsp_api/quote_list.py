"""``GET /v1/quotes``: the parameters of a list of quotes, its reply, and its description (wire.md §9).

Pure: no clock, no database, no HTTP.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

from marshmallow import Schema, ValidationError, validate

from chassis import patterns
from chassis.errors import ForbiddenError, InvalidQueryParameterError, UnavailableError, UpstreamTimeoutError
from chassis.openapi import DescribedOperation, json_reply, query_parameter, schema_of
from chassis.schemas import Text, check_query
from chassis.users import MAX_NAME_CHARACTERS, normal
from dfsp_api.quote_filter import CURSOR, EARLIEST, LATEST, Page, Position, QuoteFilter, position_of
from dfsp_api.replies import quote_content
from quoting import json_schema, schemas
from quoting.openapi import COMMON_HEADERS, LOOK_UP_TAG, QUOTE_EXAMPLE

PATH: Final = "/v1/quotes"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_TIME: Final = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])"
    # a client that does not encode a plus sign sends a space
    r"(?:T([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]+))?)?(?:Z|([ +-])([01][0-9]|2[0-3]):([0-5][0-9])))?\Z",
    re.IGNORECASE | re.ASCII,
)
_LIMIT: Final = re.compile(r"[0-9]{1,9}\Z")
_TIME_SCHEMA: Final = {
    "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}],
    "examples": ["2026-11-21T02:18:51.099Z"],
}
_NEXT: Final = "CFsDC_KSYcpvOks-Fq9iSVzvrhwGZ4uQ"


def time_of(text: str) -> datetime:
    """Return a time of ISO 8601. A date alone is the beginning of the day in UTC. Raises ValueError.

    A time that Python cannot represent becomes the nearest one that it can.
    """
    found = _TIME.match(text)
    if found is None:
        raise ValueError("not an ISO 8601 time")
    year, month, day, hour, minute, second = (int(group or 0) for group in found.groups()[:6])
    microsecond = int((found[7] or "0")[:6].ljust(6, "0"))
    offset = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0))
    zone = timezone(-offset if found[8] == "-" else offset)
    # Python's first year is 1; 4 is a leap year, as 0 is
    local = datetime(year or 4, month, day, hour, minute, second, microsecond, zone)
    if not year:
        return EARLIEST
    try:
        return local.astimezone(UTC)
    except OverflowError:
        return EARLIEST if year == EARLIEST.year else LATEST


def _is_time(value: str) -> None:
    try:
        time_of(value)
    except ValueError:
        raise ValidationError(
            "must be an ISO 8601 time with Z or an offset, such as 2026-11-21T02:18:51.099Z, or a date"
        ) from None


def _is_limit(value: str) -> None:
    if not _LIMIT.match(value) or not 1 <= int(value) <= MAX_LIMIT:
        raise ValidationError(f"must be a whole number from 1 to {MAX_LIMIT}")


class _Parameters(Schema):
    state = Text(
        validate=validate.OneOf(schemas.STATES, error=f"must be one of {', '.join(schemas.STATES)}"),
        metadata={"description": "Only quotes in this state, by the clock of the payee's database."},
    )
    since = Text(
        validate=_is_time,
        metadata={
            "description": "Only quotes that were reserved at this time or later. A date alone is its beginning in UTC.",
            "json_schema": _TIME_SCHEMA,
        },
    )
    until = Text(
        validate=_is_time,
        metadata={
            "description": "Only quotes that were reserved before this time.",
            "json_schema": _TIME_SCHEMA,
        },
    )
    caller = Text(
        validate=validate.Length(
            1, MAX_NAME_CHARACTERS, error=f"must be 1 to {MAX_NAME_CHARACTERS} characters"
        ),
        metadata={
            "description": "Only quotes of this caller. Without it, an operator gets the quotes of all callers. Others can"
            " only name themselves."
        },
    )
    identifier = Text(
        validate=schemas.is_identifier,
        metadata={"description": "Only quotes for the recipient with this identifier."},
    )
    amount = Text(
        validate=schemas.is_amount,
        metadata={
            "description": "Only quotes of which this is the source amount or the destination amount, as a number: 12.5"
            " finds 12.50.",
            "json_schema": json_schema.ANY_AMOUNT,
        },
    )
    uuid = Text(
        validate=validate.Regexp(patterns.UUID, error="must be 8-4-4-4-12 hexadecimal digits"),
        metadata={"description": "Only the quote with this uuid."},
    )
    limit = Text(
        validate=_is_limit,
        metadata={
            "description": "Maximum number of quotes in the response.",
            "json_schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
        },
    )
    after = Text(
        validate=validate.Regexp(CURSOR, error="must be the value of next in an earlier response"),
        metadata={"description": "`next` of an earlier response: the list continues from there."},
    )


_PARAMETERS: Final = _Parameters()
NAMES: Final = frozenset(_PARAMETERS.fields)


def filter_of(query: tuple[tuple[str, str], ...]) -> QuoteFilter:
    """Return the filter of a list. Raises InvalidQueryParameterError, which lists all faults."""
    given: Mapping[str, str] = check_query(_PARAMETERS, query)
    before = Position(time_of(given["until"]) if "until" in given else LATEST, UUID(int=0))
    if "after" in given:
        before = min(before, position_of(given["after"]))
    return QuoteFilter(
        caller=normal(given["caller"]) if "caller" in given else None,
        since=time_of(given["since"]) if "since" in given else EARLIEST,
        before=before,
        state=given.get("state"),
        identifier=given.get("identifier"),
        amount=Decimal(given["amount"]) if "amount" in given else None,
        limit=int(given.get("limit", DEFAULT_LIMIT)),
        uuid=UUID(given["uuid"]) if "uuid" in given else None,
    )


def list_reply(page: Page, *, with_callers: bool) -> Mapping[str, object]:
    """Return the reply with a page of a list."""
    return {
        "quotes": [
            {**quote_content(quote), "caller": quote.caller} if with_callers else quote_content(quote)
            for quote in page.quotes
        ],
        "next": page.next.cursor if page.next is not None else None,
    }


@cache
def describe() -> DescribedOperation:
    example: Mapping[str, Any] = {"quotes": [QUOTE_EXAMPLE], "next": _NEXT}
    return DescribedOperation(
        id="listQuotes",
        summary="List quotes",
        tag=LOOK_UP_TAG,
        description="The caller's own quotes, the newest first; for an operator of the payee those of all callers. If"
        " quotes are reserved between two requests, no other quote appears twice or is left out. A response with fewer"
        " quotes than `limit`, even with none, is the last one only if `next` is null. Quotes without terms, which expired"
        " long ago and were never paid, are not listed.",
        parameters=[
            *(
                query_parameter(name, field.metadata["description"], schema_of(field))
                for name, field in _PARAMETERS.fields.items()
            ),
            *COMMON_HEADERS,
        ],
        answers={200: json_reply("A page of the list.", schemas.QuoteList, example)},
        errors=(InvalidQueryParameterError, ForbiddenError, UnavailableError, UpstreamTimeoutError),
    )
