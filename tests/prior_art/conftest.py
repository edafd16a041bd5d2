"""The payee's fixtures."""

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
