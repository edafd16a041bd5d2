"""Payees that break a stronger promise: each fails the check of this promise, and no other."""

import json
from datetime import timedelta

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Part, Role, text
from dfsp_quotes.conformance.checks import CATALOGUE
from support.messages import KEY, TRACE
from support.model import TIMEOUT_MS, Refused, StillClock, caller_of, turns
from support.model_payee import (
    CENT,
    LIFETIME,
    MAX_LIFETIME_MS,
    ModelPayee,
    check_payee,
    chosen_lifetime,
    in_json,
)


class IgnoresKeys(ModelPayee):
    async def reserved(self, caller, key, operation, body):
        return self.new_quote(caller, operation, body)


class AcceptsAKeyForAnyRequest(ModelPayee):
    def ensure_same_request(self, known, operation, body):
        pass


class ForgetsKeysOfPaidQuotes(ModelPayee):
    async def paid(self, quote):
        self.keys = {key: each for key, each in self.keys.items() if each is not quote}
        return await super().paid(quote)


class ForgetsKeysOfExpiredQuotes(ModelPayee):
    async def reserved(self, caller, key, operation, body):
        known = self.keys.get((caller, key))
        if known and self.clock.now() >= known.expires:
            del self.keys[caller, key]
        return await super().reserved(caller, key, operation, body)


class PaysAtTheInstant(ModelPayee):
    def ensure_not_expired(self, quote):
        if self.clock.now() > quote.expires:
            raise Refused(410, "QuoteExpiredError")


class SaysThatNothingWasCharged(ModelPayee):
    def payment(self, quote):
        return json.dumps({**json.loads(super().payment(quote)), "fee": "0.00"}).encode()


class ForgetsPaymentsAtExpiry(ModelPayee):
    async def paid(self, quote):
        self.ensure_not_expired(quote)
        return await super().paid(quote)


class PaysAnewEachTime(ModelPayee):
    """Each repetition executes the quote once more."""

    count = 0

    def payment(self, quote):
        self.count += 1
        payment = json.loads(super().payment(quote))
        return json.dumps(
            {**payment, "executed": in_json(self.clock.now() + timedelta(milliseconds=self.count))}
        ).encode()

    async def paid(self, quote):
        self.ensure_not_released(quote)
        self.ensure_not_expired(quote)
        return self.payment(quote)


class ACentTooLittleFrom13(ModelPayee):
    def destination_amount(self, source):
        return super().destination_amount(source) - (CENT if source >= 13 else 0)


class ACentTooLittle(ModelPayee):
    def destination_amount(self, source):
        right = super().destination_amount(source)
        return right if self.source_amount(right) == source else right - CENT


class AnyStatusForErrors(ModelPayee):
    def differences(self, quote, body):
        if super().differences(quote, body):
            raise Refused(400, "BadRequest")
        return []


class NamesOneFault(ModelPayee):
    def checked(self, body):
        try:
            return super().checked(body)
        except Refused as refused:
            refused.fields = refused.fields[:1]
            raise


class AcceptsExponents(ModelPayee):
    def checked(self, body):
        return super().checked(body.replace(b'"1e3"', b'"1000"'))


class ShowsQuotesToEveryone(ModelPayee):
    def may_see(self, quote, caller):
        return True


class ChecksNoPasswords(ModelPayee):
    async def handle_reservation(self, request):
        try:
            caller_of(request)
        except Refused:
            return web.json_response({})
        return await super().handle_reservation(request)


class AddsAField(ModelPayee):
    def reservation_reply(self, quote):
        return {**quote.reply, "fee": "1.25"}


class NeverSaysExpired(ModelPayee):
    def look_up_reply(self, quote):
        found = super().look_up_reply(quote)
        return {**found, "state": "RESERVED" if found["state"] == "EXPIRED" else found["state"]}


class RacesForAKey(ModelPayee):
    async def reserved(self, caller, key, operation, body):
        if (caller, key) not in self.keys:
            await turns()
            self.keys[caller, key] = self.new_quote(caller, operation, body)
        return await super().reserved(caller, key, operation, body)


class RacesForAnExecution(PaysAnewEachTime):
    async def paid(self, quote):
        if quote.payment is None:
            self.ensure_not_released(quote)
            self.ensure_not_expired(quote)
            await turns()
            quote.payment = self.payment(quote)
        return quote.payment


