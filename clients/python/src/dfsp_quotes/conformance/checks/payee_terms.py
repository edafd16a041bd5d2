"""Checks of a payee and a whole network beyond the source: release, chosen lifetimes, explained fees (wire.md §3, §9)."""

from datetime import timedelta
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_HALF_DOWN,
    ROUND_HALF_EVEN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    localcontext,
)
from itertools import product
from typing import Final

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import (
    AT_ONCE,
    at_once,
    ensure_same,
    ensure_same_reply,
    ensure_success,
    expect,
    minor_unit,
    new_key,
    shown,
)
from dfsp_quotes.conformance.checks.expiry import expired_quotes
from dfsp_quotes.conformance.checks.payee import ACCEPTED, RESERVED
from dfsp_quotes.conformance.checks.payee_promises import amounts
from dfsp_quotes.conformance.implementation import (
    AMOUNT,
    DESTINATION,
    SOURCE,
    Implementation,
    Quote,
    decimal,
    time,
)
from dfsp_quotes.conformance.options import ENDS, Part
from dfsp_quotes.conformance.result import Fault, cut
from dfsp_quotes.conformance.wire import KEY, LIFETIME_MS, Response, basic

CHECKS: Final = Checks(Part.PROMISES, ENDS)

OK: Final = 200
RELEASE: Final = "wire.md §9 Release"
LIFETIME: Final = "wire.md §3 X-Quote-Lifetime-Ms"
EXPLANATION: Final = "wire.md §9 Fee schedules"


# release


@CHECKS.add("release.reply", RELEASE, needs=[*RESERVED, "reserve.uuid-unique"])
async def release_reply(implementation: Implementation) -> None:
    """The reply is 200 with uuid, state RELEASED and released; a repeated release gets the same reply, byte for byte."""
    quote = await implementation.reserve()
    first, again = [await implementation.release(quote.uuid, quote.request) for _ in range(2)]
    found = first.object
    if (first.status, found.get("state")) != (OK, "RELEASED"):
        raise Fault(f"The reply is {shown(first)}.")
    if str(found.get("uuid")).lower() != quote.uuid.lower():
        raise Fault(f'"uuid" is {cut(repr(found.get("uuid")), 80)}.')
    _ = time(found.get("released"), "released")
    ensure_same_reply(first, again)


@CHECKS.add("release.look-up", RELEASE, needs=["release.reply", "look-up.reply"])
async def release_look_up(implementation: Implementation) -> None:
    """After a release a look-up shows RELEASED and the same time; before it "released" is null."""
    quote = await implementation.reserve()
    before = (await implementation.look_up(quote.uuid, quote.request)).object
    reply = (await implementation.release(quote.uuid, quote.request)).object
    after = (await implementation.look_up(quote.uuid, quote.request)).object
    if before.get("released", "") is not None:
        raise Fault(f'Before the release "released" is {cut(repr(before.get("released")), 80)}.')
    for name in ("state", "released"):
        if after.get(name) != reply.get(name):
            raise Fault(
                f'"{name}" of the look-up is {cut(repr(after.get(name)), 80)}, that of the release'
                f" {cut(repr(reply.get(name)), 80)}."
            )


@CHECKS.add("release.unknown-error", RELEASE, needs=["release.reply"])
async def release_unknown_error(implementation: Implementation) -> None:
    """A release of an unknown uuid, or by another caller, gets 404 QuoteNotFoundError."""
    quote = await implementation.reserve()
    unknown = f"{quote.uuid[:-12]}{'0' * 12}"
    expect(await implementation.release(unknown, quote.request), 404, "QuoteNotFoundError")
    other = implementation.options.second_caller
    if other is not None:
        reply = await implementation.release(quote.uuid, quote.request, {"Authorization": basic(other)})
        expect(reply, 404, "QuoteNotFoundError")


@CHECKS.add("release.executed-error", RELEASE, needs=["release.reply", "transfer.repeat"])
async def release_executed_error(implementation: Implementation) -> None:
    """A release after the transfer gets 409 QuoteExecutedError, and the transfer stays as it is."""
    quote = await implementation.reserve()
    first = await implementation.execute(quote.uuid, quote.request)
    expect(await implementation.release(quote.uuid, quote.request), 409, "QuoteExecutedError")
    ensure_same_reply(first, await implementation.execute(quote.uuid, quote.request))


