"""`make run` is killed, and run again on its data."""

import asyncio
import os
import signal

from support.chain import free_ports
from support.client import send
from support.messages import LOOK_UP_QUERY, QUOTE, RESERVE
from support.sample_run import sample_run

LEFT_SECONDS = 60


async def test_a_killed_run_leaves_no_process_and_its_data_can_be_used_again(client, passable):
    data, port = passable / "data", free_ports()
    with sample_run(port, data) as run:
        run.wait_until_up()
        # without a kept connection, the next request does not use a broken one
        reserved = await send(
            client, "POST", run.url + RESERVE, QUOTE, Idempotency_Key="before", Connection="close"
        )
        run.end(signal.SIGKILL)
        left = run.left_after(LEFT_SECONDS)
    with sample_run(port, data) as again:
        again.wait_until_up()
        target = f"/v1/quote/{reserved.json['uuid']}?{LOOK_UP_QUERY}"
        seen = await send(client, "GET", again.url + target)
        repeated = await send(client, "POST", again.url + RESERVE, QUOTE, Idempotency_Key="before")

    assert {} == left
    assert 200 == reserved.status
    assert (200, "RESERVED", reserved.json["expires"]) == (
        seen.status,
        seen.json["state"],
        seen.json["expires"],
    )
    assert reserved.body == repeated.body


async def test_a_run_started_right_after_a_kill_waits_for_the_killed_runs_processes(client, passable):
    data, port = passable / "data", free_ports()
    with sample_run(port, data) as run:
        run.wait_until_up()
        run.end(signal.SIGKILL)
        with sample_run(port, data) as again:
            again.wait_until_up()
            answer = await send(client, "POST", again.url + RESERVE, QUOTE)

    assert 200 == answer.status


async def test_a_run_restarts_a_killed_service(client, passable):
    with sample_run(free_ports(), passable / "data") as run:
        run.wait_until_up()
        pid = next(pid for pid, command in run.processes().items() if command.endswith("-m spsp_server "))
        os.kill(pid, signal.SIGKILL)
        statuses = []
        async with asyncio.timeout(60):
            while 200 not in statuses:
                answer = await send(client, "POST", run.url + RESERVE, QUOTE, X_Request_Timeout_Ms="5000")
                statuses.append(answer.status)
                await asyncio.sleep(0.05)

    assert set(statuses) <= {200, 502, 503, 504}
    assert "restarting spsp-server (attempt 1)" in run.output
