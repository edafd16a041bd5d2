"""The content of a leaf: one event of one quote, as canonical JSON. Pure: no I/O.

Canonical: the keys are ordered, there are no spaces, and times have microseconds. So the same row of the table always
gives the same bytes, and a changed row gives different bytes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
from msgspec.structs import replace

from dfsp_api.stored_quote import QuoteEvent, StoredQuote


def events_of(quote: StoredQuote) -> list[QuoteEvent]:
    """Return the events of a quote, from its row in the table."""
    later = [QuoteEvent.EXECUTED] if quote.executed else [QuoteEvent.RELEASED] if quote.released else []
    return [QuoteEvent.RESERVED, *later]


def entry_of(quote: StoredQuote, event: QuoteEvent) -> str:
    """Return the content of the leaf for an event of this quote."""
    at: dict[str, str | None] = {}
    if event is QuoteEvent.EXECUTED:
        at = {"executed": _time(quote.executed)}
    elif event is QuoteEvent.RELEASED:
        at = {"released": _time(quote.released)}
    content = {
        "event": event.name,
        "uuid": str(quote.uuid),
        "caller": quote.caller,
        "operation": quote.operation,
        "fingerprint": quote.fingerprint.hex(),
        "request": quote.request,
        "sourceAmount": _amount(quote.source_amount),
        "destinationAmount": _amount(quote.destination_amount),
        "created": _time(quote.created),
        "expires": _time(quote.expires),
        "schedule": None if quote.schedule is None else str(quote.schedule),
        "lifetimeMs": quote.lifetime_ms,
        **at,
    }
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


def is_stub_of(quote: StoredQuote, content: str) -> bool:
    """Whether retention has removed terms from the row, and its other columns match the content of a leaf."""
    if quote.request is not None:
        return False
    logged = orjson.loads(content)
    terms = {"request": None, "sourceAmount": None, "destinationAmount": None}
    return bool(orjson.loads(entry_of(as_stub(quote), QuoteEvent[logged["event"]])) == {**logged, **terms})


def is_event_of(content: str, uuid: str, event: str) -> bool:
    """Whether the content of a leaf, which may be any text, is this event of this quote."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and (found.get("uuid"), found.get("event")) == (uuid, event)


def as_stub(quote: StoredQuote) -> StoredQuote:
    """Return the quote without the terms that retention removes."""
    return replace(quote, request=None, source_amount=None, destination_amount=None)


def differences(logged: str, other: str) -> list[str]:
    """Return the names of the members in which two contents differ."""
    one, two = _flat(orjson.loads(logged)), _flat(orjson.loads(other))
    return sorted(name for name in {*one, *two} if one.get(name) != two.get(name))


def _flat(content: Mapping[str, Any]) -> dict[str, Any]:
    request = content.get("request")
    inner = {f"request.{name}": value for name, value in request.items()} if isinstance(request, dict) else {}
    return {**{name: value for name, value in content.items() if name != "request" or not inner}, **inner}


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _time(time: datetime | None) -> str | None:
    return (
        None
        if time is None
        else time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )
