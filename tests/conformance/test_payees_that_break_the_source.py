"""Payees that break the source in one thing: each fails the check of this thing, and no other."""

import json
from datetime import timedelta
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Outcome, Part, Role, text
from dfsp_quotes.conformance.checks import CATALOGUE
from support.model import Refused, StillClock
from support.model_payee import CENT, ModelPayee, check_payee, in_json, restarted


@pytest.mark.parametrize("role", [Role.PAYEE, Role.NETWORK])
async def test_the_right_payee_passes_every_check(role):
    report = await check_payee(ModelPayee(StillClock()), role)

    assert {Outcome.PASSED} == {each.outcome for each in report.results}, text(report)
    assert 0 == report.exit_code


class StartsSlowly(ModelPayee):
    refusals = 0

    async def restart(self):
        self.refusals = 3

    async def paid(self, quote):
        if self.refusals:
            self.refusals -= 1
            raise Refused(503, "UnavailableError")
        return await super().paid(quote)


async def test_a_payee_may_need_time_to_start():
    payee = StartsSlowly(StillClock())
    report = await check_payee(payee, restart=payee.restart)

    assert frozenset() == report.failed
    assert 0 == payee.refusals


class StartsTooLate(ModelPayee):
    async def restart(self):
        await self.clock.sleep_until(self.clock.now() + timedelta(minutes=5))


async def test_whether_a_quote_that_expires_during_a_restart_is_kept_cannot_be_checked():
    payee = StartsTooLate(StillClock())
    report = await check_payee(payee, restart=payee.restart)

    assert {"persistence.restart"} == {each.id for each in report.results if each.outcome is Outcome.SKIPPED}
    assert frozenset() == report.failed


class NeverStarts(StartsSlowly):
    async def restart(self):
        self.refusals = 1_000_000


async def test_a_payee_that_does_not_start_is_not_waited_for_for_ever():
    payee = NeverStarts(StillClock())
    report = await check_payee(payee, restart=payee.restart)

    assert "persistence.restart" in report.failed


class AmountIsANumber(ModelPayee):
    def reservation_reply(self, quote):
        return {**quote.reply, "amount": float(quote.reply["amount"])}


class ExpiresInThePast(ModelPayee):
    def reservation_reply(self, quote):
        return {**quote.reply, "expires": in_json(quote.created - timedelta(minutes=5))}


class LacksExpires(ModelPayee):
    def reservation_reply(self, quote):
        return {name: value for name, value in quote.reply.items() if name != "expires"}


class DestinationsLackTheUuid(ModelPayee):
    def reservation_reply(self, quote):
        is_destination = quote.operation == "quoteDestinationAmount"
        return {name: value for name, value in quote.reply.items() if not is_destination or name != "uuid"}


class PaysNoDestinations(ModelPayee):
    async def paid(self, quote):
        if quote.operation == "quoteDestinationAmount":
            raise Refused(422, "NotSupportedError")
        return await super().paid(quote)


class UuidIsANumber(ModelPayee):
    def reservation_reply(self, quote):
        return {**quote.reply, "uuid": str(int(quote.uuid.replace("-", ""), 16))}


class OneUuidForOneBody(ModelPayee):
    def new_uuid(self, body):
        return str(uuid5(NAMESPACE_URL, json.dumps(body)))

    def new_quote(self, caller, operation, body):
        known = self.quotes.get(self.new_uuid(body))
        return known if known and known.operation == operation else super().new_quote(caller, operation, body)


class NegativeFee(ModelPayee):
    def source_amount(self, destination):
        return destination - CENT


class RefusesEveryTransfer(ModelPayee):
    async def paid(self, quote):
        raise Refused(410, "QuoteExpiredError")


class KeepsOneQuote(ModelPayee):
    def new_quote(self, caller, operation, body):
        self.quotes = {uuid: quote for uuid, quote in self.quotes.items() if quote.payment}
        return super().new_quote(caller, operation, body)


