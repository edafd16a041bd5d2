"""The payee's fixtures."""

from support.payee_fixtures import clock, payee, repository, sql, start, two_processes

__all__ = ["clock", "payee", "repository", "sql", "start", "two_processes"]
