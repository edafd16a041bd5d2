"""A payee in memory that keeps every check of the conformance kit. Each method is something that a test can break."""

import json
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, Final
from uuid import UUID, uuid4

from aiohttp import web

from dfsp_quotes.conformance import Clock, Options, Report, Role, run
from support.messages import KEY, QUOTE
from support.model import OTHER, TEST, Refused, caller_of, envelope, key_of, object_of, timeout_of
from support.serving import SECONDS, listening

CENT: Final = Decimal("0.01")
RULES: Final = {
    "amount": r"(0|[1-9][0-9]{0,15})(\.[0-9]{1,2})?",
    "currencyCode": r"[A-Z]{3}",
    "currencySymbol": r".{1,8}",
    "account": r"https?://.+",
    "identifier": r".{1,128}",
    "identifierType": r"[a-z0-9_-]{1,32}",
    "transferType": r"[A-Za-z0-9_-]{1,32}",
}
LIFETIME: Final = "X-Quote-Lifetime-Ms"
MAX_LIFETIME_MS: Final = 86_400_000
LONG: Final = 600
"""More seconds than quotes live, since the clock moves only when the kit waits."""


chosen_lifetime: ContextVar[timedelta | None] = ContextVar("chosen_lifetime")
"""The lifetime that the request of this task asks for."""


@dataclass
class Stored:
    uuid: str
    caller: str
    operation: str
    request: dict[str, str]
    source: Decimal
    destination: Decimal
    created: datetime
    expires: datetime
    lifetime: timedelta | None
    payment: bytes | None = None
    executed: str | None = None
    released: str | None = None

    @property
    def reply(self) -> dict[str, Any]:
        amount = self.source if self.operation == "quoteSourceAmount" else self.destination
        return {"amount": str(amount), "expires": in_json(self.expires), "uuid": self.uuid}


