"""Values of the client: requests, quotes and payments. All are frozen; amounts are Decimal."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from enum import StrEnum
from typing import Final
from uuid import UUID

EXACT: Final = Context(prec=40, traps=[Inexact, InvalidOperation])
"""Amounts have at most 18 digits. The context of the caller could round them."""


class Operation(StrEnum):
    """The two ways to request a quote (Quote API §IV)."""

    QUOTE_SOURCE_AMOUNT = "quoteSourceAmount"
    QUOTE_DESTINATION_AMOUNT = "quoteDestinationAmount"


class State(StrEnum):
    """The state of a quote at the payee (wire.md §2)."""

    RESERVED = "RESERVED"
    EXECUTED = "EXECUTED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteRequest:
    """A request for a quote: its operation and the seven fields of the Quote API."""

    operation: Operation
    currency_code: str
    currency_symbol: str
    amount: Decimal
    """The amount that arrives (quoteSourceAmount), or the amount to send, fee included (quoteDestinationAmount)."""
    account: str
    identifier: str
    identifier_type: str
    transfer_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Terms that are reserved at the payee under a uuid."""

    uuid: UUID
    request: QuoteRequest
    amount: Decimal
    """The answer to the request: the amount to send (quoteSourceAmount), or the amount that arrives."""
    expires: datetime
    """From this time on the quote cannot be paid; in UTC, by the clock of the payee."""
    trace_id: str = field(compare=False)
    """Finds the request in the logs of the services."""

    @property
    def source_amount(self) -> Decimal:
        """The amount that the payer sends, fee included."""
        return self.amount if self._is_source else self.request.amount

    @property
    def destination_amount(self) -> Decimal:
        """The amount that arrives."""
        return self.request.amount if self._is_source else self.amount

    @property
    def fee(self) -> Decimal:
        """The difference between the amount that is sent and the amount that arrives."""
        return EXACT.subtract(self.source_amount, self.destination_amount)

    @property
    def is_expired(self) -> bool:
        """Whether `expires` has passed, by the clock of this machine. The payee decides by its own."""
        return datetime.now(UTC) >= self.expires

    @property
    def time_left(self) -> timedelta:
        """The time until `expires`, by the clock of this machine; zero if it has passed."""
        return max(self.expires - datetime.now(UTC), timedelta(0))

    @property
    def _is_source(self) -> bool:
        return self.request.operation is Operation.QUOTE_SOURCE_AMOUNT


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(Terms):
    """The response to a reservation."""

    idempotency_key: str
    """The key that was sent. The same request with it gives this quote again, also after it has expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeExplanation:
    """How a fee was calculated: `unrounded`, rounded once by `rounding` to the currency's minor unit."""

    schedule: str
    """The id of the fee schedule: 64 hex digits."""
    transfer_type: str
    currency_code: str
    step_from: Decimal
    step_to: Decimal
    flat: Decimal
    percent: Decimal
    """Per cent of the amount that arrives."""
    least: Decimal
    most: Decimal | None
    """The maximum fee; None if there is none."""
    rounding: str
    """half_up, half_down, half_even, up or down."""
    unrounded: Decimal
    """`flat` plus `percent`, but at least `least` and at most `most`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuote(Terms):
    """A quote as the payee has it stored: the response to a look-up. It can be paid as a `Quote` can."""

    state: State
    created: datetime
    executed: datetime | None
    """When it was executed; None if it was not."""
    explanation: FeeExplanation | None = None
    """None if the payee does not explain the fee."""
    released: datetime | None = None
    """When its caller released it; None if it was not."""
    caller: str | None = None
    """The caller that reserved it; None unless an operator lists it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotePage:
    """A part of a list of quotes, the newest first."""

    quotes: tuple[StoredQuote, ...]
    """Can be empty although there are more pages."""
    next: str | None
    """The argument `after` for the next page; None if this is the last page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """The quotes that one caller has reserved in one currency at the payee, and the limits."""

    caller: str
    currency_code: str
    sum: Decimal
    """Sum of the source amounts of the quotes that are neither executed, released nor expired."""
    count: int
    """Number of these quotes."""
    sum_limit: Decimal | None
    """The largest sum; None for no limit."""
    count_limit: int | None
    """The largest number; None for no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The response to a payment: the quote is executed."""

    uuid: UUID
    state: State
    source_amount: Decimal
    destination_amount: Decimal
    fee: Decimal
    executed: datetime
    trace_id: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The response to a release: the quote cannot be paid any more."""

    uuid: UUID
    state: State
    released: datetime
    trace_id: str = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLeaf:
    """An event of a quote in the payee's audit log."""

    event: str
    """RESERVED, EXECUTED or RELEASED."""
    position: int
    content: str | None
    """The text that is hashed; None if the payee has removed it because it was too old."""
    hash: bytes
    """SHA-256 of a zero byte and the content."""
    proof: tuple[bytes, ...]
    """The hashes from the leaf's sibling up to the root (RFC 9162 §2.1.3)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditProof:
    """The events of a quote in the payee's audit log, with the proof of each."""

    uuid: UUID
    checkpoint: str
    """The signed note with size and root of the tree that the proofs lead to."""
    leaves: tuple[AuditLeaf, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requote:
    """A new quote for the request of an earlier one."""

    quote: Quote
    previous: Terms

    @property
    def difference(self) -> Decimal:
        """The new `amount` less the earlier one."""
        return EXACT.subtract(self.quote.amount, self.previous.amount)

    @property
    def fee_difference(self) -> Decimal:
        """The new fee less the earlier one; positive if the transfer has become more expensive."""
        return EXACT.subtract(self.quote.fee, self.previous.fee)