class ForgetsAtARestart(ModelPayee):
    async def restart(self):
        self.quotes.clear()


class PaysUnknownQuotes(ModelPayee):
    async def handle_payment(self, request):
        if request.match_info["uuid"] not in self.quotes:
            return web.json_response({"state": "EXECUTED"})
        return await super().handle_payment(request)


class PaysExpiredQuotes(ModelPayee):
    def ensure_not_expired(self, quote):
        pass


class IgnoresAField(ModelPayee):
    field = ""

    def differences(self, quote, body):
        return [name for name in super().differences(quote, body) if name != self.field]


class IgnoresTheAmount(IgnoresAField):
    field = "amount"


class IgnoresTheCurrency(IgnoresAField):
    field = "currencyCode"


class IgnoresTheAccount(IgnoresAField):
    field = "account"


class IgnoresTheIdentifier(IgnoresAField):
    field = "identifier"


class IgnoresTheTransferType(IgnoresAField):
    field = "transferType"


class AddsTheFeeToDestinations(ModelPayee):
    def destination_amount(self, source):
        return self.source_amount(source)


class TakesTheFeeOfTheSourceAmount(ModelPayee):
    def destination_amount(self, source):
        return (source * Decimal("0.9")).quantize(CENT)


class LooksUpAnotherAmount(ModelPayee):
    def look_up_reply(self, quote):
        return {**super().look_up_reply(quote), "amount": quote.request["amount"]}


class LooksUpUnknownQuotes(ModelPayee):
    async def handle_look_up(self, request):
        if request.match_info["uuid"] not in self.quotes:
            return web.json_response({})
        return await super().handle_look_up(request)


class ReadsJsonTypesAlone(ModelPayee):
    async def handle_reservation(self, request):
        if request.content_type != "application/json":
            raise Refused(415, "UnsupportedMediaTypeError")
        return await super().handle_reservation(request)


SOURCE = {
    LacksExpires: "reserve.reply",
    DestinationsLackTheUuid: "destination.reply",
    PaysNoDestinations: "destination.transfer",
    AmountIsANumber: "reserve.amount",
    ExpiresInThePast: "reserve.expires",
    UuidIsANumber: "reserve.uuid",
    OneUuidForOneBody: "reserve.uuid-unique",
    NegativeFee: "reserve.fee",
    RefusesEveryTransfer: "transfer.accepted",
    KeepsOneQuote: "persistence.every-quote",
    ForgetsAtARestart: "persistence.restart",
    PaysUnknownQuotes: "transfer.unknown",
    PaysExpiredQuotes: "transfer.expired",
    IgnoresTheAmount: "transfer.other-amount",
    IgnoresTheCurrency: "transfer.other-currency",
    IgnoresTheAccount: "transfer.other-receiver-account",
    IgnoresTheIdentifier: "transfer.other-identifier",
    IgnoresTheTransferType: "transfer.other-transfer-type",
    AddsTheFeeToDestinations: "destination.includes-fee",
    TakesTheFeeOfTheSourceAmount: "destination.inverse",
    LooksUpAnotherAmount: "look-up.same-quote",
    LooksUpUnknownQuotes: "look-up.unknown",
    ReadsJsonTypesAlone: "sample-call",
}


@pytest.mark.parametrize(("wrong", "check"), SOURCE.items(), ids=[each.__name__ for each in SOURCE])
async def test_a_payee_that_breaks_the_source_fails_this_check_and_no_other(wrong, check):
    payee = wrong(StillClock())
    report = await check_payee(payee, restart=getattr(payee, "restart", restarted))

    assert {check} == report.failed, text(report)
    assert 1 == report.exit_code


def test_each_check_of_this_part_has_a_payee_that_breaks_it():
    checks = {each.id for each in CATALOGUE if Role.PAYEE in each.roles and each.part is Part.SOURCE}

    assert checks == set(SOURCE.values())
