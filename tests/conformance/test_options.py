"""Options of a run, for implementations that differ where the source leaves it open."""

from datetime import timedelta

from aiohttp import web

from dfsp_quotes.conformance import Options, Outcome, Part, Role, run, text
from support.model import OTHER, TEST, StillClock
from support.model_payee import LIFETIME, ModelPayee, chosen_lifetime
from support.serving import listening

SOURCE = frozenset({Part.SOURCE})


async def checked(payee: ModelPayee, **options):
    async with listening(web.AppRunner(payee.app(), access_log=None, shutdown_timeout=0.1)) as url:
        return await run(Options(url, TEST, Role.PAYEE, **options), clock=payee.clock)


def skipped(report) -> set[str]:
    return {each.id for each in report.results if each.outcome is Outcome.SKIPPED}


class LivesAsLongAsTheRequestSays(ModelPayee):
    """Quotes live for an hour, or for the time in the header."""

    lifetimes: list[str | None]

    async def handle_reservation(self, request):
        self.lifetimes.append(request.headers.get(LIFETIME))
        return await super().handle_reservation(request)

    def expiry(self, now):
        return now + (chosen_lifetime.get() or timedelta(hours=1))


async def test_quotes_that_live_too_long_are_not_waited_for():
    payee = LivesAsLongAsTheRequestSays(StillClock())
    payee.lifetimes = []
    began = payee.clock.now()
    report = await checked(payee)
    [expired] = [each for each in report.results if each.id == "transfer.expired"]

    assert began == payee.clock.now()
    assert frozenset() == report.failed
    assert expired.message.startswith("The quotes live for 3600 s, and the kit waits for 30 s at most.")
    assert {
        "transfer.expired",
        "idempotency.after-expiry",
        "expiry.at-the-instant",
        "expiry.error",
        "expiry.executed-stays",
        "look-up.expired",
        "release.expired-error",
    } == skipped(report) - {"persistence.restart", "credentials.other-caller"}
    assert "2000" not in payee.lifetimes


async def test_a_short_lifetime_is_sent_for_quotes_that_shall_expire_and_for_no_other():
    payee = LivesAsLongAsTheRequestSays(StillClock())
    payee.lifetimes = []
    report = await checked(payee, lifetime_ms=2_000, second_caller=OTHER)

    assert {"persistence.restart"} == skipped(report)
    assert frozenset() == report.failed, text(report)
    # three that expire, four around their expiry, and one repetition with its key
    assert 8 == payee.lifetimes.count("2000")


class PaysAtAnotherPath(ModelPayee):
    def app(self):
        app = super().app()
        app.router.add_post("/transfers/{uuid}/execution", self.handle_payment)
        return app

    async def handle_payment(self, request):
        if request.method == "PUT":
            raise web.HTTPNotFound
        return await super().handle_payment(request)


async def test_a_transfer_may_have_another_method_and_path():
    options = {
        "execute_method": "POST",
        "execute_path": "/transfers/{uuid}/execution",
        "max_wait": 600,
        "parts": SOURCE,
    }

    assert frozenset() == (await checked(PaysAtAnotherPath(StillClock()), **options)).failed


async def test_a_transfer_that_is_not_found_names_the_option():
    report = await checked(PaysAtAnotherPath(StillClock()), parts=SOURCE)
    [accepted] = [each for each in report.results if each.id in report.failed]

    assert "transfer.accepted" == accepted.id
    assert accepted.message.endswith("If transfers have another method or path, name them with --execute.")


class HasNoLookUp(ModelPayee):
    def app(self):
        app = web.Application()
        for route in super().app().router.routes():
            if route.method != "GET":
                app.router.add_route(route.method, route.resource.canonical, route.handler)
        return app


async def test_a_payee_needs_no_look_up():
    report = await checked(HasNoLookUp(StillClock()), parts=SOURCE, max_wait=600)

    assert frozenset() == report.failed, text(report)
    assert {"look-up.same-quote", "look-up.unknown", "persistence.restart"} == skipped(report)
