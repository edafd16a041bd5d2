"""The payee of the fake: prices, reserves, executes, releases, looks up and lists quotes, in memory."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil
from uuid import UUID, uuid4

from dfsp_quotes.currencies import FRACTION_DIGITS
from dfsp_quotes.errors import (
    AmountOutOfRangeError,
    ExceededLimit,
    ExposureLimitError,
    IdempotencyKeyReusedError,
    NoFeeScheduleError,
    QuoteExecutedError,
    QuoteExpiredError,
    QuoteMismatchError,
    QuoteNotFoundError,
    QuoteReleasedError,
)
from dfsp_quotes.quotes import EXACT, Operation, State

_MAX_WHOLE_UNITS = 1_000_000


@dataclass(slots=True)
class FakeQuote:
    """One reserved quote."""

    uuid: UUID
    caller: str
    idempotency_key: str
    operation: Operation
    request: Mapping[str, str]
    """The seven fields, by their names in the Quote API."""
    source_amount: Decimal
    destination_amount: Decimal
    created: datetime
    expires: datetime
    rate: Decimal
    """The rate by which the fee was calculated."""
    lifetime: timedelta | None = None
    """The lifetime that the reservation asked for."""
    executed: datetime | None = None
    released: datetime | None = None

    @property
    def state(self) -> State:
        if self.executed is not None:
            return State.EXECUTED
        if self.released is not None:
            return State.RELEASED
        return State.EXPIRED if _now() >= self.expires else State.RESERVED

    def is_for(self, operation: Operation, request: Mapping[str, str]) -> bool:
        """Whether this request reserved the quote; `12.5` and `12.50` are the same amount."""
        return operation is self.operation and not _differences(request, self.request)

    def amounts(self) -> dict[str, str]:
        return {
            "sourceAmount": format(self.source_amount, "f"),
            "destinationAmount": format(self.destination_amount, "f"),
        }

    @property
    def answer(self) -> str:
        """The amount that the reservation is answered with."""
        is_source = self.operation is Operation.QUOTE_SOURCE_AMOUNT
        return self.amounts()["sourceAmount" if is_source else "destinationAmount"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExposureLimit:
    """The most that a caller of the fake may have reserved in one currency; None for no limit."""

    sum: Decimal | None = None
    count: int | None = None


class FakePayee:
    """Quotes in memory. `rate` and `lifetime` may change at any time; quotes keep their terms."""

    def __init__(
        self,
        rate: Decimal,
        lifetime: timedelta,
        transfer_types: Collection[str],
        limits: Mapping[tuple[str, str], ExposureLimit] | None = None,
    ) -> None:
        self.rate = rate
        self.lifetime = lifetime
        self._transfer_types = transfer_types
        self.limits = dict(limits or {})
        """By caller and currency code."""
        self.quotes: dict[UUID, FakeQuote] = {}
        self._by_key: dict[tuple[str, str], FakeQuote] = {}

    def reserve(
        self,
        caller: str,
        key: str,
        operation: Operation,
        request: Mapping[str, str],
        lifetime: timedelta | None = None,
    ) -> dict[str, object]:
        """Return the reply to a reservation. A known key needs no price.

        Raises IdempotencyKeyReusedError, NoFeeScheduleError, AmountOutOfRangeError, ExposureLimitError.
        """
        quote = self._by_key.get((caller, key))
        if quote is None:
            source, destination = self._price(operation, request)
            self._require_within_limit(caller, request, source)
            now = _now()
            quote = FakeQuote(
                uuid4(),
                caller,
                key,
                operation,
                request,
                source,
                destination,
                now,
                now + (self.lifetime if lifetime is None else lifetime),
                self.rate,
                lifetime,
            )
            self.quotes[quote.uuid] = self._by_key[caller, key] = quote
        elif quote.lifetime != lifetime or not quote.is_for(operation, request):
            raise IdempotencyKeyReusedError
        return {"amount": quote.answer, "expires": _format(quote.expires), "uuid": str(quote.uuid)}

    def execute(self, caller: str, uuid: UUID, payment: Mapping[str, str]) -> dict[str, object]:
        """Return the reply to a payment, checked in the order of wire.md §2.

        Raises QuoteNotFoundError, QuoteMismatchError, QuoteExpiredError.
        """
        quote = self._find(caller, uuid)
        differences = _differences(payment, {**quote.request, **quote.amounts()})
        if differences:
            raise QuoteMismatchError(fields=dict.fromkeys(differences, "differs from the reserved one"))
        if quote.released is not None:
            raise QuoteReleasedError(
                f"The quote was released at {_format(quote.released)}. Reserve again with a new Idempotency-Key."
            )
        _require_valid(quote)
        if quote.executed is None:
            quote.executed = _now()
        return {
            "uuid": str(uuid),
            "state": State.EXECUTED,
            **quote.amounts(),
            "fee": format(EXACT.subtract(quote.source_amount, quote.destination_amount), "f"),
            "executed": _format(quote.executed),
        }

    def release(self, caller: str, uuid: UUID, receiver: Mapping[str, str]) -> dict[str, object]:
        """Return the reply to a release. Raises QuoteNotFoundError, QuoteExecutedError, QuoteExpiredError."""
        quote = self._find(caller, uuid)
        if _differences(receiver, quote.request):
            raise QuoteNotFoundError
        if quote.executed is not None:
            raise QuoteExecutedError
        if quote.released is None:
            _require_valid(quote)
            quote.released = _now()
        return {"uuid": str(uuid), "state": State.RELEASED, "released": _format(quote.released)}

    def look_up(self, caller: str, uuid: UUID, receiver: Mapping[str, str]) -> dict[str, object]:
        """Return the reply to a look-up. Raises QuoteNotFoundError, also if the quote has another receiver."""
        quote = self._find(caller, uuid)
        if _differences(receiver, quote.request):
            raise QuoteNotFoundError
        return _content(quote)

    def page(self, caller: str | None, query: Mapping[str, str], *, with_callers: bool) -> dict[str, object]:
        """Return the reply to a list: the newest quotes that fit the checked query, and the position of the next page.

        `caller` is the one whose quotes are listed; None for all.
        """
        found = [quote for quote in self.quotes.values() if caller in {None, quote.caller}]
        found = sorted(filter(_filter(query), found), key=_position, reverse=True)
        page = found[: int(query["limit"])]
        return {
            "quotes": [
                {**_content(quote), "caller": quote.caller} if with_callers else _content(quote)
                for quote in page
            ],
            "next": _cursor(page[-1]) if len(found) > len(page) else None,
        }

    def exposures(self) -> dict[str, object]:
        """Return the reply with the exposures that have a limit."""
        return {
            "exposures": [
                {
                    "caller": caller,
                    "currencyCode": currency,
                    "sum": _sum_text(total, currency),
                    "count": count,
                    "sumLimit": None if limit.sum is None else _sum_text(limit.sum, currency),
                    "countLimit": limit.count,
                }
                for (caller, currency), limit in sorted(self.limits.items())
                for total, count in [self._exposure(caller, currency)]
            ]
        }

    def _exposure(self, caller: str, currency: str) -> tuple[Decimal, int]:
        """Return sum and number of the quotes that count."""
        amounts = [
            quote.source_amount
            for quote in self.quotes.values()
            if quote.caller == caller
            and quote.request["currencyCode"] == currency
            and quote.state is State.RESERVED
        ]
        return sum(amounts, Decimal(0)), len(amounts)

    def _require_within_limit(self, caller: str, request: Mapping[str, str], source: Decimal) -> None:
        """Raise ExposureLimitError if a quote with this source amount would exceed the caller's limit."""
        currency = request["currencyCode"]
        limit = self.limits.get((caller, currency))
        if limit is None:
            return
        total, count = self._exposure(caller, currency)
        fields, limits = {}, {}
        if limit.sum is not None and total + source > limit.sum:
            shown = [_sum_text(each, currency) for each in (limit.sum, total, source)]
            fields["amount"] = (
                f"would take the reserved source amounts from {shown[1]} by {shown[2]} above {shown[0]} {currency}"
            )
            most, now, more = map(Decimal, shown)
            limits["amount"] = ExceededLimit(limit=most, exposure=now, requested=more)
        if limit.count is not None and count >= limit.count:
            fields["currencyCode"] = f"has {count} reserved quotes of at most {limit.count}"
            limits["currencyCode"] = ExceededLimit(
                limit=Decimal(limit.count), exposure=Decimal(count), requested=Decimal(1)
            )
        if limits:
            raise ExposureLimitError(fields=fields, limits=limits)

    def _find(self, caller: str, uuid: UUID) -> FakeQuote:
        quote = self.quotes.get(uuid)
        if quote is None or quote.caller != caller:
            raise QuoteNotFoundError
        return quote

    def _price(self, operation: Operation, request: Mapping[str, str]) -> tuple[Decimal, Decimal]:
        """Return source and destination amount. Amounts are whole minor units until the end."""
        if request["transferType"] not in self._transfer_types:
            raise NoFeeScheduleError
        digits = FRACTION_DIGITS[request["currencyCode"]]
        amount = int(EXACT.scaleb(Decimal(request["amount"]), digits))
        most = _MAX_WHOLE_UNITS * 10**digits
        if operation is Operation.QUOTE_SOURCE_AMOUNT:
            _require_within(amount, 1, most, digits)
            source, destination = amount + self._fee(amount), amount
        else:
            _require_within(amount, 1 + self._fee(1), most + self._fee(most), digits)
            source, destination = amount, self._largest_destination(amount)
        return _decimal(source, digits), _decimal(destination, digits)

    def _fee(self, destination: int) -> int:
        """Return the fee in minor units: the rate, rounded up, and at least one."""
        return max(1, ceil(Fraction(self.rate) * destination))

    def _largest_destination(self, source: int) -> int:
        low, high = 1, source
        while low < high:
            middle = (low + high + 1) // 2
            if middle + self._fee(middle) <= source:
                low = middle
            else:
                high = middle - 1
        return low


