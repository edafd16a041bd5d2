"""A paused Postgres neither answers nor closes connections: requests fail in time, and then all works again."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager, suppress

from network.postgres import processes_on
from support.chain import free_ports
from support.client import send
from support.load import Load, broken_promises
from support.sample_run import sample_run

TIMEOUT_MS = 1_500


@contextmanager
def paused(postgres, folder):
    """Pause server and backends; the server first, so that it starts no further backends."""
    pids = [postgres.pid, *sorted(processes_on(folder) - {postgres.pid})]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_requests_during_a_pause_of_postgres_are_answered_504_or_503_in_time(
    own_postgres, own_chain, client, passable
):
    chain = own_chain(database_url=own_postgres.dsn)
    during = []
    async with Load([chain.url], timeout_ms=TIMEOUT_MS).running(client) as load:
        await load.more(40)
        for seconds in (3, 8):  # shorter and longer than the limit for a new connection
            with paused(own_postgres, passable / "postgres"):
                begun = time.monotonic()
                await asyncio.sleep(seconds)
                await load.until_status(503, 504)
                during += load.begun_after(begun)
            await load.more(40)
    await load.repeat_all(client)

    assert {outcome.status for outcome in during} <= {503, 504}
    assert [] == load.problems
    assert [] == await broken_promises(load, chain.database_url)


async def test_readiness_follows_a_paused_postgres(own_postgres, own_chain, client, passable):
    chain = own_chain(database_url=own_postgres.dsn)
    url = chain.origin("dfsp-api") + "/health/ready"
    with paused(own_postgres, passable / "postgres"):
        away = await send(client, "GET", url)
        live = await send(client, "GET", chain.origin("dfsp-api") + "/health/live")
        before = await send(client, "GET", chain.origin("spsp-server-backend") + "/health/ready")
    await asyncio.to_thread(chain.network.wait_ready, "dfsp-api")

    assert (503, ["database"]) == (away.status, away.json["missing"])
    assert 200 == live.status
    # readiness does not depend on the next hop
    assert 200 == before.status


def test_ctrl_c_with_a_paused_postgres_stops_every_process(passable):
    with sample_run(free_ports(), passable / "data") as run:
        run.wait_until_up()
        for pid in processes_on(passable / "data" / "postgres"):
            os.kill(pid, signal.SIGSTOP)
        code = run.end(signal.SIGINT)
        left = run.processes()

    assert {} == left
    assert 0 == code
    assert "all processes have stopped" in run.output
    assert "was killed" not in run.output
