"""The messages of the payee and of a whole network, as wire.md has them (§2, §3, §4)."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final
from uuid import uuid4

from aiohttp import hdrs

from dfsp_quotes.conformance.check import Checks
from dfsp_quotes.conformance.checks.expectations import ensure_error_objects, expect
from dfsp_quotes.conformance.checks.expiry import expired_quotes
from dfsp_quotes.conformance.checks.payee import ACCEPTED, RESERVED
from dfsp_quotes.conformance.implementation import SOURCE, Implementation, decimal, time
from dfsp_quotes.conformance.options import ENDS, Part
from dfsp_quotes.conformance.result import Fault, Skip, cut
from dfsp_quotes.conformance.wire import TIMEOUT_MS, TRACE, Response, basic, encode

CHECKS: Final = Checks(Part.PROMISES, ENDS)


# look-up


@CHECKS.add(
    "look-up.reply",
    "wire.md §2 Look up",
    needs=["look-up.same-quote", "reserve.uuid-unique", "transfer.reply"],
)
async def look_up_reply(implementation: Implementation) -> None:
    """A look-up shows the state, the operation, all amounts, created, executed and the request as it was written."""
    quote = await implementation.reserve()
    before = (await implementation.look_up(quote.uuid, quote.request)).object
    await implementation.execute(quote.uuid, quote.request)
    after = (await implementation.look_up(quote.uuid, quote.request)).object
    expected = {
        "state": "RESERVED",
        "operation": "quoteSourceAmount",
        "sourceAmount": quote.text("amount"),
        "destinationAmount": quote.request["amount"],
        "executed": None,
        "request": dict(quote.request),
    }
    for name, value in expected.items():
        if name not in before or before[name] != value:
            raise Fault(f'"{name}" is {cut(repr(before.get(name)), 100)}, not {cut(repr(value), 100)}.')
    if decimal(before.get("fee"), "fee") != quote.amount - Decimal(quote.request["amount"]):
        raise Fault(f'"fee" is {before["fee"]}.')
    _ = time(before.get("created"), "created")
    if after.get("state") != "EXECUTED":
        raise Fault(f'After the transfer "state" is {cut(repr(after.get("state")), 80)}, not EXECUTED.')
    _ = time(after.get("executed"), "executed")


@CHECKS.add("look-up.expired", "wire.md §2 Look up", needs=["look-up.reply", "transfer.expired"])
async def look_up_expired(implementation: Implementation) -> None:
    """After "expires" a look-up shows EXPIRED, or EXECUTED for a quote that was executed in time."""
    quotes = await expired_quotes(implementation)
    for quote, state in ((quotes.late, "EXPIRED"), (quotes.paid, "EXECUTED")):
        found = (await implementation.look_up(quote.uuid, quote.request)).object.get("state")
        if found != state:
            raise Fault(f'"state" is {cut(repr(found), 80)}, not {state}.')


@CHECKS.add("look-up.unknown-error", "wire.md §4 QuoteNotFoundError", needs=["look-up.unknown"])
async def look_up_unknown_error(implementation: Implementation) -> None:
    """A look-up of an unknown uuid gets 404 QuoteNotFoundError."""
    reply = await implementation.look_up(str(uuid4()), implementation.request())
    expect(reply, 404, "QuoteNotFoundError")


# messages, headers, credentials


@CHECKS.add("message.reply-fields", "wire.md §2 Reserve", needs=["reserve.reply"])
async def message_reply_fields(implementation: Implementation) -> None:
    """The reply has "amount", "expires" and "uuid" and no other field; "expires" has milliseconds."""
    quote = await implementation.reserve()
    if set(quote.response.object) != {"amount", "expires", "uuid"}:
        raise Fault(f"The reply has the fields {cut(', '.join(quote.response.object), 200)}.")
    if len(quote.text("expires").partition(".")[2]) != len("561Z"):
        raise Fault(f'"expires" is {cut(quote.text("expires"), 80)}, which is not in milliseconds.')


@CHECKS.add("message.bad-amount", "wire.md §2 Reserve", needs=RESERVED)
async def message_bad_amount(implementation: Implementation) -> None:
    """An amount that is no plain positive decimal string gets 400 InvalidBodyError that names "amount"."""
    for amount in (12.5, "12,50", "1e3", "1_000", " 12", "0.00", "-1", "+1", "٣", "12.50\n", "", "1" * 19):
        body: Mapping[str, object] = {**implementation.request(), "amount": amount}
        reply = await implementation.send("POST", SOURCE, body)
        ensure_names(reply, {"amount"})


@CHECKS.add("message.faults-at-once", "wire.md §2 Reserve, §4", needs=RESERVED)
async def message_faults_at_once(implementation: Implementation) -> None:
    """Missing, wrong and unknown fields get one 400 InvalidBodyError that names all of them."""
    body: dict[str, object] = {
        **implementation.request(),
        "currencyCode": "usd",
        "account": "bob",
        "extra": "1",
    }
    del body["currencySymbol"]
    reply = await implementation.send("POST", SOURCE, body)
    ensure_names(reply, {"currencyCode", "account", "extra", "currencySymbol"})


def ensure_names(reply: Response, fields: set[str]) -> None:
    expect(reply, 400, "InvalidBodyError")
    if reply.faulty_fields != fields:
        named = cut(", ".join(sorted(reply.faulty_fields)), 200) or "no field"
        raise Fault(f"validationErrors names {named}, not {', '.join(sorted(fields))}.")


@CHECKS.add("message.not-json", "wire.md §4", needs=RESERVED)
async def message_not_json(implementation: Implementation) -> None:
    """A body that is no JSON object, is not UTF-8 or has a key twice gets 400 InvalidBodyError."""
    text = encode(implementation.request())
    for body in (
        b"{",
        b"[]",
        b"null",
        b'"text"',
        text[:-1] + b', "amount": "1.00"}',
        text[:-2] + b'\xff"}',
        b"",
    ):
        expect(await implementation.send("POST", SOURCE, body), 400, "InvalidBodyError")


@CHECKS.add("headers.bad-timeout", "wire.md §3 X-Request-Timeout-Ms", needs=RESERVED)
async def headers_bad_timeout(implementation: Implementation) -> None:
    """A time that is not digits, or is 0, gets 400 InvalidHeaderError."""
    for value in ("abc", "0", "-5", "1.5"):
        reply = await implementation.post(implementation.request(), headers={TIMEOUT_MS: value})
        expect(reply, 400, "InvalidHeaderError")


@CHECKS.add("trace.returned", "wire.md §3 L1p-Trace-Id", needs=[*RESERVED, "transfer.unknown"])
async def trace_returned(implementation: Implementation) -> None:
    """A trace id is on the reply and in the error object; a request without one gets one."""
    trace = str(uuid4())
    replies = [
        await implementation.post(implementation.request(), headers={TRACE: trace}),
        await implementation.execute(str(uuid4()), implementation.request(), headers={TRACE: trace}),
    ]
    if any(each.headers.get(TRACE) != trace for each in replies):
        raise Fault("The trace id of the request is not on the reply.")
    if replies[1].object.get("traceId") != trace:
        raise Fault(
            f'"traceId" of the error is {cut(repr(replies[1].object.get("traceId")), 80)}, not {trace}.'
        )
    if not (await implementation.post(implementation.request())).headers.get(TRACE):
        raise Fault("The reply to a request without a trace id has none.")


@CHECKS.add("credentials.required", "wire.md §3 Authorization, §7 promise 6")
async def credentials_required(implementation: Implementation) -> None:
    """A request without credentials, or with wrong ones, gets 401 UnauthorizedError with WWW-Authenticate."""
    for wrong in (None, "Basic bm9ib2R5Om5vdGhpbmc=", "Bearer abc"):
        reply = await implementation.post(implementation.request(), headers={hdrs.AUTHORIZATION: wrong})
        expect(reply, 401, "UnauthorizedError")
        if hdrs.WWW_AUTHENTICATE not in reply.headers:
            raise Fault("The reply lacks WWW-Authenticate.")


@CHECKS.add("credentials.other-caller", "wire.md §4 QuoteNotFoundError", needs=ACCEPTED)
async def credentials_other_caller(implementation: Implementation) -> None:
    """Another caller can neither pay nor look up a quote: 404 QuoteNotFoundError."""
    other = implementation.options.second_caller
    if other is None:
        raise Skip("The kit has no second caller. Use --second-user.")
    quote = await implementation.reserve()
    headers = {"Authorization": basic(other)}
    for send in (implementation.execute, implementation.look_up):
        expect(await send(quote.uuid, quote.request, headers), 404, "QuoteNotFoundError")


@CHECKS.add("errors.object", "wire.md §4")
async def errors_object(implementation: Implementation) -> None:
    """A wrong path gets 404 and a wrong method 405, each with the error object: id, message, service and traceId."""
    await ensure_error_objects(implementation)
