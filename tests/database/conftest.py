"""The payee's fixtures."""

import pytest

from chassis import database
from support.payee_fixtures import (
    clock,
    database_url,
    payee,
    payee_environment,
    repository,
    sql,
    start,
    two_processes,
)

__all__ = [
    "clock",
    "database_url",
    "payee",
    "payee_environment",
    "repository",
    "sql",
    "start",
    "two_processes",
]


@pytest.fixture(autouse=True)
def _patient(monkeypatch) -> None:
    """A busy machine must not look like a database that cannot be reached."""
    monkeypatch.setattr(database, "CONNECT_SECONDS", 60)