class SharesTheRequest(ModelPayee):
    """Keeps the request that is being answered where another one replaces it."""

    async def reserved(self, caller, key, operation, body):
        self.body = body
        if (caller, key) not in self.keys and key.count("-") == 4:
            await turns()
        return await super().reserved(caller, key, operation, self.body)


class ReturnsNoKey(ModelPayee):
    async def handle_reservation(self, request):
        response = await super().handle_reservation(request)
        del response.headers[KEY]
        return response


class TakesAnyKey(ModelPayee):
    async def handle_reservation(self, request):
        key = request.headers.get(KEY, "")
        if len(key) > 128 or " " in key:
            request = request.clone(headers={**request.headers, KEY: "k"})
        return await super().handle_reservation(request)


class ForgetsExpiredQuotes(ModelPayee):
    def ensure_not_expired(self, quote):
        if self.clock.now() >= quote.expires:
            raise Refused(404, "QuoteNotFoundError")


class PaymentsOfUnknownQuotesAreBad(ModelPayee):
    async def handle_payment(self, request):
        if request.match_info["uuid"] not in self.quotes:
            raise Refused(400, "InvalidUriParameterError")
        return await super().handle_payment(request)


class LookUpsOfUnknownQuotesAreBad(ModelPayee):
    async def handle_look_up(self, request):
        if request.match_info["uuid"] not in self.quotes:
            raise Refused(400, "InvalidUriParameterError")
        return await super().handle_look_up(request)


class LooksUpNoState(ModelPayee):
    def look_up_reply(self, quote):
        return {name: value for name, value in super().look_up_reply(quote).items() if name != "state"}


class TakesTheLastOfTwoKeys(ModelPayee):
    def checked(self, body):
        try:
            return super().checked(json.dumps(json.loads(body)).encode())
        except ValueError:
            raise Refused(400, "InvalidBodyError") from None


class IgnoresTheTimeout(ModelPayee):
    async def handle_reservation(self, request):
        return await super().handle_reservation(request.clone(headers=without(request, TIMEOUT_MS)))


def without(request, name):
    return {key: value for key, value in request.headers.items() if key != name}


class ReturnsItsOwnTrace(ModelPayee):
    def app(self):
        app = super().app()

        async def replace(_request, response):
            response.headers[TRACE] = "its-own"

        app.on_response_prepare.append(replace)
        return app


class AnswersWrongPathsInText(ModelPayee):
    def app(self):
        app = super().app()
        app.router.add_get("/v1/nowhere", self.nowhere)
        return app

    async def nowhere(self, _request):
        return web.Response(text="404: Not Found", status=404)


class ReleasesAnewEachTime(ModelPayee):
    count = 0

    def release_reply(self, quote):
        self.count += 1
        return {
            **super().release_reply(quote),
            "released": in_json(self.clock.now() + timedelta(seconds=self.count)),
        }


class LooksReleasedQuotesUpAsReserved(ModelPayee):
    def state(self, quote):
        return "RESERVED" if quote.released else super().state(quote)


class LetsEveryoneRelease(ModelPayee):
    def may_release(self, quote, caller):
        return True


class ReleasesPaidQuotes(ModelPayee):
    def ensure_releasable(self, quote):
        self.ensure_not_expired(quote)


class ReleasesExpiredQuotes(ModelPayee):
    def ensure_releasable(self, quote):
        if quote.payment is not None:
            raise Refused(409, "QuoteExecutedError")


class PaysReleasedQuotes(ModelPayee):
    def ensure_not_released(self, quote):
        pass


class ForgetsKeysOfReleasedQuotes(ModelPayee):
    async def reserved(self, caller, key, operation, body):
        self.keys = {key: each for key, each in self.keys.items() if not each.released}
        return await super().reserved(caller, key, operation, body)


class RacesForAnExecutionOrARelease(ModelPayee):
    """Looks whether a quote was paid, and releases it a moment later."""

    async def handle_release(self, request):
        quote = self.find(request, caller_of(request))
        if quote.released is None:
            self.ensure_releasable(quote)
            await turns()
            quote.released = quote.released or in_json(self.clock.now())
        return web.json_response(self.release_reply(quote))


class ChoosesTheLifetimeItself(ModelPayee):
    def expiry(self, now):
        return now + timedelta(minutes=5)


