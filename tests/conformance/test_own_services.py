"""Our own services keep every check of the kit: the whole network, the payee, and each hop."""

from contextlib import AsyncExitStack

import pytest

from dfsp_quotes.conformance import Options, Outcome, Role, neighbours, run, text
from support.chain_in_process import chain_in_process
from support.forwarders import FORWARDERS
from support.messages import QUOTE
from support.model import OTHER, TEST
from support.model_payee import LONG
from support.payee import payee
from support.serving import SECONDS, reply, served, stub
from support.settings import load


def assert_passed(report, *, skipped=()):
    outcomes = {each.id: each.outcome for each in report.results if each.outcome is not Outcome.PASSED}

    assert dict.fromkeys(skipped, Outcome.SKIPPED) == outcomes, text(report)


async def test_the_whole_network_passes(users_file, client, clock, database_url, tmp_path):
    async with chain_in_process(users_file, client, database_url, tmp_path, batch_lines=256) as chain:
        options = Options(chain.url, TEST, second_caller=OTHER, max_wait=LONG, timeout=SECONDS)
        report = await run(options, clock=clock)

    assert_passed(report, skipped=["persistence.restart"])


@pytest.mark.parametrize(("currency", "amount"), [("USD", "12.50"), ("JPY", "1250"), ("KWD", "12.501")])
async def test_the_payee_passes_in_every_currency(users_file, client, clock, database_url, currency, amount):
    request = {**QUOTE, "currencyCode": currency, "amount": amount, "identifier": "alice"}
    async with payee(database_url, users_file, client) as caller:
        options = Options(
            caller.url, TEST, Role.PAYEE, request=request, second_caller=OTHER, max_wait=LONG, timeout=SECONDS
        )
        report = await run(options, clock=clock)

    assert_passed(report, skipped=["persistence.restart"])


NOWHERE = "http://127.0.0.1:9"
ROLES = {Role(name if name != "dfsp-api" else "payer"): forwarder for name, forwarder in FORWARDERS.items()}


def environment_of(users_file, next_hop: str, directory: str) -> dict[str, str]:
    return {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_NEXT_HOP": next_hop,
        "QUOTES_SUBMISSION_URLS": f"{next_hop},{next_hop}/second-dfsp",
        "QUOTES_DIRECTORY_URL": directory,
        "QUOTES_MAX_WAIT_SECONDS": "60",
    }


@pytest.mark.parametrize("role", ROLES)
async def test_each_hop_passes(role, users_file):
    async with neighbours(Options("", TEST, role)) as played:
        directory = played.directory.url if played.directory else NOWHERE
        environment = environment_of(users_file, played.next_hop.url, directory)
        forwarder = ROLES[role]
        async with served(forwarder.create_app(load(forwarder.settings, environment))) as url:
            report = await run(Options(url, TEST, role, timeout=SECONDS), played=played)

    assert_passed(report)


async def test_the_forwarders_pass_between_the_kit_as_payer_and_as_payee(users_file):
    async with AsyncExitStack() as stack:
        played = await stack.enter_async_context(neighbours(Options("", TEST, Role.CHAIN)))
        url, directory = played.next_hop.url, NOWHERE
        for name, forwarder in reversed(FORWARDERS.items()):
            app = forwarder.create_app(load(forwarder.settings, environment_of(users_file, url, directory)))
            url = await stack.enter_async_context(served(app))
            if name == "spsp-server":
                directory = (await stack.enter_async_context(stub(reply(200, {"spspReceiver": url})))).url
        report = await run(Options(url, TEST, Role.CHAIN, timeout=SECONDS), played=played)

    assert_passed(report)