def _require_valid(quote: FakeQuote) -> None:
    if quote.state is State.EXPIRED:
        raise QuoteExpiredError(
            f"The quote expired at {_format(quote.expires)}. Reserve again with a new Idempotency-Key."
        )


def _sum_text(amount: Decimal, currency: str) -> str:
    return format(EXACT.quantize(amount, Decimal(1).scaleb(-FRACTION_DIGITS[currency])), "f")


def _position(quote: FakeQuote) -> tuple[datetime, UUID]:
    return quote.created, quote.uuid


def _cursor(quote: FakeQuote) -> str:
    """Return a position in a list as text. The texts sort in the order of the positions."""
    return f"{quote.created.timestamp():015.3f}_{quote.uuid}"


def _filter(query: Mapping[str, str]) -> Callable[[FakeQuote], bool]:
    state, identifier, after = query.get("state"), query.get("identifier"), query.get("after")
    since, until = (
        datetime.fromisoformat(query[name]) if name in query else None for name in ("since", "until")
    )
    amount = Decimal(query["amount"]) if "amount" in query else None
    uuid = UUID(query["uuid"]) if "uuid" in query else None

    def fits(quote: FakeQuote) -> bool:
        return (
            (since is None or since <= quote.created)
            and (until is None or quote.created < until)
            and (after is None or _cursor(quote) < after)
            and uuid in {None, quote.uuid}
            and state in {None, quote.state}
            and identifier in {None, quote.request["identifier"]}
            and amount in {None, quote.source_amount, quote.destination_amount}
        )

    return fits