def in_json(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def comparable(request: dict[str, str]) -> dict[str, object]:
    return {**request, "amount": Decimal(request["amount"])}


class ModelPayee:
    """The right payee. Fees are 10 % of the destination amount, rounded up."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.quotes: dict[str, Stored] = {}
        self.keys: dict[tuple[str, str], Stored] = {}

    def app(self) -> web.Application:
        app = web.Application(middlewares=[envelope])
        for operation in ("quoteSourceAmount", "quoteDestinationAmount"):
            app.router.add_post(f"/v1/{operation}", self.handle_reservation)
        app.router.add_put("/v1/payments/{uuid}", self.handle_payment)
        app.router.add_get("/v1/quote/{uuid}", self.handle_look_up, allow_head=False)
        app.router.add_delete("/v1/quote/{uuid}", self.handle_release)
        return app

    # reserve

    async def handle_reservation(self, request: web.Request) -> web.Response:
        caller, key = caller_of(request), key_of(request)
        timeout_of(request)
        chosen_lifetime.set(self.lifetime_of(request))
        body = self.checked(await request.read())
        operation = request.path.removeprefix("/v1/")
        quote = await self.reserved(caller, key, operation, body)
        return web.json_response(self.reservation_reply(quote), headers={KEY: key})

    def reservation_reply(self, quote: Stored) -> dict[str, Any]:
        return quote.reply

    def lifetime_of(self, request: web.Request) -> timedelta | None:
        given = request.headers.get(LIFETIME)
        if given is None:
            return None
        if not re.fullmatch(r"0*[1-9][0-9]{0,14}", given, re.ASCII) or int(given) > MAX_LIFETIME_MS:
            raise Refused(
                400, "InvalidHeaderError", message=f"{LIFETIME} must be from 1 to {MAX_LIFETIME_MS}."
            )
        return timedelta(milliseconds=int(given))

    def checked(self, body: bytes) -> dict[str, str]:
        """Return the seven fields. Raises Refused with all fields that are wrong."""
        found = object_of(body)
        wrong = [name for name in found if name not in RULES]
        for name, rule in RULES.items():
            value = found.get(name)
            if not isinstance(value, str) or not re.fullmatch(rule, value, re.ASCII):
                wrong.append(name)
        if "amount" not in wrong and Decimal(found["amount"]) == 0:
            wrong.append("amount")
        if wrong:
            raise Refused(400, "InvalidBodyError", wrong)
        return found

    async def reserved(self, caller: str, key: str, operation: str, body: dict[str, str]) -> Stored:
        known = self.keys.get((caller, key))
        if known is None:
            known = self.keys[caller, key] = self.new_quote(caller, operation, body)
        self.ensure_same_request(known, operation, body)
        return known

    def ensure_same_request(self, known: Stored, operation: str, body: dict[str, str]) -> None:
        asked = operation, comparable(body), chosen_lifetime.get()
        if (known.operation, comparable(known.request), known.lifetime) != asked:
            raise Refused(422, "IdempotencyKeyReusedError")

    def new_quote(self, caller: str, operation: str, body: dict[str, str]) -> Stored:
        amount = Decimal(body["amount"]).quantize(CENT)
        if operation == "quoteSourceAmount":
            source, destination = self.source_amount(amount), amount
        else:
            source, destination = amount, self.destination_amount(amount)
        now = self.clock.now()
        uuid = self.new_uuid(body)
        expires, lifetime = self.expiry(now), chosen_lifetime.get()
        quote = Stored(uuid, caller, operation, body, source, destination, now, expires, lifetime)
        self.quotes[uuid] = quote
        return quote

    def new_uuid(self, _body: dict[str, str]) -> str:
        return str(uuid4())

    def expiry(self, now: datetime) -> datetime:
        return now + (chosen_lifetime.get() or timedelta(minutes=5))

    def source_amount(self, destination: Decimal) -> Decimal:
        return destination + (destination / 10).quantize(CENT, ROUND_CEILING)

    def destination_amount(self, source: Decimal) -> Decimal:
        """Return the largest amount whose source amount is not larger than this one."""
        found = (source / Decimal("1.1")).quantize(CENT, ROUND_FLOOR) + 2 * CENT
        while self.source_amount(found) > source:
            found -= CENT
        return found

    # execute

    async def handle_payment(self, request: web.Request) -> web.Response:
        caller = caller_of(request)
        body = self.checked(await request.read())
        quote = self.find(request, caller)
        wrong = self.differences(quote, body)
        if wrong:
            raise Refused(409, "QuoteMismatchError", wrong)
        return web.Response(body=await self.paid(quote), content_type="application/json")

    def find(self, request: web.Request, caller: str) -> Stored:
        quote = self.quotes.get(str(UUID(request.match_info["uuid"])))
        allows = self.may_release if request.method == "DELETE" else self.may_see
        if quote is None or not allows(quote, caller):
            raise Refused(404, "QuoteNotFoundError")
        return quote

    def may_see(self, quote: Stored, caller: str) -> bool:
        return quote.caller == caller

    def differences(self, quote: Stored, body: dict[str, str]) -> list[str]:
        reserved, given = comparable(quote.request), comparable(body)
        return [name for name in QUOTE if reserved[name] != given[name]]

    async def paid(self, quote: Stored) -> bytes:
        if quote.payment is None:
            self.ensure_not_released(quote)
            self.ensure_not_expired(quote)
            quote.payment = self.payment(quote)
        return quote.payment

    def ensure_not_released(self, quote: Stored) -> None:
        if quote.released:
            raise Refused(410, "QuoteReleasedError")

    def ensure_not_expired(self, quote: Stored) -> None:
        if self.clock.now() >= quote.expires:
            raise Refused(410, "QuoteExpiredError")

    def payment(self, quote: Stored) -> bytes:
        quote.executed = in_json(self.clock.now())
        return json.dumps(
            {
                "uuid": quote.uuid,
                "state": "EXECUTED",
                "sourceAmount": str(quote.source),
                "destinationAmount": str(quote.destination),
                "fee": str(quote.source - quote.destination),
                "executed": quote.executed,
            }
        ).encode()

    # release

    def may_release(self, quote: Stored, caller: str) -> bool:
        return quote.caller == caller

    async def handle_release(self, request: web.Request) -> web.Response:
        quote = self.find(request, caller_of(request))
        if quote.released is None:
            self.ensure_releasable(quote)
            quote.released = in_json(self.clock.now())
        return web.json_response(self.release_reply(quote))

    def ensure_releasable(self, quote: Stored) -> None:
        if quote.payment is not None:
            raise Refused(409, "QuoteExecutedError")
        self.ensure_not_expired(quote)

    def release_reply(self, quote: Stored) -> dict[str, Any]:
        return {"uuid": quote.uuid, "state": "RELEASED", "released": quote.released}

    # look up

    async def handle_look_up(self, request: web.Request) -> web.Response:
        return web.json_response(self.look_up_reply(self.find(request, caller_of(request))))

    def look_up_reply(self, quote: Stored) -> dict[str, Any]:
        return {
            **self.reservation_reply(quote),
            "state": self.state(quote),
            "operation": quote.operation,
            "sourceAmount": str(quote.source),
            "destinationAmount": str(quote.destination),
            "fee": str(quote.source - quote.destination),
            "created": in_json(quote.created),
            "executed": quote.executed,
            "released": quote.released,
            "request": quote.request,
            "explanation": self.explanation(quote),
        }

    def state(self, quote: Stored) -> str:
        if quote.executed:
            return "EXECUTED"
        if quote.released:
            return "RELEASED"
        return "EXPIRED" if self.clock.now() >= quote.expires else "RESERVED"

    def explanation(self, quote: Stored) -> dict[str, Any]:
        return {
            "schedule": "a" * 64,
            "rule": {name: quote.request[name] for name in ("transferType", "currencyCode")},
            "step": {"from": "0.01", "to": "1000000.00", "flat": "0.00", "percent": "10"},
            "least": "0.00",
            "most": None,
            "rounding": "up",
            "unrounded": str(quote.destination / 10),
        }


async def restarted() -> None:
    """The model keeps its quotes in memory, so nothing happens at a restart."""


async def check_payee(
    payee: ModelPayee, role: Role = Role.PAYEE, restart: Callable[[], Awaitable[None]] = restarted
) -> Report:
    """Run all checks of the conformance kit against a payee."""
    async with listening(web.AppRunner(payee.app(), access_log=None, shutdown_timeout=0.1)) as url:
        options = Options(
            url, TEST, role, second_caller=OTHER, timeout=SECONDS, max_wait=LONG, restart=restart
        )
        return await run(options, clock=payee.clock)