@CHECKS.add("release.expired-error", RELEASE, needs=["release.reply", "expiry.error"])
async def release_expired_error(implementation: Implementation) -> None:
    """A release after "expires" gets 410 QuoteExpiredError."""
    late = (await expired_quotes(implementation)).late
    expect(await implementation.release(late.uuid, late.request), 410, "QuoteExpiredError")


@CHECKS.add("release.then-execute", RELEASE, needs=["release.reply", *ACCEPTED])
async def release_then_execute(implementation: Implementation) -> None:
    """A transfer of a released quote gets 410 QuoteReleasedError."""
    quote = await implementation.reserve()
    await implementation.release(quote.uuid, quote.request)
    expect(await implementation.execute(quote.uuid, quote.request), 410, "QuoteReleasedError")


@CHECKS.add("release.same-key", RELEASE, needs=["release.reply", "idempotency.same-key"])
async def release_same_key(implementation: Implementation) -> None:
    """After the quote was released, its key still gives the same, released quote."""
    headers = {KEY: new_key()}
    quote = await implementation.reserve(headers=headers)
    await implementation.release(quote.uuid, quote.request)
    ensure_same(quote, await implementation.reserve(quote.request, headers=headers), "After its release")


@CHECKS.add(
    "concurrency.executed-or-released",
    "wire.md §7 promise 3, §9 Release",
    needs=["release.then-execute", "release.executed-error", "concurrency.executed-once"],
)
async def concurrency_executed_or_released(implementation: Implementation) -> None:
    """Transfers and releases of the same quote that arrive at the same time have one outcome, the same for all of them."""
    for first in (0, 1):
        quote = await implementation.reserve()
        send = (implementation.execute, implementation.release)
        calls = [send[(first + number) % 2](quote.uuid, quote.request) for number in range(AT_ONCE)]
        replies = await at_once(calls)
        transfers, releases = replies[first::2], replies[1 - first :: 2]
        _ensure_one_outcome(transfers, releases)


def _ensure_one_outcome(transfers: list[Response], releases: list[Response]) -> None:
    """Raise Fault unless all requests of one kind got the same 200, and all of the other kind got its error."""
    if transfers[0].status == OK:
        winners, losers, error = transfers, releases, (409, "QuoteExecutedError")
    else:
        winners, losers, error = releases, transfers, (410, "QuoteReleasedError")
    if winners[0].status != OK:
        raise Fault(f"Neither succeeded: {transfers[0].outcome} and {releases[0].outcome}.")
    for reply in winners:
        ensure_same_reply(winners[0], reply)
    for reply in losers:
        expect(reply, *error)


# lifetime

LIFETIMES_MS: Final = (45_000, 90_000)
"""Lifetimes that the checks request. There are two, so that at most one of them equals the payee's default."""
BAD_LIFETIMES: Final = ("0", "-1", "1.5", "soon", "1e3", "9" * 15)
"""Values of the header that no payee accepts; the last one is 31,000 years."""


@CHECKS.add("lifetime.kept", LIFETIME, needs=["reserve.expires", "reserve.uuid-unique"])
async def lifetime_kept(implementation: Implementation) -> None:
    """A quote lives as long as the request says: "expires" is this time after the reservation."""
    tolerance = timedelta(seconds=implementation.options.clock_tolerance)
    for milliseconds in LIFETIMES_MS:
        wanted = timedelta(milliseconds=milliseconds)
        earliest = implementation.clock.now() + wanted
        quote = await implementation.reserve(headers={LIFETIME_MS: str(milliseconds)})
        latest = implementation.clock.now() + wanted
        if not earliest - tolerance <= quote.expires <= latest + tolerance:
            raise Fault(
                f"{LIFETIME_MS} was {milliseconds} at {(latest - wanted).isoformat()}, and the quote expires at"
                f" {quote.text('expires')}."
            )


@CHECKS.add("lifetime.bad-header", LIFETIME, needs=RESERVED)
async def lifetime_bad_header(implementation: Implementation) -> None:
    """A lifetime that is not a whole number above 0, or is above the payee's maximum, gets 400 InvalidHeaderError, which names the header."""
    for given in BAD_LIFETIMES:
        reply = await implementation.post(implementation.request(), headers={LIFETIME_MS: given})
        expect(reply, 400, "InvalidHeaderError")
        if LIFETIME_MS.lower() not in str(reply.object.get("message")).lower():
            raise Fault(f"The message does not name {LIFETIME_MS}: {shown(reply)}.")


