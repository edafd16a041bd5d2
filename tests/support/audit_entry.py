"""The content of a leaf as Python writes it: the reference for the SQL of `dfsp_api.audit.entry`."""

from datetime import UTC, datetime
from decimal import Decimal

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


def as_stub(quote: StoredQuote) -> StoredQuote:
    """Return the quote without the terms that retention removes."""
    return replace(quote, request=None, source_amount=None, destination_amount=None)


def _amount(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")


def _time(time: datetime | None) -> str | None:
    return (
        None
        if time is None
        else time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )
