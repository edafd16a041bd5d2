"""The source's checks of an implementation that answers requests itself (Quote API §I to §IV)."""

from datetime import timedelta
from decimal import Decimal
from typing import Final
from uuid import uuid4

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import changed, ensure_error, ensure_success, minor_unit
from dfsp_quotes.conformance.checks.expiry import expired_quotes
from dfsp_quotes.conformance.implementation import DESTINATION, SOURCE, UUID, Implementation, Quote, decimal
from dfsp_quotes.conformance.options import ENDS, Part
from dfsp_quotes.conformance.result import Fault, Skip, cut
from dfsp_quotes.conformance.wire import Response

CHECKS: Final = Checks(Part.SOURCE, ENDS)

RESERVED: Final = ("reserve.reply", "reserve.uuid")
ACCEPTED: Final = (*RESERVED, "transfer.accepted")

ABSENT: Final = frozenset({404, 405, 501})
"""Statuses of an implementation that does not have a method or path."""
UNAVAILABLE: Final = frozenset({502, 503, 504})
"""Statuses of a service that starts, or whose next hop starts."""
PAUSE_SECONDS: Final = 1.0
"""The time between two transfers while an implementation starts."""


@CHECKS.add("reserve.reply", "§I.{receives} Success Response")
async def reserve_reply(implementation: Implementation) -> None:
    """200 with a JSON object that has "amount", "expires" and "uuid"."""
    quote = await implementation.reserve()
    response = quote.response
    if response.content_type != "application/json":
        raise Fault(f'The content type is "{cut(response.content_type, 80)}", not application/json.')
    if not isinstance(response.json, dict):
        raise Fault("The body is not a JSON object.")
    missing = {"amount", "expires", "uuid"} - set(response.object)
    if missing:
        raise Fault(f"The response lacks {', '.join(sorted(missing))}.")


@CHECKS.add("reserve.amount", "§I.{receives} Success Response", needs=["reserve.reply"])
async def reserve_amount(implementation: Implementation) -> None:
    """The field "amount" is a string with a decimal number, such as "13.75"."""
    decimal((await implementation.reserve()).response.object.get("amount"), "amount")


@CHECKS.add("reserve.expires", "§II Additional Information", needs=["reserve.reply"])
async def reserve_expires(implementation: Implementation) -> None:
    """The field "expires" is a time in the future, in ISO 8601 and UTC, such as "2017-05-11T11:30:03.561Z"."""
    quote = await implementation.reserve()
    now = implementation.clock.now()
    if quote.expires <= now - timedelta(seconds=implementation.options.clock_tolerance):
        raise Fault(
            f"The quote expires at {quote.expires.isoformat()}, which has passed: it is {now.isoformat()}."
        )


@CHECKS.add("reserve.uuid", "§II Additional Information", needs=["reserve.reply"])
async def reserve_uuid(implementation: Implementation) -> None:
    """The field "uuid" is a UUID: 8-4-4-4-12 hexadecimal digits."""
    found = (await implementation.reserve()).text("uuid")
    if not UUID.fullmatch(found):
        raise Fault(f'"uuid" is "{cut(found, 80)}".')


@CHECKS.add("reserve.uuid-unique", "§II Additional Information", needs=RESERVED)
async def reserve_uuid_unique(implementation: Implementation) -> None:
    """Each reservation gets another uuid, also for the same request."""
    request = implementation.request()
    first, second = [await implementation.reserve(request) for _ in range(2)]
    if first.uuid.lower() == second.uuid.lower():
        raise Fault(f"Two reservations got the uuid {first.uuid}.")


@CHECKS.add("reserve.fee", "§II Additional Information", needs=["reserve.amount"])
async def reserve_fee(implementation: Implementation) -> None:
    """The fee is the returned amount less the amount of the request, so it is not negative."""
    quote = await implementation.reserve()
    if quote.amount < Decimal(quote.request["amount"]):
        raise Fault(
            f"The fee of {quote.request['amount']} is negative: the returned amount is {quote.amount}."
        )


@CHECKS.add("transfer.accepted", "§II Additional Information", needs=RESERVED)
async def transfer_accepted(implementation: Implementation) -> None:
    """A transfer with the uuid of a quote and the same parameters succeeds before the quote expires."""
    quote = await implementation.reserve()
    response = await implementation.execute(quote.uuid, quote.request)
    if response.status in ABSENT:
        method, path = implementation.options.execute_method, implementation.options.execute_path
        raise Fault(
            f"{method} {path} was answered with {response.outcome}. If transfers have another method or path, name"
            " them with --execute."
        )
    ensure_success(response, "The transfer")


@CHECKS.add("persistence.every-quote", "§II Additional Information", needs=[*ACCEPTED, "reserve.uuid-unique"])
async def persistence_every_quote(implementation: Implementation) -> None:
    """Each quote is kept with its own parameters: after three reservations all three can be paid."""
    amount = Decimal(implementation.options.request["amount"])
    step = minor_unit(amount)
    quotes = [
        await implementation.reserve(implementation.request(amount=format(amount + step * number, "f")))
        for number in range(3)
    ]
    for quote in quotes:
        response = await implementation.execute(quote.uuid, quote.request)
        ensure_success(response, f"The transfer of {quote.request['amount']}")


@CHECKS.add("persistence.restart", "§II Additional Information", needs=[*ACCEPTED, "reserve.expires"])
async def persistence_restart(implementation: Implementation) -> None:
    """A quote that was reserved before a restart can be paid after it."""
    restart = implementation.options.restart
    if restart is None:
        raise Skip("The kit was not told how to restart the implementation. Use --restart COMMAND.")
    quote = await implementation.reserve()
    await restart()
    response = await _execute_when_ready(implementation, quote)
    if 400 <= response.status < 500 and implementation.clock.now() >= quote.expires:  # noqa: PLR2004
        raise Skip("The quote expired before the implementation was there again. Let quotes live longer.")
    ensure_success(response, "After the restart the transfer")


async def _execute_when_ready(implementation: Implementation, quote: Quote) -> Response:
    """Send a transfer until the implementation is there again. Raises Fault if there is no response for too long."""
    clock, end = (
        implementation.clock,
        implementation.clock.now() + timedelta(seconds=implementation.options.max_wait),
    )
    while True:
        try:
            response = await implementation.execute(quote.uuid, quote.request)
        except Fault:
            if clock.now() >= end:
                raise
        else:
            if response.status not in UNAVAILABLE or clock.now() >= end:
                return response
        await clock.sleep_until(clock.now() + timedelta(seconds=PAUSE_SECONDS))


@CHECKS.add("transfer.unknown", "§III Error cases, first", needs=ACCEPTED)
async def transfer_unknown(implementation: Implementation) -> None:
    """A transfer whose uuid belongs to no quote is an error."""
    response = await implementation.execute(str(uuid4()), implementation.request())
    ensure_error(response, "A transfer with an unknown uuid")


@CHECKS.add(
    "transfer.expired",
    "§III Error cases, second",
    needs=["reserve.uuid-unique", "reserve.expires", "persistence.every-quote"],
)
async def transfer_expired(implementation: Implementation) -> None:
    """A transfer with the uuid of an expired quote is an error."""
    quotes = await expired_quotes(implementation)
    response = await implementation.execute(quotes.late.uuid, quotes.late.request)
    ensure_error(response, f"A transfer after the quote expired at {quotes.late.text('expires')}")


OTHERS: Final = {
    "amount": "amount",
    "currencyCode": "currency",
    "account": "receiver account",
    "identifier": "identifier",
    "transferType": "transfer type",
}


def _add_mismatch(name: str, words: str) -> None:
    async def transfer_other(implementation: Implementation) -> None:
        quote = await implementation.reserve()
        request = changed(dict(quote.request), name)
        response = await implementation.execute(quote.uuid, request)
        ensure_error(response, f'A transfer with "{name}": "{cut(request[name], 100)}"')

    transfer_other.__doc__ = f"A transfer with another {words} than the reserved one is an error."
    id_ = f"transfer.other-{words.replace(' ', '-')}"
    CHECKS.add(id_, "§III Error cases, third", needs=ACCEPTED)(transfer_other)


for _name, _words in OTHERS.items():
    _add_mismatch(_name, _words)


@CHECKS.add(
    "destination.reply", "§IV Notes, first", needs=["reserve.amount", "reserve.expires", "reserve.uuid"]
)
async def destination_reply(implementation: Implementation) -> None:
    """/v1/quoteDestinationAmount has the same flow: 200 with "amount", "expires" and "uuid"."""
    quote = await implementation.reserve(path=DESTINATION)
    _ = quote.amount, quote.expires, quote.uuid


@CHECKS.add("destination.includes-fee", "§IV Notes, first", needs=["destination.reply", "reserve.fee"])
async def destination_includes_fee(implementation: Implementation) -> None:
    """The amount of the request includes the fee, so the returned amount is not larger."""
    quote = await implementation.reserve(path=DESTINATION)
    if quote.amount > Decimal(quote.request["amount"]):
        raise Fault(f"{quote.request['amount']} with the fee included became {quote.amount}.")


@CHECKS.add("destination.inverse", "§IV Notes, first", needs=["destination.includes-fee"])
async def destination_inverse(implementation: Implementation) -> None:
    """The returned amount of /v1/quoteSourceAmount, with the fee included, leads back to the first amount.

    One minor unit of the currency is allowed for rounding.
    """
    there = await implementation.reserve()
    back = await implementation.reserve({**there.request, "amount": there.text("amount")}, DESTINATION)
    amount = Decimal(there.request["amount"])
    if abs(back.amount - amount) > minor_unit(amount):
        raise Fault(
            f"{amount} costs {there.amount}, but {there.amount} with the fee included gives {back.amount}."
        )


@CHECKS.add("destination.transfer", "§IV Notes, first", needs=["destination.reply", *ACCEPTED])
async def destination_transfer(implementation: Implementation) -> None:
    """A quote of /v1/quoteDestinationAmount can be paid in the same way."""
    quote = await implementation.reserve(path=DESTINATION)
    ensure_success(await implementation.execute(quote.uuid, quote.request), "The transfer")


async def looked_up(implementation: Implementation, path: str = SOURCE) -> tuple[dict[str, object], Response]:
    """Reserve a quote and look it up. Return the fields of the reservation, and the response to the look-up."""
    quote = await implementation.reserve(path=path)
    response = await implementation.look_up(quote.uuid, quote.request)
    return quote.response.object, response


@CHECKS.add("look-up.same-quote", "§IV Notes, second", needs=RESERVED)
async def look_up_same_quote(implementation: Implementation) -> None:
    """GET /v1/quote/{uuid} returns the reserved quote: the same uuid, amount and expires.

    The source leaves it open whether this method exists.
    """
    reserved, response = await looked_up(implementation)
    if response.status in ABSENT:
        raise Skip(f"The implementation has no look-up ({response.status}). The source leaves it open.")
    ensure_success(response, "The look-up")
    for name in ("uuid", "amount", "expires"):
        if response.object.get(name) != reserved[name]:
            found = cut(repr(response.object.get(name)), 80)
            raise Fault(
                f'"{name}" was {cut(repr(reserved[name]), 80)} when it was reserved and is {found} now.'
            )


@CHECKS.add("look-up.unknown", "§IV Notes, second", needs=["look-up.same-quote"])
async def look_up_unknown(implementation: Implementation) -> None:
    """A look-up of an unknown uuid is an error."""
    response = await implementation.look_up(str(uuid4()), implementation.request())
    ensure_error(response, "A look-up of an unknown uuid")
