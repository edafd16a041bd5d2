"""Services that crash or loop in native code are started again, as every process of `make run` is.

Random bytes from Postgres once ended a payee in asyncpg's decoder with SIGSEGV, and once let it loop without end, so that
it answered no request and ignored SIGTERM. The service here does both on request, with the signal handler of a real one.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from network import http_client
from network.polling import PollTimer
from network.ports import find_first_port
from network.processes import Network
from network.supervisor import SupervisedProcess, Supervisor
from network.topology import ServiceSpec

PATIENCE_SECONDS = 120

SERVICE = """
import asyncio, os, signal
from aiohttp import web

async def live(request):
    return web.Response()

async def crash(request):
    os.kill(os.getpid(), signal.SIGSEGV)

async def hang(request):
    while True:
        pass

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    app = web.Application()
    app.add_routes([web.get("/health/live", live), web.get("/health/ready", live)])
    app.add_routes([web.get("/crash", crash), web.get("/hang", hang)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(os.environ["PORT"])).start()
    await stop.wait()

asyncio.run(main())
"""


@pytest.fixture
def network(tmp_path) -> Iterator[Network]:
    (tmp_path / "fragile_service.py").write_text(SERVICE)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    first = find_first_port()
    specs = [
        ServiceSpec(name, "fragile_service", port, {"PORT": str(port), "PYTHONPATH": path})
        for port, name in enumerate(["crashing", "hanging"], first)
    ]
    with Network(specs, logs=tmp_path / "logs") as made:
        made.wait_ready()
        yield made


@pytest.fixture
def reported(network) -> Iterator[list[str]]:
    """The lines of a supervisor that watches the network."""
    lines: list[str] = []
    supervisor = Supervisor(
        [
            SupervisedProcess(child, partial(network.answers_health_check, name))
            for name, child in network.children.items()
        ],
        lines.append,
    )
    supervisor.start()
    yield lines
    supervisor.stop()


def send(network: Network, name: str, path: str) -> None:
    with contextlib.suppress(OSError):
        http_client.send("GET", network.origin(name) + path, timeout_seconds=1)


def wait_for(line: str, lines: list[str]) -> None:
    timer = PollTimer(PATIENCE_SECONDS)
    while timer.wait():
        if line in "\n".join(lines):
            return
    raise AssertionError(lines)


def test_a_service_that_crashes_or_loops_in_native_code_is_started_again(network, reported):
    before = {name: child.pid for name, child in network.children.items()}
    send(network, "crashing", "/crash")
    send(network, "hanging", "/hang")
    wait_for("crashing is running again", reported)
    wait_for("hanging is running again", reported)

    assert "crashing ended with exit code -11" in "\n".join(reported)
    assert "hanging did not answer its health check for" in "\n".join(reported)
    for name, child in network.children.items():
        assert child.running
        assert before[name] != child.pid
        assert network.answers_health_check(name)


def test_a_service_that_loops_in_native_code_does_not_hold_up_the_end_of_the_network(network):
    """It ignores SIGTERM, and is killed when the time of all others has passed."""
    send(network, "hanging", "/hang")
    began = time.monotonic()

    assert ["hanging"] == network.stop(seconds=2)
    assert not any(child.running for child in network.children.values())
    assert time.monotonic() - began < PATIENCE_SECONDS
