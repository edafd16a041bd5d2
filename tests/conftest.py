"""Fixtures: users, a real Postgres, a client, and the whole chain as processes."""

import functools
import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType

import aiohttp
import hypothesis
import pytest
from jinja2 import Environment
from xdist.scheduler import LoadScopeScheduling

from central_directory import app as central_directory
from chassis.users_file import SAMPLE_USERS
from console import app as console
from integrations import app as integrations
from integrations.webhook.ssrf_guard import SsrfGuard
from network.topology import CHAIN
from quoting import service
from signal_receiver import app as signal_receiver
from support.browser import Browser, chromium
from support.chain import Chain, Overrides, running
from support.postgres import ReusedDatabases, fresh_database, know_builtin_types, postgres
from support.serving import client_session
from support.settings import BATCH_LINES, CHEAP_HASHER, DEFAULTS, EXPOSURE_LIMITS

# the same examples in each run; --hypothesis-profile=searching tries others
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("searching", max_examples=1_000, deadline=None)
hypothesis.settings.load_profile("steady")

SHARED_CHAIN: Overrides = {
    # a busy machine must not look like an overloaded service
    **{name: {"QUOTES_MAX_WAIT_SECONDS": "60"} for name in CHAIN},
    "dfsp-api": {
        "QUOTES_MAX_WAIT_SECONDS": "60",
        "QUOTES_OPERATORS": "admin",
        "QUOTES_EXPOSURE_LIMITS_FILE": str(EXPOSURE_LIMITS),
    },
}
"""Settings of the chain that tests share."""
ON_CHAIN = {
    "tests/chain/test_every_error.py",
    "tests/chain/test_explored.py",
    "tests/chain/test_generated_client.py",
    "tests/chain/test_sample.py",
    "tests/chain/test_whole_chain.py",
    "tests/command_line/test_conformance.py",
    "tests/command_line/test_doctor_and_directory.py",
    "tests/command_line/test_logs.py",
    "tests/command_line/test_trace.py",
    "tests/prior_art/test_prior_art.py",
}
"""Modules with tests that share the chain."""
POSTGRES_URL = "postgres_url"
POSTGRES, SHARED_URL = pytest.StashKey[ExitStack](), pytest.StashKey[str]()
ON_RUN = {"tests/chain/test_documented_commands.py", "tests/chain/test_sample_run.py"}
"""Modules with tests that share a run of `make run`."""


def pytest_addoption(parser) -> None:
    parser.addoption(
        "--batches",
        choices=("on", "off"),
        default="on",
        help="off: services neither take nor send batches, unless a test sets it (wire.md §8)",
    )
    parser.addoption("--screenshots", default="", help="a folder for pictures of the page in a browser")


def pytest_configure(config) -> None:
    if config.getoption("batches") == "off":
        DEFAULTS[BATCH_LINES] = "0"


def pytest_sessionstart() -> None:
    # nothing that collection creates is garbage
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    # later collections of garbage need not look at the modules and at thousands of tests, which stay until the end
    gc.collect()
    gc.freeze()


class Scheduling(LoadScopeScheduling):
    """Keeps the tests of a module in one process of pytest-xdist, and those of the shared chain and run, too.

    They share servers, and to start a chain costs as much processor time as hundreds of tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "chain" if module in ON_CHAIN else "run" if module in ON_RUN else module


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log) -> Scheduling | None:
    return Scheduling(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node) -> None:
    """Start a Postgres server before the first process of pytest-xdist, and name it to each process."""
    stash = node.config.stash
    if POSTGRES not in stash:
        stash[POSTGRES] = stack = ExitStack()
        stash[SHARED_URL] = stack.enter_context(postgres())
    node.workerinput[POSTGRES_URL] = stash[SHARED_URL]


def pytest_unconfigure(config) -> None:
    if POSTGRES in config.stash:
        config.stash[POSTGRES].close()


def _once_for_each_source(compile_: Callable[..., CodeType]) -> Callable[..., CodeType]:
    """Compile a template once. All services that have pages compile with the same options."""
    known: dict[tuple[str, ...], CodeType] = {}

    def compile_once(self: Environment, *source: str) -> CodeType:
        if source not in known:
            known[source] = compile_(self, *source)
        return known[source]

    return compile_once


@pytest.fixture(scope="session", autouse=True)
def _made_once() -> Iterator[None]:
    """Make once for all tests what a process makes once, at its start or when it is first needed."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (service, central_directory, console, integrations, signal_receiver):
            patch.setattr(module, "openapi", functools.cache(module.openapi))
        patch.setattr(integrations, "SsrfGuard", functools.cache(SsrfGuard))
        patch.setattr(Environment, "compile", _once_for_each_source(Environment.compile))
        know_builtin_types(patch)
        yield


@pytest.fixture
def browser(request, tmp_path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile", request.config.getoption("screenshots")) as made:
        yield made


@pytest.fixture(scope="session")
def users_file(tmp_path_factory) -> Path:
    """The sample users, with cheap hashes, so that tests do not wait for expensive ones."""
    path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(
        "".join(f"{name}:{CHEAP_HASHER.hash(password)}\n" for name, password in SAMPLE_USERS.items())
    )
    return path


@pytest.fixture(scope="session")
def postgres_url(pytestconfig) -> Iterator[str]:
    """The URL of a Postgres server, on which each test gets its own database.

    The processes of pytest-xdist share one server.
    """
    if shared := getattr(pytestconfig, "workerinput", {}).get(POSTGRES_URL):
        yield shared
    else:
        with postgres() as url:
            yield url


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder for an embedded Postgres, which runs as another user if the tests run as root.

    It is not below pytest's own folder, because each start of pytest closes that one to other users.
    """
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def reused_databases(postgres_url) -> Iterator[ReusedDatabases]:
    made = ReusedDatabases(postgres_url)
    yield made
    made.close()


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, empty."""
    async with reused_databases.one() as url:
        yield url


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session() as session:
        yield session


@pytest.fixture(scope="session")
def chain(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """The whole chain as processes on loopback. Tests leave every service running."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("chain"), url, users_file, SHARED_CHAIN) as started,
    ):
        yield started


@pytest.fixture
def own_chain(postgres_url, users_file, tmp_path_factory) -> Iterator[Callable[..., Chain]]:
    """Starts a chain for one test, which may kill it. ``overrides`` are settings by service name."""
    with ExitStack() as stack:

        def start(overrides: Overrides | None = None, *, database_url: str | None = None) -> Chain:
            if database_url is None:
                database_url = stack.enter_context(fresh_database(postgres_url))
            folder = tmp_path_factory.mktemp("own_chain")
            return stack.enter_context(running(folder, database_url, users_file, overrides or {}))

        yield start
