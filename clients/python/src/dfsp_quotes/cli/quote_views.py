"""Quotes and payments as JSON objects, with the names of the Quote API, and as rows for people."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from rich.text import Text

from dfsp_quotes import FeeExplanation, Quote, QuoteRequest, State, StoredQuote, Terms

_SHOWN_ID_CHARACTERS: Final = 12
_STATE_STYLES: Final = {"RESERVED": "green", "EXECUTED": "bold green", "RELEASED": "yellow", "EXPIRED": "red"}


def quote_content(quote: Quote) -> dict[str, object]:
    return {
        **terms_content(quote),
        "idempotencyKey": quote.idempotency_key,
        "request": request_content(quote.request),
    }


def stored_content(quote: StoredQuote) -> dict[str, object]:
    return {
        **terms_content(quote),
        "state": quote.state.value,
        "created": time_text(quote.created),
        "executed": None if quote.executed is None else time_text(quote.executed),
        "released": None if quote.released is None else time_text(quote.released),
        "request": request_content(quote.request),
        "explanation": None if quote.explanation is None else explanation_content(quote.explanation),
    }


def terms_content(quote: Terms) -> dict[str, object]:
    return {
        "uuid": str(quote.uuid),
        "operation": quote.request.operation.value,
        "amount": plain(quote.amount),
        "sourceAmount": plain(quote.source_amount),
        "destinationAmount": plain(quote.destination_amount),
        "fee": plain(quote.fee),
        "expires": time_text(quote.expires),
        "traceId": quote.trace_id,
    }


def request_content(request: QuoteRequest) -> dict[str, str]:
    return {
        "currencyCode": request.currency_code,
        "currencySymbol": request.currency_symbol,
        "amount": plain(request.amount),
        "account": request.account,
        "identifier": request.identifier,
        "identifierType": request.identifier_type,
        "transferType": request.transfer_type,
    }


def explanation_content(explanation: FeeExplanation) -> dict[str, object]:
    return {
        "schedule": explanation.schedule,
        "rule": {"transferType": explanation.transfer_type, "currencyCode": explanation.currency_code},
        "step": {
            "from": plain(explanation.step_from),
            "to": plain(explanation.step_to),
            "flat": plain(explanation.flat),
            "percent": plain(explanation.percent),
        },
        "least": plain(explanation.least),
        "most": None if explanation.most is None else plain(explanation.most),
        "rounding": explanation.rounding,
        "unrounded": plain(explanation.unrounded),
    }


def explanation_text(explanation: FeeExplanation) -> str:
    """Return how a fee was calculated, in one line."""
    most = "" if explanation.most is None else f", at most {plain(explanation.most)}"
    return (
        f"{explanation.transfer_type} {explanation.currency_code}: {plain(explanation.flat)} +"
        f" {plain(explanation.percent)} %, at least {plain(explanation.least)}{most};"
        f" {plain(explanation.unrounded)} rounded {explanation.rounding}"
        f" (schedule {explanation.schedule[:_SHOWN_ID_CHARACTERS]})"
    )


def quote_rows(quote: Quote) -> list[tuple[str, str | Text]]:
    return [("quote", str(quote.uuid)), *amount_rows(quote), ("key", quote.idempotency_key)]


def amount_rows(quote: Terms) -> list[tuple[str, str | Text]]:
    currency = quote.request.currency_code
    left = "expired" if quote.is_expired else f"in {_duration(quote.time_left)}"
    return [
        ("send", Text(f"{plain(quote.source_amount)} {currency}", "bold")),
        ("arrives", f"{plain(quote.destination_amount)} {currency}"),
        ("fee", f"{plain(quote.fee)} {currency}"),
        ("expires", f"{time_text(quote.expires)} ({left})"),
        ("trace id", quote.trace_id),
    ]


def _duration(duration: timedelta) -> str:
    return str(timedelta(seconds=int(duration.total_seconds())))


def state_text(state: State) -> Text:
    return Text(state.value, _STATE_STYLES.get(state.value, ""))


def difference_text(amount: Decimal, currency: str) -> Text:
    if not amount:
        return Text("none")
    return Text(f"{amount:+f} {currency}", "red" if amount > 0 else "green")


def plain(amount: Decimal) -> str:
    return format(amount, "f")


def time_text(time: datetime) -> str:
    """Return a time as the services write it: UTC with milliseconds and Z."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
