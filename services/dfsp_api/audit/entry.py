"""The content of a leaf: one event of one quote, as canonical JSON. Pure: no I/O.

Canonical: the keys are ordered, there are no spaces, and times have microseconds. So the same row of the table always
gives the same bytes, and a changed row gives different bytes.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from dfsp_api.stored_quote import QuoteEvent

_TERMS: Final = ("request", "sourceAmount", "destinationAmount")

# The services store the request in canonical form. Earlier versions stored its members in another order, and "account"
# was not the first. The database orders the members of these requests. It cannot read every name with \u, but no
# service has written \u, because a request has no control characters: such a request was changed by hand, and differs
# from the leaf in any order.
# E'': the result must not depend on standard_conforming_strings.
_REQUEST: Final = r"""CASE WHEN quote.request IS NULL THEN 'null'
        WHEN quote.request::text LIKE '{"account":"%' THEN quote.request::text
        WHEN json_typeof(quote.request) = 'object'
            AND strpos(replace(quote.request::text, E'\\\\', ''), E'\\u') = 0
        THEN (
            SELECT concat('{', string_agg(concat(to_json(m.key), ':', m.value), ','
                ORDER BY convert_to(m.key, 'UTF8')), '}')
            FROM json_each(quote.request) AS m
        )
        ELSE quote.request::text END"""


def content_of(event: str) -> str:
    """Return SQL for the content of the leaf for an event of a row of the table ``quote``.

    ``event`` is SQL for a number of `QuoteEvent`. The result does not depend on the settings of the session.
    """
    names = " ".join(f"WHEN {each:d} THEN '{each.name}'" for each in QuoteEvent)
    return f"""concat('{{"caller":', to_json(quote.caller),
    ',"created":', {_time("created")},
    ',"destinationAmount":', {_text("destination_amount")},
    ',"event":"', CASE {event} {names} END, '"',
    CASE {event} WHEN {QuoteEvent.EXECUTED:d} THEN ',"executed":' || {_time("executed")} END,
    ',"expires":', {_time("expires")},
    ',"fingerprint":"', encode(quote.fingerprint, 'hex'),
    '","lifetimeMs":', coalesce(quote.lifetime_ms::text, 'null'),
    ',"operation":', to_json(quote.operation),
    CASE {event} WHEN {QuoteEvent.RELEASED:d} THEN ',"released":' || {_time("released")} END,
    ',"request":', {_REQUEST},
    ',"schedule":', {_text("schedule")},
    ',"sourceAmount":', {_text("source_amount")},
    ',"uuid":"', quote.uuid, '"}}')"""


def _text(column: str) -> str:
    return f"""coalesce('"' || quote.{column}::text || '"', 'null')"""


def _time(column: str) -> str:
    form = r"""E'\\"YYYY-MM-DD"T"HH24:MI:SS.US"Z"\\"'"""
    return f"coalesce(to_char(quote.{column} AT TIME ZONE 'UTC', {form}), 'null')"


def is_stub_of(now: str, logged: str) -> bool:
    """Whether the content that a leaf would have now lacks only the terms that retention removes from the table."""
    table = orjson.loads(now)
    removed = dict.fromkeys(_TERMS)
    return table["request"] is None and {**table, **removed} == {**orjson.loads(logged), **removed}


def is_event_of(content: str, uuid: str, event: str) -> bool:
    """Whether the content of a leaf, which may be any text, is this event of this quote."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and (found.get("uuid"), found.get("event")) == (uuid, event)


def differences(logged: str, other: str) -> list[str]:
    """Return the names of the members in which two contents differ."""
    one, two = _flat(orjson.loads(logged)), _flat(orjson.loads(other))
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    request = content.get("request")
    inner = {f"request.{name}": value for name, value in request.items()} if isinstance(request, dict) else {}
    return {**{name: value for name, value in content.items() if name != "request" or not inner}, **inner}
