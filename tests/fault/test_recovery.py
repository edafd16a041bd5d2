"""`make run` recovers by itself from faults of Postgres and of its services, as soon as the fault ends."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from support.chain import free_ports
from support.client import send
from support.messages import QUOTE, RESERVE
from support.sample_run import SampleRun, sample_run

RECOVERY_SECONDS = 120


@pytest.fixture(scope="module")
def run() -> Iterator[SampleRun]:
    with TemporaryDirectory() as folder, sample_run(free_ports(), Path(folder) / "data") as started:
        started.wait_until_up()
        yield started


def pid_of(run: SampleRun, command: str) -> int:
    return next(pid for pid, line in run.processes().items() if command in line)


async def until_reported(run: SampleRun, text: str) -> None:
    async with asyncio.timeout(RECOVERY_SECONDS):
        while text not in run.output:
            await asyncio.sleep(0.05)


async def until_quoted(run: SampleRun, client, **headers: str) -> None:
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            reply = await send(
                client, "POST", run.url + RESERVE, QUOTE, X_Request_Timeout_Ms="2000", **headers
            )
            if reply.status == 200:
                return
            await asyncio.sleep(0.1)


async def test_a_postgres_whose_restarts_fail_is_restarted_until_it_works(run, client):
    postgres = run.data / "postgres"
    configuration = postgres / "postgresql.auto.conf"
    before = configuration.read_text()
    configuration.write_text("no_such_setting = on\n")
    os.kill(int((postgres / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
    await until_reported(run, "postgres will be restarted in 2 s")
    configuration.write_text(before)
    await until_quoted(run, client)

    assert "postgres could not be restarted: Postgres does not start; its last log lines:" in run.output
    assert 'unrecognized configuration parameter "no_such_setting"' in run.output
    assert "postgres is running again" in run.output
    assert "\\x0a" not in run.output, "the lines of Postgres are printed as lines"


async def test_a_service_whose_restarts_fail_is_restarted_until_it_works(run, client):
    """Such as a directory whose file is broken for some seconds."""
    file = run.data / "directory.json"
    before = file.read_text()
    file.write_text("{")
    os.kill(pid_of(run, "-m central_directory"), signal.SIGKILL)
    await until_reported(run, "central-directory will be restarted in 2 s")
    file.write_text(before)
    await until_reported(run, "central-directory is running again")
    await until_quoted(run, client)

    assert "central-directory ended with exit code" in run.output


async def test_a_service_that_hangs_is_killed_and_restarted(run, client):
    os.kill(pid_of(run, "-m spsp_server "), signal.SIGSTOP)
    await until_reported(run, "spsp-server is running again")
    await until_quoted(run, client)

    assert "spsp-server did not answer its health check for" in run.output
