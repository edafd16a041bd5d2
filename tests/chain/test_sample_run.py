"""`make run`'s process, from outside."""

import asyncio
import re
import signal
import socket
import subprocess
import sys

import pytest

from network.topology import CHAIN
from support.chain import free_ports
from support.exchange import send
from support.messages import QUOTE, RESERVE
from support.sample_run import sample_run


async def test_a_run_shows_the_sample_quote_serves_and_leaves_no_process_behind(client, passable):
    with sample_run(free_ports(), passable / "data") as run:
        run.wait_until_up()
        answer = await send(client, "POST", run.url + RESERVE, QUOTE)
        running = run.processes()
        code = run.end(signal.SIGINT)
        left = run.processes()

    assert (200, "13.75") == (answer.status, answer.json["amount"])
    assert '"amount":"13.75"' in run.output
    assert "fee: 13.75 - 12.50 = 1.25 USD" in run.output
    assert '"state":"EXECUTED"' in run.output
    for refusal in ("404  QuoteNotFoundError", "410 QuoteExpiredError (not shown", "409  QuoteMismatchError"):
        assert refusal in run.output
    for name in CHAIN:
        assert name in run.output
    assert len(running) > 8, running
    assert 0 == code
    assert {} == left


async def test_a_run_tells_each_of_many_requests_once_wherever_they_came_in(client, passable):
    first = free_ports()
    with sample_run(first, passable / "data") as run:
        run.wait_until_up()
        await asyncio.sleep(1)  # the last lines of the demonstration are read
        before = len(run.output)
        for url, message, count in ((run.url, QUOTE, 300), (f"http://127.0.0.1:{first + 3}", {}, 100)):
            answers = [send(client, "POST", url + RESERVE, message) for _ in range(count)]
            statuses = {answer.status for answer in await asyncio.gather(*answers)}
            assert {200 if message else 400} == statuses
            await asyncio.sleep(3)  # each burst is told by itself
        told = run.output[before:]
        run.end(signal.SIGINT)

    sums = re.findall(r"  (\d+) requests, (\d+) failed", told)
    each = re.findall(r"POST /v1/quoteSourceAmount +(\d+)", told)
    # of those at the very moment when counting begins or ends one may be told neither way, on a busy machine
    assert 0 <= 400 - sum(int(count) for count, _ in sums) - len(each) <= 2
    assert 0 <= 100 - sum(int(failed) for _, failed in sums) - each.count("400") <= 2
    assert sums


@pytest.mark.parametrize(("offset", "service"), [(0, "dfsp-api-payer"), (3, "spsp-server")])
def test_a_taken_port_is_named_with_its_service_before_anything_starts(tmp_path, offset, service):
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
