"""The payee's replies: choose the reply or the error that fits the state of a quote (wire.md §2).

Pure: no clock, no database, no HTTP. The callers pass the quote as the database returned it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from chassis.errors import (
    Fault,
    QuoteExecutedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    QuoteReleasedError,
    UnavailableError,
)
from dfsp_api.fee_schedule_record import explanation
from dfsp_api.idempotency import require_same_request
from dfsp_api.stored_quote import OPERATIONS, StoredQuote
from quoting.call import Operation
from quoting.schemas import same_amount


def reservation_reply(
    quote: StoredQuote | None, operation: Operation, fingerprint: bytes, lifetime_ms: int | None = None
) -> Mapping[str, str]:
    """Return the reply to a reservation. `quote` is the stored quote for its idempotency key.

    `operation`, `fingerprint` and `lifetime_ms` are those of the request. Raises IdempotencyKeyReusedError if another request reserved
    the quote, QuoteExpiredError if retention has removed its amounts, UnavailableError if there is no quote.
    """
    if quote is None:
        raise UnavailableError(cause="a quote was neither inserted nor found")
    require_same_request(quote, operation, fingerprint, lifetime_ms)
    if quote.request is None:
        raise QuoteExpiredError
    return {"amount": _reserved_amount(quote), "expires": format_time(quote.expires), "uuid": str(quote.uuid)}


def execution_reply(
    quote: StoredQuote | None, caller: str, payment: Mapping[str, str]
) -> Mapping[str, object]:
    """Return the reply to a payment (Quote API §III). Before this call, the database has executed `quote` if it could.

    Checks in the order of wire.md §2. Raises QuoteNotFoundError; then QuoteMismatchError; then, if the quote is not
    executed, QuoteReleasedError or QuoteExpiredError.
    """
    if quote is None or quote.caller != caller:
        raise QuoteNotFoundError
    if quote.request is None:
        raise QuoteExpiredError if quote.released is None else _released(quote.released)
    faults = _mismatches(quote, payment)
    if faults:
        raise QuoteMismatchError(faults=faults)
    if quote.released is not None:
        raise _released(quote.released)
    if quote.executed is None:
        raise _expired(quote)
    return {
        "uuid": str(quote.uuid),
        "state": "EXECUTED",
        **_amounts(quote),
        "executed": format_time(quote.executed),
    }


def release_reply(
    quote: StoredQuote | None, caller: str, receiver: Mapping[str, str]
) -> Mapping[str, object]:
    """Return the reply to a release. Before this call, the database has released `quote` if it could.

    Raises QuoteNotFoundError as a look-up does; then QuoteExecutedError; then, if the quote is not released,
    QuoteExpiredError. A stub has no receiver to compare, but it has the time of the release.
    """
    if quote is None or quote.request is not None or quote.released is None:
        quote = _required(quote, caller, receiver)
    elif quote.caller != caller:
        raise QuoteNotFoundError
    if quote.executed is not None:
        raise QuoteExecutedError
    if quote.released is None:
        raise _expired(quote)
    return {"uuid": str(quote.uuid), "state": "RELEASED", "released": format_time(quote.released)}


def look_up_reply(
    quote: StoredQuote | None, caller: str, receiver: Mapping[str, str]
) -> Mapping[str, object]:
    """Return the reply to a look-up.

    Raises QuoteNotFoundError if there is no such quote for this caller and receiver.
    """
    return quote_content(_required(quote, caller, receiver))


def _required(quote: StoredQuote | None, caller: str, receiver: Mapping[str, str]) -> StoredQuote:
    """Return the quote. Raises QuoteNotFoundError if there is no such quote for this caller and receiver."""
    if quote is None or quote.caller != caller or quote.request is None:
        raise QuoteNotFoundError
    if any(quote.request[name] != value for name, value in receiver.items()):
        raise QuoteNotFoundError
    return quote


def _released(at: datetime) -> QuoteReleasedError:
    return QuoteReleasedError(
        f"The quote was released at {format_time(at)}. Reserve again with a new Idempotency-Key."
    )


def _expired(quote: StoredQuote) -> QuoteExpiredError:
    return QuoteExpiredError(
        f"The quote expired at {format_time(quote.expires)}. Reserve again with a new Idempotency-Key."
    )


def quote_content(quote: StoredQuote) -> dict[str, object]:
    """Return a quote, which is not a stub, as look up and the list of quotes show it."""
    return {
        "uuid": str(quote.uuid),
        "state": quote.state,
        "operation": quote.operation,
        "amount": _reserved_amount(quote),
        **_amounts(quote),
        "expires": format_time(quote.expires),
        "created": format_time(quote.created),
        "executed": format_time(quote.executed) if quote.executed else None,
        "released": format_time(quote.released) if quote.released else None,
        "request": quote.request,
        "explanation": _explanation(quote),
    }


def _explanation(quote: StoredQuote) -> Mapping[str, object] | None:
    fees = quote.fees
    if fees is None or quote.request is None or quote.destination_amount is None:
        return None
    rule = fees.rules[quote.request["transferType"], quote.request["currencyCode"]]
    return explanation(fees, rule, quote.destination_amount)


def format_time(time: datetime) -> str:
    """Return a time as text: UTC with milliseconds and "Z" at the end."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mismatches(quote: StoredQuote, payment: Mapping[str, str]) -> list[Fault]:
    """Return a fault for each parameter of a payment that differs from the value in the quote."""
    assert quote.request is not None  # noqa: S101 - the caller looked
    expected = {
        **quote.request,
        "sourceAmount": _format_amount(quote.source_amount),
        "destinationAmount": _format_amount(quote.destination_amount),
    }
    return [
        Fault(name, "differs from the reserved one", value)
        for name, value in payment.items()
        if not _is_same(name, value, expected[name])
    ]


def _is_same(name: str, one: str, other: str) -> bool:
    return same_amount(one, other) if name.lower().endswith("amount") else one == other


def _reserved_amount(quote: StoredQuote) -> str:
    """Return the amount in the reply to the reservation of this quote."""
    is_source = quote.operation == OPERATIONS[Operation.QUOTE_SOURCE_AMOUNT]
    return _format_amount(quote.source_amount if is_source else quote.destination_amount)


def _amounts(quote: StoredQuote) -> dict[str, str]:
    assert quote.source_amount is not None  # noqa: S101 - a stub never gets here
    assert quote.destination_amount is not None  # noqa: S101
    return {
        "sourceAmount": _format_amount(quote.source_amount),
        "destinationAmount": _format_amount(quote.destination_amount),
        "fee": _format_amount(quote.source_amount - quote.destination_amount),
    }


def _format_amount(amount: Decimal | None) -> str:
    """Return a stored amount as text, with all fraction digits of its currency."""
    return format(amount, "f") if amount is not None else ""
