"""Hops that are wrong in one thing: each fails the check of this thing, and no other."""

import asyncio
import json
from dataclasses import replace

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Options, Outcome, Role, neighbours, run, text
from dfsp_quotes.conformance.checks import CATALOGUE
from dfsp_quotes.conformance.options import HOPS
from support.messages import KEY, TRACE, basic
from support.model import TEST, TIMEOUT_MS, Refused, caller_of
from support.model_hop import ModelHop, Reply
from support.serving import SECONDS, listening

SERVER, PROXY, CLIENT, PAYER = Role.SPSP_SERVER, Role.SPSP_CLIENT_PROXY, Role.SPSP_CLIENT, Role.PAYER


async def checked(hop: type[ModelHop], role: Role):
    async with neighbours(Options("", TEST, role)) as played:
        app = hop(role, played.next_hop.url, played.directory.url if played.directory else "").app()
        async with listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1)) as url:
            return await run(Options(url, TEST, role, timeout=SECONDS), played=played)


@pytest.mark.parametrize("role", sorted(HOPS))
async def test_the_right_hop_passes_every_check(role):
    report = await checked(ModelHop, role)

    assert {Outcome.PASSED} == {each.outcome for each in report.results}, text(report)


class CallsAnotherPath(ModelHop):
    async def sent(self, base, passing):
        return await super().sent(base, replace(passing, path=passing.path.replace("/v1/", "/v2/")))


class SendsNoContentType(ModelHop):
    async def sent(self, base, passing):
        passing.headers["Content-Type"] = "text/plain"
        return await super().sent(base, passing)


class AcceptsHtml(ModelHop):
    async def sent(self, base, passing):
        passing.headers["Accept"] = "text/html"
        return await super().sent(base, passing)


class UsesItsOwnCredentials(ModelHop):
    async def sent(self, base, passing):
        passing.headers["Authorization"] = basic("spsp-server", "secret")
        return await super().sent(base, passing)


class ShortensAmounts(ModelHop):
    async def sent(self, base, passing):
        if passing.path == "/v1/quoteSourceAmount" and passing.body["amount"] == "12.50":
            passing.body["amount"] = "12.5"
        return await super().sent(base, passing)


class RoundsTheReply(ModelHop):
    def judged(self, reply):
        found = super().judged(reply)
        content = json.loads(found.body)
        return replace(found, body=json.dumps({**content, "amount": "14"}).encode())


class HidesErrors(ModelHop):
    def judged(self, reply):
        found = super().judged(reply)
        return replace(found, status=200) if found.status == 422 and b"The kit" in found.body else found


class SendsDestinationsAsSources(ModelHop):
    async def sent(self, base, passing):
        path = passing.path.replace("quoteDestinationAmount", "quoteSourceAmount")
        return await super().sent(base, replace(passing, path=path))


class ReadsJsonTypesAlone(ModelHop):
    async def handle(self, request):
        if request.method == "POST" and request.content_type != "application/json":
            raise Refused(415, "UnsupportedMediaTypeError")
        return await super().handle(request)


class AsksForAnotherRecipient(ModelHop):
    def directory_query(self, _passing):
        return {"identifierType": "eur", "identifier": "1"}


class AsksTheDirectoryAsItself(ModelHop):
    def directory_headers(self, _passing):
        return {"Authorization": basic("proxy", "secret")}


class AddsNoSubmissionUrl(ModelHop):
    def add_submission_url(self, _passing, _receiver):
        pass


class HasOneReceiver(ModelHop):
    def receiver_in(self, found):
        super().receiver_in(found)
        return "http://spsp-server"


class SendsUnknownRecipientsOn(ModelHop):
    async def receiver(self, passing):
        try:
            return await super().receiver(passing)
        except Refused as refused:
            if refused.status == 404:
                return "http://spsp-server"
            raise


class HasOneNextHop(ModelHop):
    def take_submission_url(self, passing):
        super().take_submission_url(passing)
        return self.next_url


class KeepsTheSubmissionUrl(ModelHop):
    def take_submission_url(self, passing):
        url = passing.fields.get("submissionUrl")
        base = super().take_submission_url(passing)
        passing.fields["submissionUrl"] = url
        return base


SOURCE = {
    CallsAnotherPath: (SERVER, "hop.request"),
    SendsNoContentType: (SERVER, "hop.content-type"),
    AcceptsHtml: (SERVER, "hop.accept"),
    UsesItsOwnCredentials: (SERVER, "hop.authorization"),
    ShortensAmounts: (SERVER, "hop.body"),
    RoundsTheReply: (SERVER, "hop.reply"),
    HidesErrors: (SERVER, "hop.error"),
    SendsDestinationsAsSources: (SERVER, "hop.destination"),
    ReadsJsonTypesAlone: (SERVER, "sample-call"),
    AsksForAnotherRecipient: (PROXY, "directory.identifier"),
    AsksTheDirectoryAsItself: (PROXY, "directory.authorization"),
    AddsNoSubmissionUrl: (PROXY, "submission-url.added"),
    HasOneReceiver: (PROXY, "submission-url.from-directory"),
    SendsUnknownRecipientsOn: (PROXY, "directory.unknown"),
    HasOneNextHop: (CLIENT, "submission-url.followed"),
    KeepsTheSubmissionUrl: (CLIENT, "submission-url.removed"),
}


class WritesRepliesAnew(ModelHop):
    def judged(self, reply):
        found = super().judged(reply)
        return replace(found, body=json.dumps(json.loads(found.body)).encode())


