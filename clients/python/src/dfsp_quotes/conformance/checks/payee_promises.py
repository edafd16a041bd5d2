"""The promises of the payee and of a whole network: idempotency, execution, expiry, inverse (wire.md §7)."""

from decimal import Decimal
from typing import Final
from uuid import uuid4

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import (
    AT_ONCE,
    at_once,
    changed,
    ensure_same,
    ensure_same_reply,
    expect,
    minor_unit,
    new_key,
    shown,
)
from dfsp_quotes.conformance.checks.expiry import expired_quotes
from dfsp_quotes.conformance.checks.payee import ACCEPTED, RESERVED
from dfsp_quotes.conformance.implementation import DESTINATION, SOURCE, Implementation, Quote, decimal, time
from dfsp_quotes.conformance.options import ENDS, Part
from dfsp_quotes.conformance.result import Fault, cut
from dfsp_quotes.conformance.wire import KEY, Response

CHECKS: Final = Checks(Part.PROMISES, ENDS)

STEPS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 49)
"""The amounts that the inverse is checked with: that of the request and these numbers of minor units more."""
OK: Final = 200


def amounts(implementation: Implementation) -> list[str]:
    first = Decimal(implementation.options.request["amount"])
    return [format(first + minor_unit(first) * step, "f") for step in STEPS]


# idempotency

IDEMPOTENCY: Final = "wire.md §3 Idempotency-Key, §7 promise 2"


@CHECKS.add("idempotency.same-key", IDEMPOTENCY, needs=RESERVED)
async def idempotency_same_key(implementation: Implementation) -> None:
    """Requests with one key and the same content get the same quote, also with their fields in another order and 12.5 for 12.50."""
    request, headers = implementation.request(), {KEY: new_key()}
    first = await implementation.reserve(request, headers=headers)
    ensure_same(first, await implementation.reserve(request, headers=headers), "Sent again,")
    other_text = dict(reversed(request.items())) | {"amount": _other_text(request["amount"])}
    ensure_same(first, await implementation.reserve(other_text, headers=headers), "Written in another way,")


def _other_text(amount: str) -> str:
    """Return the same number in another form, if it has one: 12.5 for 12.50."""
    return amount[:-1] if "." in amount and amount.endswith("0") and not amount.endswith(".0") else amount


@CHECKS.add("idempotency.other-request", IDEMPOTENCY, needs=["idempotency.same-key"])
async def idempotency_other_request(implementation: Implementation) -> None:
    """A known key with another body or operation gets 422 IdempotencyKeyReusedError."""
    request, headers = implementation.request(), {KEY: new_key()}
    await implementation.reserve(request, headers=headers)
    for body, path in ((changed(request, "amount"), SOURCE), (request, DESTINATION)):
        expect(await implementation.post(body, path, headers), 422, "IdempotencyKeyReusedError")


@CHECKS.add("idempotency.key-returned", IDEMPOTENCY, needs=["idempotency.same-key"])
async def idempotency_key_returned(implementation: Implementation) -> None:
    """The reply to a request without a key has a key, and this key gives the same quote again."""
    first = await implementation.reserve()
    key = first.response.headers.get(KEY)
    if not key or not key.isascii():
        raise Fault(f"{KEY} of the reply is {cut(ascii(key), 80)}.")
    ensure_same(first, await implementation.reserve(first.request, headers={KEY: key}), "Sent again,")


@CHECKS.add("idempotency.after-execution", IDEMPOTENCY, needs=["idempotency.same-key", *ACCEPTED])
async def idempotency_after_execution(implementation: Implementation) -> None:
    """After the quote was paid, its key still gives the same quote."""
    headers = {KEY: new_key()}
    quote = await implementation.reserve(headers=headers)
    await implementation.execute(quote.uuid, quote.request)
    ensure_same(quote, await implementation.reserve(quote.request, headers=headers), "After its execution")


@CHECKS.add("idempotency.after-expiry", IDEMPOTENCY, needs=["idempotency.same-key", "transfer.expired"])
async def idempotency_after_expiry(implementation: Implementation) -> None:
    """After the quote expired, its key still gives the same, expired quote."""
    quotes = await expired_quotes(implementation)
    again = await implementation.reserve_short({KEY: quotes.key}, quotes.keyed.request)
    ensure_same(quotes.keyed, again, "After it expired")


@CHECKS.add("idempotency.bad-key", "wire.md §3 Idempotency-Key", needs=RESERVED)
async def idempotency_bad_key(implementation: Implementation) -> None:
    """A key that is longer than 128 characters or has a space gets 400 InvalidHeaderError."""
    for key in ("k" * 129, "two words"):
        reply = await implementation.post(implementation.request(), headers={KEY: key})
        expect(reply, 400, "InvalidHeaderError")


# execution


@CHECKS.add(
    "transfer.reply",
    "wire.md §2 Execute",
    needs=[*ACCEPTED, "destination.includes-fee", "destination.transfer"],
)
async def transfer_reply(implementation: Implementation) -> None:
    """The reply is 200 with uuid, state EXECUTED, both amounts, their difference as fee, and executed."""
    for path, theirs, ours in (
        (SOURCE, "sourceAmount", "destinationAmount"),
        (DESTINATION, "destinationAmount", "sourceAmount"),
    ):
        quote = await implementation.reserve(path=path)
        response = await implementation.execute(quote.uuid, quote.request)
        found = response.object
        if (response.status, found.get("state")) != (OK, "EXECUTED"):
            raise Fault(f"The reply is {shown(response)}.")
        if str(found.get("uuid")).lower() != quote.uuid.lower():
            raise Fault(f'"uuid" is {cut(repr(found.get("uuid")), 80)}.')
        if decimal(found.get(theirs), theirs) != quote.amount:
            raise Fault(f'"{theirs}" is {found[theirs]}; {quote.amount} was reserved.')
        if decimal(found.get(ours), ours) != Decimal(quote.request["amount"]):
            raise Fault(f'"{ours}" is {found[ours]}; {quote.request["amount"]} was reserved.')
        fee = decimal(found["sourceAmount"], ours) - decimal(found["destinationAmount"], ours)
        if decimal(found.get("fee"), "fee") != fee:
            raise Fault(f'"fee" is {found["fee"]}, not {fee}.')
        _ = time(found.get("executed"), "executed")


@CHECKS.add("transfer.repeat", "wire.md §2 Execute", needs=ACCEPTED)
async def transfer_repeat(implementation: Implementation) -> None:
    """A repeated transfer gets the same reply, byte for byte."""
    quote = await implementation.reserve()
    first, again = [await implementation.execute(quote.uuid, quote.request) for _ in range(2)]
    ensure_same_reply(first, again)


@CHECKS.add("transfer.unknown-error", "wire.md §4 QuoteNotFoundError", needs=["transfer.unknown"])
async def transfer_unknown_error(implementation: Implementation) -> None:
    """A transfer whose uuid belongs to no quote gets 404 QuoteNotFoundError."""
    reply = await implementation.execute(str(uuid4()), implementation.request())
    expect(reply, 404, "QuoteNotFoundError")


MISMATCH: Final = ("amount", "currencySymbol", "account", "transferType")


@CHECKS.add(
    "transfer.mismatch-error",
    "wire.md §4 QuoteMismatchError",
    needs=["transfer.other-amount", "transfer.other-receiver-account", "transfer.other-transfer-type"],
)
async def transfer_mismatch_error(implementation: Implementation) -> None:
    """A transfer that differs gets 409 QuoteMismatchError, which names each field that differs; the quote stays payable."""
    quote = await implementation.reserve()
    request = dict(quote.request)
    for name in MISMATCH:
        request = changed(request, name)
    reply = await implementation.execute(quote.uuid, request)
    expect(reply, 409, "QuoteMismatchError")
    if reply.faulty_fields != set(MISMATCH):
        named = cut(", ".join(sorted(reply.faulty_fields)), 200) or "no field"
        raise Fault(f"{', '.join(MISMATCH)} differ; validationErrors names {named}.")
    paid = await implementation.execute(quote.uuid, quote.request)
    if paid.status != OK:
        raise Fault(f"After it the right transfer was answered with {paid.outcome}.")


# expiry


@CHECKS.add("expiry.at-the-instant", "wire.md §7 promise 3", needs=["transfer.expired"])
async def expiry_at_the_instant(implementation: Implementation) -> None:
    """No quote is executed at or after its "expires": each executed transfer has an earlier "executed"."""
    quotes = await expired_quotes(implementation)
    for exchange in quotes.exchanges:
        implementation.record.add(exchange)
    for timed in quotes.timed:
        ensure_in_time(
            timed.quote, timed.response, timed.seconds_late, implementation.options.clock_tolerance
        )
    ensure_in_time(quotes.paid, quotes.payment, 0, implementation.options.clock_tolerance)


def ensure_in_time(quote: Quote, response: Response, seconds_late: float, tolerance: float) -> None:
    """Raise Fault if a transfer was executed at `expires` or later."""
    expires = quote.text("expires")
    if response.status != OK:
        return
    executed = time(response.object.get("executed"), "executed")
    if executed >= quote.expires:
        raise Fault(f"A quote that expires at {expires} was executed at {response.object['executed']}.")
    if seconds_late >= tolerance:
        raise Fault(f"A quote that expires at {expires} was executed {seconds_late:.3f} s later.")


