"""A plain aiohttp chain keeps the source to the letter, and breaks most of the stronger promises."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Options, Outcome, Part, Role, neighbours, run, text
from dfsp_quotes.conformance.options import HOPS
from support.model import TEST, StillClock
from support.model_payee import LONG
from support.plain_chain import plain_hop, plain_payee
from support.serving import SECONDS, listening, reply, stub

BROKEN = {
    "credentials.required",
    "errors.object",
    "expiry.at-the-instant",
    "expiry.error",
    "expiry.executed-stays",
    "headers.bad-timeout",
    "idempotency.bad-key",
    "idempotency.same-key",
    "inverse.largest",
    "look-up.unknown-error",
    "message.bad-amount",
    "message.faults-at-once",
    "lifetime.bad-header",
    "lifetime.kept",
    "message.not-json",
    "release.reply",
    "trace.returned",
    "transfer.mismatch-error",
    "transfer.reply",
    "transfer.unknown-error",
}
KEPT = {
    "concurrency.executed-once",
    "concurrency.own-terms",
    "inverse.exact",
    "message.reply-fields",
    "transfer.repeat",
}


def plain(app: web.Application):
    return listening(web.AppRunner(app, access_log=None, shutdown_timeout=0.1))


@asynccontextmanager
async def plain_chain(url: str) -> AsyncIterator[str]:
    """The URL of the first of five services, of which the last calls the payee at ``url``."""
    async with AsyncExitStack() as stack:
        for _ in ("spsp-server-backend", "spsp-server"):
            url = await stack.enter_async_context(plain(plain_hop(url)))
        directory = await stack.enter_async_context(stub(reply(200, {"spspReceiver": url})))
        client = await stack.enter_async_context(plain(plain_hop()))
        proxy = await stack.enter_async_context(plain(plain_hop(client, directory.url)))
        yield await stack.enter_async_context(plain(plain_hop(proxy)))


async def test_a_plain_chain_keeps_the_source_and_fails_the_promises_by_name():
    clock = StillClock()
    async with plain(plain_payee(clock.now)) as payee, plain_chain(payee) as url:
        report = await run(Options(url, TEST, max_wait=LONG, timeout=SECONDS), clock=clock)
    outcomes = {each.id: each.outcome for each in report.results if each.part is Part.SOURCE}
    passed = {each.id for each in report.results if each.outcome is Outcome.PASSED}

    assert {"persistence.restart": Outcome.SKIPPED} == {
        id_: outcome for id_, outcome in outcomes.items() if outcome is not Outcome.PASSED
    }, text(report)
    assert (BROKEN, KEPT) == (report.failed, passed - set(outcomes))
    assert 3 == report.exit_code


async def test_a_plain_chain_between_the_kit_as_payer_and_as_payee_keeps_the_source():
    async with (
        neighbours(Options("", TEST, Role.CHAIN)) as played,
        plain_chain(played.next_hop.url) as url,
    ):
        report = await run(
            Options(url, TEST, Role.CHAIN, frozenset({Part.SOURCE}), timeout=SECONDS), played=played
        )

    assert frozenset() == report.failed, text(report)


@pytest.mark.parametrize("role", sorted(HOPS - {Role.CHAIN}))
async def test_each_plain_hop_keeps_the_source(role):
    async with neighbours(Options("", TEST, role)) as played:
        to = "" if role is Role.SPSP_CLIENT else played.next_hop.url
        async with plain(plain_hop(to, played.directory.url if played.directory else "")) as url:
            report = await run(
                Options(url, TEST, role, frozenset({Part.SOURCE}), timeout=SECONDS), played=played
            )

    assert frozenset() == report.failed, text(report)
    assert 0 == report.exit_code