class ChecksNoPasswords(ModelHop):
    async def handle(self, request):
        try:
            caller_of(request)
        except Refused:
            return web.json_response({})
        return await super().handle(request)


class _Drops(ModelHop):
    header = ""

    async def sent(self, base, passing):
        headers = passing.headers.copy()
        del headers[self.header]
        return await super().sent(base, replace(passing, headers=headers))


class DropsTheTrace(_Drops):
    header = TRACE


class DropsTheKey(_Drops):
    header = KEY


class DropsTheDeadline(_Drops):
    header = TIMEOUT_MS


class SaysBadGatewayAtTheDeadline(ModelHop):
    async def sent(self, base, passing):
        try:
            return await super().sent(base, passing)
        except Refused as refused:
            raise Refused(502, "UpstreamError") from refused


class BelievesEveryReply(ModelHop):
    def judged(self, reply):
        return reply


class AnswersWrongPathsInText(ModelHop):
    def app(self):
        app = super().app()
        app.router.add_get("/v1/nowhere", self.nowhere)
        return app

    async def nowhere(self, _request):
        return web.Response(text="404: Not Found", status=404)


class PassesNoPaymentsOn(ModelHop):
    async def passed_on(self, passing):
        if passing.method == "PUT":
            raise Refused(404, "NotFoundError")
        return await super().passed_on(passing)


class PassesNoReleasesOn(ModelHop):
    async def passed_on(self, passing):
        if passing.method == "DELETE":
            raise Refused(405, "MethodNotAllowedError")
        return await super().passed_on(passing)


class DropsTheLifetime(ModelHop):
    async def sent(self, base, passing):
        passing.headers.popall("X-Quote-Lifetime-Ms", None)
        return await super().sent(base, passing)


class PassesNoQueryOn(ModelHop):
    async def sent(self, base, passing):
        query = {} if passing.method == "GET" else passing.query
        return await super().sent(base, replace(passing, query=query))


class AnswersInTheOrderOfRequests(ModelHop):
    """Gives each reply to the request that waits longest, as over one connection without request ids."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.waiting: list[asyncio.Future[Reply]] = []

    async def sent(self, base, passing):
        mine = asyncio.get_running_loop().create_future()
        self.waiting.append(mine)
        try:
            reply = await super().sent(base, passing)
        except Refused:
            self.waiting.remove(mine)
            raise
        self.waiting.pop(0).set_result(reply)
        return await mine


class TakesTheFirstOfAList(ModelHop):
    def receiver_in(self, found):
        return str(found[0]["providerUrl"]) if isinstance(found, list) else super().receiver_in(found)


class TakesDirectoryErrorsForUnknown(ModelHop):
    async def receiver(self, passing):
        try:
            return await super().receiver(passing)
        except Refused as refused:
            raise Refused(404, "ReceiverNotFoundError") from refused


class NamesNoField(ModelHop):
    def take_submission_url(self, passing):
        if "submissionUrl" not in passing.fields:
            raise Refused(400, "InvalidBodyError")
        return super().take_submission_url(passing)


class GoesAnywhere(ModelHop):
    def foreign(self, url, passing):
        return url.removesuffix(passing.path)


class PayerNamesOneFault(ModelHop):
    def check(self, passing):
        try:
            super().check(passing)
        except Refused as refused:
            refused.fields = refused.fields[:1]
            raise


PROMISES = {
    WritesRepliesAnew: (SERVER, "hop.reply-bytes"),
    ChecksNoPasswords: (SERVER, "credentials.required"),
    DropsTheTrace: (SERVER, "trace.passed-on"),
    DropsTheKey: (SERVER, "idempotency.key-passed-on"),
    DropsTheDeadline: (SERVER, "deadline.passed-on"),
    SaysBadGatewayAtTheDeadline: (SERVER, "deadline.kept"),
    BelievesEveryReply: (SERVER, "errors.next-hop"),
    AnswersWrongPathsInText: (SERVER, "errors.object"),
    PassesNoPaymentsOn: (SERVER, "flow.execute"),
    PassesNoQueryOn: (SERVER, "flow.look-up"),
    PassesNoReleasesOn: (SERVER, "flow.release"),
    DropsTheLifetime: (SERVER, "lifetime.passed-on"),
    AnswersInTheOrderOfRequests: (SERVER, "concurrency.own-reply"),
    TakesTheFirstOfAList: (PROXY, "directory.list-form"),
    TakesDirectoryErrorsForUnknown: (PROXY, "directory.errors"),
    NamesNoField: (CLIENT, "submission-url.required"),
    GoesAnywhere: (CLIENT, "submission-url.foreign"),
    PayerNamesOneFault: (PAYER, "message.refused"),
}


@pytest.mark.parametrize(
    ("wrong", "role", "check", "exit_code"),
    [
        pytest.param(wrong, role, check, exit_code, id=wrong.__name__)
        for broken, exit_code in ((SOURCE, 1), (PROMISES, 3))
        for wrong, (role, check) in broken.items()
    ],
)
async def test_a_hop_that_breaks_one_thing_fails_this_check_and_no_other(wrong, role, check, exit_code):
    report = await checked(wrong, role)

    assert {check} == report.failed, text(report)
    assert exit_code == report.exit_code


def test_each_check_of_a_hop_has_a_hop_that_breaks_it():
    checks = {each.id for each in CATALOGUE if each.roles & HOPS}

    assert checks == {check for broken in (SOURCE, PROMISES) for _, check in broken.values()}
