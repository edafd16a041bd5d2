"""Fixtures of the fault tests: a chain that may be broken, and a Postgres of one's own."""

from collections.abc import Iterator

import pytest

from network.postgres import EmbeddedPostgres
from support.chain import Chain, running
from support.postgres import fresh_database


def pytest_collection_modifyitems(items) -> None:
    """All in this folder is a fault test."""
    for item in items:
        if "/fault/" in str(item.path):
            item.add_marker(pytest.mark.fault)


@pytest.fixture(scope="module")
def broken_chain(postgres_url, users_file, tmp_path_factory) -> Iterator[Chain]:
    """One chain for a module, whose tests break it and must mend it."""
    with (
        fresh_database(postgres_url) as url,
        running(tmp_path_factory.mktemp("broken_chain"), url, users_file, {}) as chain,
    ):
        yield chain


@pytest.fixture
def own_postgres(passable) -> Iterator[EmbeddedPostgres]:
    """A server that may be killed and stopped."""
    with EmbeddedPostgres(passable / "postgres") as postgres:
        yield postgres
