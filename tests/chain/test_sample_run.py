"""`make run`'s process, from outside."""

import signal
import socket
import subprocess
import sys

import pytest

from network.plan import CHAIN
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
    for refusal in ("404  QuoteNotFoundError", "410  QuoteExpiredError", "409  QuoteMismatchError"):
        assert refusal in run.output
    for name in CHAIN:
        assert name in run.output
    assert len(running) > 8, running
    assert 0 == code
    assert {} == left


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