@CHECKS.add("expiry.error", "wire.md §4 QuoteExpiredError", needs=["transfer.expired"])
async def expiry_error(implementation: Implementation) -> None:
    """A transfer after "expires" gets 410 QuoteExpiredError."""
    quotes = await expired_quotes(implementation)
    expect(await implementation.execute(quotes.late.uuid, quotes.late.request), 410, "QuoteExpiredError")


@CHECKS.add("expiry.executed-stays", "wire.md §2 Execute", needs=["transfer.expired", "transfer.repeat"])
async def expiry_executed_stays(implementation: Implementation) -> None:
    """The transfer of a quote that was executed in time gets the same reply again after "expires", byte for byte."""
    quotes = await expired_quotes(implementation)
    again = await implementation.execute(quotes.paid.uuid, quotes.paid.request)
    ensure_same_reply(quotes.payment, again)


# the exact inverse

INVERSE: Final = "wire.md §2, §7 promise 5"


@CHECKS.add("inverse.exact", INVERSE, needs=["destination.inverse"])
async def inverse_exact(implementation: Implementation) -> None:
    """Reserving the source amount of an amount as a destination amount gives this amount back, exactly."""
    for amount in amounts(implementation):
        source = await implementation.reserve(implementation.request(amount=amount))
        request = implementation.request(amount=source.text("amount"))
        back = await implementation.reserve(request, DESTINATION)
        if source.amount < Decimal(amount):
            raise Fault(f"The fee of {amount} is negative: it costs {source.amount}.")
        if back.amount != Decimal(amount):
            raise Fault(
                f"{amount} costs {source.amount}, but {source.amount} with the fee gives {back.amount}."
            )


@CHECKS.add("inverse.largest", INVERSE, needs=["destination.inverse"])
async def inverse_largest(implementation: Implementation) -> None:
    """The returned destination amount is the largest whose own source amount does not exceed that of the request."""
    for amount in amounts(implementation):
        got = await implementation.reserve(implementation.request(amount=amount), DESTINATION)
        costs = (await implementation.reserve(implementation.request(amount=got.text("amount")))).amount
        more = got.amount + minor_unit(got.amount)
        more_costs = (await implementation.reserve(implementation.request(amount=format(more, "f")))).amount
        if costs > Decimal(amount):
            raise Fault(f"{amount} with the fee gives {got.amount}, which costs {costs}, more than {amount}.")
        if more_costs <= Decimal(amount):
            raise Fault(f"{amount} with the fee gives {got.amount}, but {more} would cost {more_costs}.")


# concurrency


@CHECKS.add("concurrency.one-quote-for-a-key", "wire.md §7 promise 2", needs=["idempotency.same-key"])
async def concurrency_one_quote_for_a_key(implementation: Implementation) -> None:
    """Requests with the same key that arrive at the same time get the same quote."""
    request, headers = implementation.request(), {KEY: new_key()}
    quotes = await at_once([implementation.reserve(request, headers=headers) for _ in range(AT_ONCE)])
    found = {quote.uuid for quote in quotes}
    if len(found) != 1:
        raise Fault(f"{AT_ONCE} requests with the same key at once gave {len(found)} quotes.")


@CHECKS.add("concurrency.executed-once", "wire.md §7 promise 3", needs=["transfer.repeat"])
async def concurrency_executed_once(implementation: Implementation) -> None:
    """Transfers of the same quote that arrive at the same time all get the same reply: it is executed once."""
    quote = await implementation.reserve()
    replies = await at_once([implementation.execute(quote.uuid, quote.request) for _ in range(AT_ONCE)])
    for reply in replies:
        ensure_same_reply(replies[0], reply)


@CHECKS.add(
    "concurrency.own-terms", "wire.md §7 promise 1", needs=["reserve.uuid-unique", "persistence.every-quote"]
)
async def concurrency_own_terms(implementation: Implementation) -> None:
    """Reservations of different amounts that arrive at the same time each get a uuid, and each is paid with its terms."""
    first = Decimal(implementation.options.request["amount"])
    requests = [
        implementation.request(amount=format(first + minor_unit(first) * step, "f"))
        for step in range(AT_ONCE)
    ]
    quotes = await at_once([implementation.reserve(request) for request in requests])
    if len({quote.uuid for quote in quotes}) != AT_ONCE:
        raise Fault(f"{AT_ONCE} reservations at once got fewer uuids.")
    replies = await at_once([implementation.execute(quote.uuid, quote.request) for quote in quotes])
    for quote, reply in zip(quotes, replies, strict=True):
        if reply.status != OK:
            raise Fault(f"The quote of {quote.request['amount']} was not paid: {reply.outcome}.")
