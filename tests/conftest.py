"""Fixtures: users, a real Postgres, a client, and the whole chain as processes."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import hypothesis
import pytest
from argon2 import PasswordHasher

from chassis.users_file import SAMPLE_USERS
from support.browser import Browser, chromium
from support.chain import Chain, Overrides, running
from support.postgres import ReusedDatabases, fresh_database, postgres
from support.serving import client_session
from support.settings import BATCH_LINES, DEFAULTS

# the same examples in each run; --hypothesis-profile=searching tries others
hypothesis.settings.register_profile("steady", derandomize=True, deadline=None)
hypothesis.settings.register_profile("searching", max_examples=1_000, deadline=None)
hypothesis.settings.load_profile("steady")

OPERATORS: Overrides = {"dfsp-api": {"QUOTES_OPERATORS": "admin"}}
"""The payee's operator in the chain that tests share."""


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


@pytest.fixture
def browser(request, tmp_path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile", request.config.getoption("screenshots")) as made:
        yield made


@pytest.fixture(scope="session")
def users_file(tmp_path_factory) -> Path:
    """The sample users, with cheap hashes, so that tests do not wait for expensive ones."""
    path = tmp_path_factory.mktemp("users") / "users"
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    path.write_text("".join(f"{name}:{cheap.hash(password)}\n" for name, password in SAMPLE_USERS.items()))
    return path


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of a Postgres server, on which each test gets its own database."""
    with TemporaryDirectory() as folder, postgres(Path(folder)) as url:
        yield url


@pytest.fixture
def passable() -> Iterator[Path]:
    """A folder for an embedded Postgres, which runs as another user if the tests run as root.

    It is not below pytest's own folder, because each start of pytest closes that one to other users.
    """
    with TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def reused_databases(postgres_url) -> ReusedDatabases:
    return ReusedDatabases(postgres_url)


@pytest.fixture
async def database_url(reused_databases) -> AsyncIterator[str]:
    """A database of the test's own, empty."""
    url = await reused_databases.take()
    yield url
    await reused_databases.give_back(url)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with client_session() as session:
        yield session


@pytest.fixture(scope="session")
def chain(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """The whole chain as processes on loopback. Tests leave every service running."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("chain"), url, users_file, OPERATORS) as started,
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