class CutsLongLifetimes(ModelPayee):
    def lifetime_of(self, request):
        given = request.headers.get(LIFETIME, "")
        if given.isdigit() and int(given) > MAX_LIFETIME_MS:
            return timedelta(milliseconds=MAX_LIFETIME_MS)
        return super().lifetime_of(request)


class GivesAKeyAnotherLifetime(ModelPayee):
    def ensure_same_request(self, known, operation, body):
        chosen_lifetime.set(known.lifetime)
        super().ensure_same_request(known, operation, body)


class ExplainsTheFeeOfAnotherRate(ModelPayee):
    def explanation(self, quote):
        found = super().explanation(quote)
        return {
            **found,
            "step": {**found["step"], "percent": "9"},
            "unrounded": str(quote.destination * 9 / 100),
        }


class RoundsInAnotherWayThanItExplains(ModelPayee):
    def explanation(self, quote):
        return {**super().explanation(quote), "unrounded": str(quote.destination / 10 + CENT)}


PROMISES = {
    ReleasesAnewEachTime: "release.reply",
    LooksReleasedQuotesUpAsReserved: "release.look-up",
    LetsEveryoneRelease: "release.unknown-error",
    ReleasesPaidQuotes: "release.executed-error",
    ReleasesExpiredQuotes: "release.expired-error",
    PaysReleasedQuotes: "release.then-execute",
    ForgetsKeysOfReleasedQuotes: "release.same-key",
    RacesForAnExecutionOrARelease: "concurrency.executed-or-released",
    ChoosesTheLifetimeItself: "lifetime.kept",
    CutsLongLifetimes: "lifetime.bad-header",
    GivesAKeyAnotherLifetime: "lifetime.same-key",
    ExplainsTheFeeOfAnotherRate: "explanation.fee",
    RoundsInAnotherWayThanItExplains: "explanation.fee",
    ReturnsNoKey: "idempotency.key-returned",
    TakesAnyKey: "idempotency.bad-key",
    ForgetsExpiredQuotes: "expiry.error",
    PaymentsOfUnknownQuotesAreBad: "transfer.unknown-error",
    LookUpsOfUnknownQuotesAreBad: "look-up.unknown-error",
    LooksUpNoState: "look-up.reply",
    TakesTheLastOfTwoKeys: "message.not-json",
    IgnoresTheTimeout: "headers.bad-timeout",
    ReturnsItsOwnTrace: "trace.returned",
    AnswersWrongPathsInText: "errors.object",
    ACentTooLittleFrom13: "inverse.exact",
    IgnoresKeys: "idempotency.same-key",
    AcceptsAKeyForAnyRequest: "idempotency.other-request",
    ForgetsKeysOfPaidQuotes: "idempotency.after-execution",
    ForgetsKeysOfExpiredQuotes: "idempotency.after-expiry",
    PaysAtTheInstant: "expiry.at-the-instant",
    ForgetsPaymentsAtExpiry: "expiry.executed-stays",
    SaysThatNothingWasCharged: "transfer.reply",
    PaysAnewEachTime: "transfer.repeat",
    ACentTooLittle: "inverse.largest",
    AnyStatusForErrors: "transfer.mismatch-error",
    NamesOneFault: "message.faults-at-once",
    AcceptsExponents: "message.bad-amount",
    ShowsQuotesToEveryone: "credentials.other-caller",
    ChecksNoPasswords: "credentials.required",
    AddsAField: "message.reply-fields",
    NeverSaysExpired: "look-up.expired",
    RacesForAKey: "concurrency.one-quote-for-a-key",
    RacesForAnExecution: "concurrency.executed-once",
    SharesTheRequest: "concurrency.own-terms",
}


@pytest.mark.parametrize(("wrong", "check"), PROMISES.items(), ids=[each.__name__ for each in PROMISES])
async def test_a_payee_that_breaks_a_promise_fails_this_check_and_no_other(wrong, check):
    report = await check_payee(wrong(StillClock()))

    assert {check} == report.failed, text(report)
    assert 3 == report.exit_code


def test_each_check_of_this_part_has_a_payee_that_breaks_it():
    checks = {each.id for each in CATALOGUE if Role.PAYEE in each.roles and each.part is Part.PROMISES}

    assert checks == set(PROMISES.values())
