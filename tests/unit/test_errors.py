"""Causes of errors in the log."""

import asyncpg

from chassis.errors import UnavailableError, cause_of


def test_an_error_of_postgres_is_one_line():
    error = asyncpg.exceptions.UniqueViolationError.new(
        {"S": "ERROR", "C": "23505", "M": "duplicate key", "D": "Key (id)=(1) exists.", "H": "Use another."}
    )

    assert "duplicate key; DETAIL:  Key (id)=(1) exists.; HINT:  Use another." == cause_of(error)


def test_the_cause_of_an_error_comes_before_its_message():
    assert "no route to host" == cause_of(UnavailableError("The database is away.", cause="no route to host"))
    assert "TimeoutError" == cause_of(TimeoutError())
