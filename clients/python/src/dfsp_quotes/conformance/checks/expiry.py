"""Quotes that the kit lets expire. All checks of expiry share one wait."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from dfsp_quotes.conformance.implementation import Implementation, Quote
from dfsp_quotes.conformance.result import Exchange, Skip
from dfsp_quotes.conformance.wire import KEY, Response

OFFSETS_SECONDS: Final = (-0.05, 0.0, 0.05)
"""When transfers are sent, from `expires` of their quote by the kit's clock; another one follows after the tolerance."""


@dataclass(frozen=True)
class TimedTransfer:
    quote: Quote
    seconds_late: float
    response: Response


@dataclass(frozen=True)
class ExpiredQuotes:
    """Quotes whose `expires` has passed by more than the tolerance of the clocks."""

    late: Quote
    """Was never paid."""
    paid: Quote
    payment: Response
    """The response to the transfer of `paid`, before it expired."""
    key: str
    keyed: Quote
    """Was reserved with the idempotency key `key`, and never paid."""
    timed: tuple[TimedTransfer, ...]
    """Transfers around `expires` of their quotes."""
    exchanges: tuple[Exchange, ...]


async def expired_quotes(implementation: Implementation) -> ExpiredQuotes:
    """Return the quotes, after waiting for them once. Raises Skip if they live too long."""
    return await implementation.once(_let_expire)


async def _let_expire(implementation: Implementation) -> ExpiredQuotes:
    options, clock = implementation.options, implementation.clock
    late = await implementation.reserve_short()
    life = (late.expires - clock.now()).total_seconds()
    if life > options.max_wait:
        raise Skip(
            f"The quotes live for {life:.0f} s, and the kit waits for {options.max_wait:.0f} s at most. Let quotes"
            " expire earlier, for example with --lifetime-ms, or raise --max-wait."
        )
    paid = await implementation.reserve_short()
    payment = await implementation.execute(paid.uuid, paid.request)
    key = f"kit-{late.uuid}"
    keyed = await implementation.reserve_short({KEY: key})
    begun = len(implementation.record.exchanges)
    offsets = (*OFFSETS_SECONDS, options.clock_tolerance)
    waiting = [(await implementation.reserve_short(), offset) for offset in offsets]
    timed = []
    for quote, offset in sorted(waiting, key=lambda each: each[0].expires + timedelta(seconds=each[1])):
        await clock.sleep_until(quote.expires + timedelta(seconds=offset))
        seconds_late = (clock.now() - quote.expires).total_seconds()
        timed.append(
            TimedTransfer(quote, seconds_late, await implementation.execute(quote.uuid, quote.request))
        )
    exchanges = tuple(implementation.record.exchanges[begun:])
    del implementation.record.exchanges[begun:]
    last = max(each.expires for each in (late, paid, keyed))
    await clock.sleep_until(last + timedelta(seconds=options.clock_tolerance))
    return ExpiredQuotes(late, paid, payment, key, keyed, tuple(timed), exchanges)