@CHECKS.add("lifetime.same-key", LIFETIME, needs=["lifetime.kept", "idempotency.other-request"])
async def lifetime_same_key(implementation: Implementation) -> None:
    """A known key with another lifetime, or with none, gets 422 IdempotencyKeyReusedError; with the same lifetime, the same quote."""
    first, second = LIFETIMES_MS
    key = {KEY: new_key()}
    quote = await implementation.reserve(headers={**key, LIFETIME_MS: str(first)})
    again = await implementation.reserve(quote.request, headers={**key, LIFETIME_MS: str(first)})
    ensure_same(quote, again, "With the same lifetime")
    for other in ({LIFETIME_MS: str(second)}, {}):
        reply = await implementation.post(quote.request, headers={**key, **other})
        expect(reply, 422, "IdempotencyKeyReusedError")


# explanation of the fee

_ROUNDINGS: Final = {
    "half_up": ROUND_HALF_UP,
    "half_down": ROUND_HALF_DOWN,
    "half_even": ROUND_HALF_EVEN,
    "up": ROUND_CEILING,
    "down": ROUND_DOWN,
}
_EXACT: Final = Context(prec=100)


@CHECKS.add("explanation.fee", EXPLANATION, needs=["look-up.reply"])
async def explanation_fee(implementation: Implementation) -> None:
    """The fee of a look-up can be calculated again from its explanation: step, limits and rounding."""
    for path, amount in product((SOURCE, DESTINATION), amounts(implementation)[::3]):
        quote = await implementation.reserve(implementation.request(amount=amount), path)
        reply = await implementation.look_up(quote.uuid, quote.request)
        ensure_success(reply, "The look-up")
        _ensure_explained(quote, reply.object, is_exact=path == SOURCE)


def _ensure_explained(quote: Quote, found: dict[str, object], *, is_exact: bool) -> None:
    """Raise Fault unless the explanation gives the fee.

    If the request gave the source amount, the fee also includes the rest that is too small to increase the
    destination amount.
    """
    explanation = _object(found.get("explanation"), "explanation")
    rule, step = (_object(explanation.get(name), f"explanation.{name}") for name in ("rule", "step"))
    expected = {name: quote.request[name] for name in ("transferType", "currencyCode")}
    if rule != expected:
        raise Fault(f'"explanation.rule" is {cut(repr(rule), 200)}, not {expected}.')
    if not isinstance(explanation.get("schedule"), str) or not explanation["schedule"]:
        raise Fault('"explanation" names no schedule.')
    fee, destination = (decimal(found.get(name), name) for name in ("fee", "destinationAmount"))
    first, last, flat, percent = (
        decimal(step.get(name), f"explanation.step.{name}") for name in ("from", "to", "flat", "percent")
    )
    if not first <= destination <= last:
        raise Fault(f"The step is for {first} to {last}, and {destination} arrives.")
    unrounded = _unrounded(flat, percent, destination, explanation)
    if _long_decimal(explanation.get("unrounded")) != unrounded:
        raise Fault(f'"unrounded" is {cut(repr(explanation.get("unrounded")), 120)}, not {unrounded}.')
    rounding = _ROUNDINGS.get(str(explanation.get("rounding")))
    if rounding is None:
        raise Fault(f'"rounding" is {cut(repr(explanation.get("rounding")), 80)}.')
    rounded = unrounded.quantize(minor_unit(fee), rounding, _EXACT)
    if fee < rounded or (is_exact and fee != rounded):
        raise Fault(f"By its explanation the fee is {rounded}; it is {fee}.")


def _unrounded(
    flat: Decimal, percent: Decimal, destination: Decimal, explanation: dict[str, object]
) -> Decimal:
    """Return flat plus percent of the destination amount, not less than `least` and not more than `most`."""
    with localcontext(_EXACT):
        found = flat + percent * destination / 100
        found = max(found, decimal(explanation.get("least"), "explanation.least"))
        if explanation.get("most") is not None:
            found = min(found, decimal(explanation["most"], "explanation.most"))
    return found


def _long_decimal(text: object) -> Decimal | None:
    """Return a number that may have more digits than an amount; None for anything else."""
    if not isinstance(text, str) or len(text) > _EXACT.prec:
        return None
    whole, _, fraction = text.partition(".")
    is_number = AMOUNT.fullmatch(whole) and (not fraction or (fraction.isascii() and fraction.isdigit()))
    return Decimal(text) if is_number else None


def _object(found: object, name: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise Fault(f'"{name}" is {cut(repr(found), 100)}, which is not a JSON object.')
    return found
