"""Lists of quotes, as the payee's `GET /v1/quotes` gives them: the form, the query, and the rows of the page.

The module does no input or output.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from chassis.logs import iso_time
from console.fee_schedule import Explanation, explanation_of

PAGE_QUOTES: Final = 50
STATES: Final = ("RESERVED", "EXECUTED", "EXPIRED", "RELEASED")
PERIODS: Final = {"600": "10 minutes", "3600": "hour", "86400": "day", "604800": "7 days"}
"""Periods in seconds, with their names in the form."""
FILTERS: Final = ("state", "last", "since", "until", "caller", "identifier", "amount", "after")
MAX_FILTER_CHARACTERS: Final = 256

UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)


@dataclass(frozen=True)
class QuoteRow:
    """A quote as a page shows it. Times are ISO 8601 in UTC, or None."""

    uuid: str
    state: str
    operation: str
    caller: str
    source_amount: str
    destination_amount: str
    fee: str
    created: str
    expires: str
    executed: str | None
    released: str | None
    request: Mapping[str, str]
    explanation: Explanation | None

    @property
    def lifetime(self) -> float | None:
        """The time between reservation and expiry, in seconds; None if one of them is not a time."""
        created, expires = _unix(self.created), _unix(self.expires)
        return None if created is None or expires is None else expires - created

    @property
    def currency(self) -> str:
        return self.request.get("currencyCode", "")

    @property
    def changes(self) -> tuple[float, ...]:
        """Return the times at which the quote was reserved, paid and released, in Unix seconds."""
        times = map(_unix, (self.created, self.executed, self.released))
        return tuple(at for at in times if at is not None)


@dataclass(frozen=True)
class Total:
    """The sum of payments in one currency."""

    currency: str
    count: int
    amount: Decimal
    fee: Decimal


def list_query(filters: Mapping[str, str], now: float) -> dict[str, str]:
    """Return the query for the payee. The period `last` ends at `now` and takes the place of `since`."""
    given = {name: value.strip()[:MAX_FILTER_CHARACTERS] for name, value in filters.items() if value.strip()}
    last = given.pop("last", "")
    if last in PERIODS:
        given["since"] = iso_time(now - int(last))
    return {**given, "limit": str(PAGE_QUOTES)}


def rows_of(reply: object) -> list[QuoteRow]:
    """Return the quotes of a reply. An entry that is not a quote is left out."""
    quotes = reply.get("quotes") if isinstance(reply, Mapping) else None
    return (
        [_row(each) for each in quotes if isinstance(each, Mapping)] if isinstance(quotes, Sequence) else []
    )


def next_of(reply: object) -> str | None:
    found = reply.get("next") if isinstance(reply, Mapping) else None
    return found if isinstance(found, str) else None


def faults_of(reply: object) -> list[str]:
    """Return the faults that an error object names, such as ``since must be…``; its message if it names none."""
    content: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {}
    faults = [
        f"{each['params']['key']} {each['message']}"
        for each in content.get("validationErrors", ())
        if isinstance(each, Mapping) and isinstance(each.get("params"), Mapping)
    ]
    return faults or [str(content.get("message", "The payee refused the list."))]


def totals(rows: Sequence[QuoteRow]) -> list[Total]:
    """Return the sums of the payments among these quotes by currency."""
    found: dict[str, Total] = {}
    for row in rows:
        if row.state != "EXECUTED":
            continue
        before = found.get(row.currency, Total(row.currency, 0, Decimal(0), Decimal(0)))
        found[row.currency] = Total(
            row.currency,
            before.count + 1,
            before.amount + _decimal(row.source_amount),
            before.fee + _decimal(row.fee),
        )
    return sorted(found.values(), key=lambda total: total.currency)


def _unix(at: str | None) -> float | None:
    """Return a time in Unix seconds; None if the text is not a time."""
    try:
        return datetime.fromisoformat(at or "").timestamp()
    except (ValueError, OverflowError):
        return None


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal(0)


def _row(quote: Mapping[str, Any]) -> QuoteRow:
    def text(name: str) -> str:
        value = quote.get(name)
        return "" if value is None else str(value)

    request = quote.get("request")
    fields = request if isinstance(request, Mapping) else {}
    return QuoteRow(
        text("uuid"),
        text("state"),
        text("operation"),
        text("caller"),
        text("sourceAmount"),
        text("destinationAmount"),
        text("fee"),
        text("created"),
        text("expires"),
        text("executed") or None,
        text("released") or None,
        {str(name): str(value) for name, value in fields.items()},
        explanation_of(quote),
    )
