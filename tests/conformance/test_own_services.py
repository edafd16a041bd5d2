"""Our own services keep every check of the kit: the whole network, the payee, and each hop."""

import pytest

from dfsp_quotes.conformance import Options, Outcome, Role, neighbours, run, text
from support.chain_in_process import chain_in_process
from support.forwarders import FORWARDERS
from support.model import OTHER, TEST
from support.model_payee import LONG
from support.payee import payee
from support.serving import served
from support.settings import load


def assert_passed(report, *, skipped=()):
    outcomes = {each.id: each.outcome for each in report.results if each.outcome is not Outcome.PASSED}

    assert dict.fromkeys(skipped, Outcome.SKIPPED) == outcomes, text(report)


async def test_the_whole_network_passes(users_file, client, clock, database_url, tmp_path):
    async with chain_in_process(users_file, client, database_url, tmp_path, batch_lines=256) as chain:
        options = Options(chain.url, TEST, second_caller=OTHER, max_wait=LONG)
        report = await run(options, clock=clock)

    assert_passed(report, skipped=["persistence.restart"])


async def test_the_payee_passes(users_file, client, clock, database_url):
    async with payee(database_url, users_file, client) as caller:
        options = Options(caller.url, TEST, Role.PAYEE, second_caller=OTHER, max_wait=LONG)
        report = await run(options, clock=clock)

    assert_passed(report, skipped=["persistence.restart"])


ROLES = {Role(name if name != "dfsp-api" else "payer"): forwarder for name, forwarder in FORWARDERS.items()}


@pytest.mark.parametrize("role", ROLES)
async def test_each_hop_passes(role, users_file):
    async with neighbours(Options("", TEST, role)) as played:
        environment = {
            "QUOTES_USERS_FILE": str(users_file),
            "QUOTES_NEXT_HOP": played.next_hop.url,
            "QUOTES_SUBMISSION_URLS": f"{played.next_hop.url},{played.next_hop.url}/second-dfsp",
            "QUOTES_DIRECTORY_URL": played.directory.url if played.directory else "http://127.0.0.1:9",
            "QUOTES_MAX_WAIT_SECONDS": "60",
        }
        forwarder = ROLES[role]
        async with served(forwarder.create_app(load(forwarder.settings, environment))) as url:
            report = await run(Options(url, TEST, role), played=played)

    assert_passed(report)
