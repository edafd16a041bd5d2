"""Fixtures of the fault tests: a chain that tests may break, and a Postgres for one test."""

from collections.abc import Iterator

import pytest

from network.postgres import EmbeddedPostgres
from support.chain import Chain, running
from support.postgres import fresh_database


def pytest_collection_modifyitems(items) -> None:
    """Mark each test of this folder as a fault test."""
    for item in items:
        if "/fault/" in str(item.path):
            item.add_marker(pytest.mark.fault)


@pytest.fixture(scope="module")
def broken_chain(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """Start a chain for a module. A test that breaks it must repair it."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("broken_chain"), url, users_file, {}) as chain,
    ):
        yield chain


@pytest.fixture
def own_postgres(passable) -> Iterator[EmbeddedPostgres]:
    """Start a Postgres that the test may kill and stop."""
    with EmbeddedPostgres(passable / "postgres") as postgres:
        yield postgres
