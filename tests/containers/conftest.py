"""The image, built once; the network, started once; load from outside and from inside."""

import asyncio
import base64
import contextlib
import os
import pickle
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import docker
import pytest
from docker.models.containers import Container

from support import compose
from support.load import Load, RequestOutcome, TrackedPayment
from support.table import FaultTable

# of this run alone: another beside it may test another tree on the same engine
IMAGE = f"dfsp-quoting:test-{os.getpid()}"


def pytest_collection_modifyitems(items):
    """Everything here needs an engine."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.container)


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    with compose.built(IMAGE):
        yield IMAGE


@pytest.fixture(scope="module")
def network(image, tmp_path_factory) -> Iterator[compose.ComposeNetwork]:
    """Each module its own: what one breaks the next does not see."""
    with compose.network(tmp_path_factory.mktemp("compose"), image) as made:
        yield made


@pytest.fixture
async def caller() -> AsyncIterator[aiohttp.ClientSession]:
    """A caller at the published ports, with a connection for each request."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True),
        timeout=aiohttp.ClientTimeout(total=15),
        trust_env=False,
    ) as session:
        yield session


FAULTS = pytest.StashKey[FaultTable]()


@pytest.fixture(scope="session")
def fault_table(pytestconfig) -> FaultTable:
    return pytestconfig.stash.setdefault(FAULTS, FaultTable())


def pytest_terminal_summary(terminalreporter, config):
    """The fault table, printed, and written where FAULTS names a file."""
    table = config.stash.get(FAULTS, FaultTable())
    if table.rows:
        terminalreporter.section("faults")
        terminalreporter.write(table.markdown())
        if file := os.environ.get("FAULTS"):
            Path(file).write_text(table.page(), encoding="utf-8")


@dataclass
class Inside:
    """Load from inside that has ended, or is under way."""

    container: Container
    payments: list[TrackedPayment]
    outcomes: list[RequestOutcome]

    @property
    def failed(self) -> list[str]:
        """Requests that a caller saw fail."""
        return [
            f"{each.method} {each.target}: {each.status} {each.error or each.body!r} {each.trace_id}"
            for each in self.outcomes
            if each.status != 200
        ]

    def why(self, network: compose.ComposeNetwork) -> str:
        """The same, with what the services have logged of them."""
        traces = [each.trace_id for each in self.outcomes if each.status != 200]
        return "\n".join([*self.failed, *network.logged_lines(traces)])

    def wait_more(self, requests: int, seconds: float = 60) -> None:
        wanted = self._answered() + requests
        until = time.monotonic() + seconds
        while self._answered() < wanted:
            assert time.monotonic() < until, self.container.logs(tail=20)
            time.sleep(0.1)

    def _answered(self) -> int:
        lines = self.container.logs(tail=1).decode().split()
        return int(lines[1]) if len(lines) == 2 and lines[0] == "answered" else 0


@contextlib.contextmanager
def load_inside(network: compose.ComposeNetwork, workers: int = 8) -> Iterator[Inside]:
    """Callers in the first DFSP's network ask for quotes at the second, as long as this is entered."""
    command = [f"{network.scheme}://dfsp-api-payer", compose.AT["dfsp2"], str(workers)]
    volumes = [f"{compose.TOP / 'tests'}:/tests:ro"]
    environment = {"PYTHONPATH": "/tests"}
    if network.has_tls:
        volumes.append(f"{network.certificates / 'caller'}:/run/certificates:ro")
        environment |= {
            "QUOTES_TLS_CERTIFICATE": "/run/certificates/certificate.pem",
            "QUOTES_TLS_KEY": "/run/certificates/key.pem",
            "QUOTES_TLS_CA": "/run/certificates/ca.pem",
        }
    container = network.engine.containers.run(
        network.image,
        ["support.inside", *command],
        detach=True,
        network=f"{network.project}_dfsp1",
        volumes=volumes,
        environment=environment,
    )
    inside = Inside(container, [], [])
    try:
        inside.wait_more(20)
        yield inside
        container.kill("SIGTERM")
        container.wait(timeout=90)
        # the engine keeps a long line in pieces, so it is not the last one
        said, done, result = container.logs().decode().rpartition("done ")
        assert done, said[-3000:]
        inside.payments, inside.outcomes = pickle.loads(base64.b64decode(result))
    finally:
        with contextlib.suppress(docker.errors.APIError):
            container.remove(force=True)


async def payers_scaled(
    network: compose.ComposeNetwork, caller: aiohttp.ClientSession
) -> tuple[list[int], Load]:
    """Load at the first DFSP's published port while its payers become two and one again.

    Returns what each of the two was asked meanwhile, and the load.
    """
    load = Load(
        [network.urls["dfsp1"]],
        timeout_ms=10_000,
        workers=8,
        identifier=compose.AT["dfsp2"],
        rest_seconds=0.1,
    )
    async with load.running(caller):
        await load.more(5)
        await asyncio.to_thread(network.scale, dfsp_api_payer=2)
        both = network.containers("dfsp-api-payer")
        await load.more(10)
        before = [compose.requests(each) for each in both]
        await load.more(50)
        after = [compose.requests(each) for each in both]
        await asyncio.to_thread(network.scale, dfsp_api_payer=1)
        await load.more(20)
    return [now - then for now, then in zip(after, before, strict=True)], load


@contextlib.asynccontextmanager
async def both_directions(
    network: compose.ComposeNetwork, caller: aiohttp.ClientSession, workers: int = 5
) -> AsyncIterator[dict[str, Load]]:
    """Steady load at both published ports: each DFSP's callers ask for quotes at the other, by its name."""
    urls = network.urls
    payees = {"dfsp2": urls["dfsp1"], "dfsp1": urls["dfsp2"]}
    async with contextlib.AsyncExitStack() as stack:
        yield {
            payee: await stack.enter_async_context(
                Load(
                    [url],
                    timeout_ms=1_500,
                    workers=workers,
                    identifier=compose.AT[payee],
                    rest_seconds=0.1,
                ).running(caller)
            )
            for payee, url in payees.items()
        }
