"""`make run` as a process, seen from outside."""

import asyncio
import itertools
import re
import signal
import socket
import subprocess
import sys

import aiohttp
import asyncpg
import pytest

from network.topology import CHAIN, SERVICE_NAMES
from support.chain import free_ports
from support.client import send
from support.messages import QUOTE, RESERVE
from support.sample_run import UP, SampleRun, sample_run, shown


async def test_a_run_shows_the_sample_quote_and_serves(run, client):
    answer = await send(client, "POST", run.url + RESERVE, QUOTE)
    async with client.get(f"{run.url}/docs") as docs:
        page = await docs.text()

    assert (200, "13.75") == (answer.status, answer.json["amount"])
    assert f"{run.url}/docs describes the API" in run.output
    assert "<title>dfsp-api-payer: API</title>" in page
    assert '"amount":"13.75"' in run.output
    assert "fee: 13.75 - 12.50 = 1.25 USD" in run.output
    assert '"state":"EXECUTED"' in run.output
    for refusal in ("404  QuoteNotFoundError", "410  QuoteExpiredError", "409  QuoteMismatchError"):
        assert refusal in run.output
    for name in CHAIN:
        assert name in run.output


async def test_the_demonstration_changes_nothing_in_the_database_but_through_the_api(run):
    """The sample run once set `expires` of its expired quote to a time before `created`."""
    sql = await asyncpg.connect(f"postgresql://postgres@/postgres?host={run.data / 'postgres'}")
    impossible = await sql.fetchval("SELECT count(*) FROM quote WHERE expires <= created")
    expired = await sql.fetchval("SELECT count(*) FROM quote WHERE expires < created + interval '1 second'")
    await sql.close()

    assert (0, 1) == (impossible, expired)


async def test_a_run_prints_or_counts_each_of_many_requests_once_at_whatever_hop_it_entered(run, client):
    assert "/v1/strategies" not in run.output_of_demonstration
    await print_earlier_ones(run, client)
    before = len(run.output)
    total = 0
    for url, message, count in ((run.url, QUOTE, 300), (f"http://127.0.0.1:{run.port + 3}", {}, 100)):
        answers = [send(client, "POST", url + RESERVE, message) for _ in range(count)]
        statuses = {answer.status for answer in await asyncio.gather(*answers)}
        assert {200 if message else 400} == statuses
        total += count
        # on a busy machine, a request at the moment when counting begins or ends may be missed
        async with asyncio.timeout(60):
            while sum(shown(run.output[before:])) < total - 2:
                await asyncio.sleep(0.1)
    await asyncio.sleep(2)  # for lines that must not be printed
    printed = run.output[before:]

    assert sum(shown(printed)) <= total
    assert "requests, " in printed
    failed = sum(int(number) for number in re.findall(r" (\d+) failed", printed)) + len(
        re.findall(r"quoteSourceAmount +400", printed)
    )
    assert 0 <= 100 - failed <= 2


async def test_a_run_restarts_a_service_on_command_and_tells_the_status_of_all(run, client):
    restarted = [run.command("restart", name) for name in ("spsp-server", "nobody")]
    run.process.send_signal(signal.SIGHUP)
    run.wait_for("SIGHUP: dfsp-api-payer,")
    status = run.command("status")
    again = await send(client, "POST", run.url + RESERVE, QUOTE)

    assert [0, 1] == [each.returncode for each in restarted]
    assert "is ready after" in restarted[0].stdout
    assert "there is no service 'nobody'; SERVICE is one of postgres, dfsp-api-payer" in restarted[1].stderr
    lines = {line.split()[0]: line.split() for line in status.stdout.splitlines()[2:]}
    assert {"postgres", *SERVICE_NAMES} == set(lines)
    assert {name: "1" if name == "spsp-server" else "0" for name in lines} == {
        name: cells[4] for name, cells in lines.items()
    }
    assert (0, {"ready", "running"}) == (status.returncode, {cells[5] for cells in lines.values()})
    assert 200 == again.status


def test_a_run_that_is_interrupted_leaves_no_process(run):
    running = run.processes()
    code = run.end(signal.SIGINT)
    after = run.command("status")
    left = run.processes()

    assert len(running) > 8, running
    assert (1, "no `make run` uses the data folder") == (after.returncode, after.stderr[:34])
    assert 0 == code
    assert {} == left
    assert {0o600} == {log.stat().st_mode & 0o777 for log in (run.data / "logs").iterdir()}


@pytest.mark.fault
async def test_a_client_that_sends_the_sample_before_the_demonstration_does_not_end_the_run(client, passable):
    """The directory's answer may be in the proxy's cache then, so that central-directory logs nothing."""
    with sample_run(free_ports(), passable / "data") as run:
        statuses = set()
        while UP not in run.output:
            assert run.process.poll() is None, run.output
            try:
                statuses.add((await send(client, "POST", run.url + RESERVE, QUOTE)).status)
            except OSError:
                await asyncio.sleep(0.01)

    assert statuses
    assert '"state":"EXECUTED"' in run.output
    assert "410  QuoteExpiredError: The quote expired at " in run.output


@pytest.mark.fault
async def test_a_demonstration_that_fails_does_not_end_the_run(client, passable):
    """Such as with fees of the user's own, under which the sample is refused."""
    fees = passable / "fees.toml"
    fees.write_text(
        '[[rule]]\ntransferType = "p2p"\ncurrencyCode = "EUR"\n'
        '[[rule.step]]\nfrom = "0.01"\nto = "100.00"\nflat = "0.20"\n'
    )
    fees.chmod(0o644)
    with sample_run(free_ports(), passable / "data", QUOTES_FEE_SCHEDULE=str(fees)) as run:
        run.wait_until_up()
        reply = await send(
            client, "POST", run.url + RESERVE, {**QUOTE, "currencyCode": "EUR", "currencySymbol": "€"}
        )
        code = run.end(signal.SIGINT)

    assert "QUOTES_FEE_SCHEDULE may be the reason" in run.output
    assert "The demonstration ends here. The network stays up." in run.output
    assert 200 == reply.status, reply.body
    assert 0 == code


async def print_earlier_ones(run: SampleRun, client: aiohttp.ClientSession) -> None:
    """Send a request again and again, until one is printed by itself: then no earlier one waits to be counted."""
    async with asyncio.timeout(60):
        for number in itertools.count():
            await send(client, "POST", run.url + RESERVE, QUOTE, L1p_Trace_Id=f"last-{number}")
            for _ in range(30):
                if f"last-{number}" in run.output:
                    return
                await asyncio.sleep(0.1)


@pytest.mark.parametrize(("offset", "service"), [(0, "dfsp-api-payer"), (3, "spsp-server")])
def test_a_taken_port_is_reported_with_its_service_before_anything_starts(tmp_path, offset, service):
    first = free_ports()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first + offset))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "network", "run"]  # noqa: RUF005 - two halves
            + ["--port", str(first), "--data", str(tmp_path / "data")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert 1 == done.returncode
    assert f"port {first + offset} ({service}) is taken" in done.stdout + done.stderr
    assert not (tmp_path / "data" / "postgres").exists()