def _content(quote: FakeQuote) -> dict[str, object]:
    return {
        "uuid": str(quote.uuid),
        "state": quote.state,
        "operation": quote.operation,
        "amount": quote.answer,
        **quote.amounts(),
        "fee": format(EXACT.subtract(quote.source_amount, quote.destination_amount), "f"),
        "expires": _format(quote.expires),
        "created": _format(quote.created),
        "executed": None if quote.executed is None else _format(quote.executed),
        "released": None if quote.released is None else _format(quote.released),
        "request": dict(quote.request),
        "explanation": _explanation(quote),
    }


def _explanation(quote: FakeQuote) -> dict[str, object]:
    """Return how the fee was calculated. The fake's schedule is one step for each currency."""
    transfer_type, currency = quote.request["transferType"], quote.request["currencyCode"]
    digits = FRACTION_DIGITS[currency]
    least, zero = (format(_decimal(units, digits), "f") for units in (1, 0))
    share = EXACT.multiply(quote.destination_amount, quote.rate)
    return {
        "schedule": hashlib.sha256(str(quote.rate).encode()).hexdigest(),
        "rule": {"transferType": transfer_type, "currencyCode": currency},
        "step": {
            "from": least,
            "to": format(_decimal(_MAX_WHOLE_UNITS * 10**digits, digits), "f"),
            "flat": zero,
            "percent": _plain(EXACT.multiply(quote.rate, Decimal(100))),
        },
        "least": least,
        "most": None,
        "rounding": "up",
        "unrounded": _plain(max(share, Decimal(least))),
    }


def _require_within(amount: int, minimum: int, maximum: int, digits: int) -> None:
    if not minimum <= amount <= maximum:
        least, most = _decimal(minimum, digits), _decimal(maximum, digits)
        raise AmountOutOfRangeError(f"The amount must be from {least} to {most} for this transfer.")


def _decimal(minor_units: int, digits: int) -> Decimal:
    return EXACT.scaleb(Decimal(minor_units), -digits)


def _plain(number: Decimal) -> str:
    """Return a number as text without trailing zeros."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _differences(values: Mapping[str, str], reserved: Mapping[str, str]) -> list[str]:
    """Return the names of the fields that differ from the reserved ones; amounts are compared as numbers."""
    return [name for name, value in values.items() if not _is_same(name, value, reserved[name])]


def _is_same(name: str, one: str, other: str) -> bool:
    return Decimal(one) == Decimal(other) if name.lower().endswith("amount") else one == other


def _now() -> datetime:
    """Return the time, cut to milliseconds as the payee stores it."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _format(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
