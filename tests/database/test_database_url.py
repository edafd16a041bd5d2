"""With an unusable QUOTES_DATABASE_URL a service ends at its start, with one line that does not show the password."""

import os
import subprocess
import sys

import pytest

from chassis.database import Database
from chassis.settings import SettingsError
from dfsp_api.repository import MIGRATIONS

MALFORMED = [
    "",
    "localhost:5432/quotes",
    "mysql://payee@db/quotes",
    "postgresql:/payee@db/quotes",
    "postgresql//payee@db/quotes",
    "postgresql://payee@db:port/quotes",
    "postgresql://payee@db:99999/quotes",
    "postgresql://payee@db:5432,other:0/quotes",
    "postgresql://payee:hunter2/x@db/quotes",
    "postgresql://payee:hunter 2@db/quotes",
    "postgresql://[::1/quotes",
    "postgresql://payee@db/quotes?sslmode",
    "postgresql://payee@db/quotes?sslmode=maybe",
    "postgresql://payee@db/quotes?port=x",
    "postgresql://payee@db/quotes?target_session_attrs=good",
]
USABLE = [
    "postgresql://payee:secret@db.example.invalid/quotes",
    "postgres://payee@127.0.0.1:1/quotes",
    "postgresql:///quotes?host=/nonexistent",
    "postgresql://payee@one.invalid:5432,two.invalid:5433/quotes?target_session_attrs=read-write",
    "postgresql://payee@[::1]:1/quotes?sslmode=require",
]


async def test_a_malformed_url_is_a_start_error():
    for url in MALFORMED:
        with pytest.raises(SettingsError, match="QUOTES_DATABASE_URL") as raised:
            await Database(url, 1, MIGRATIONS).open(print)

        assert "hunter" not in str(raised.value)


async def test_a_url_that_leads_nowhere_yet_is_no_start_error():
    """The database, its name in DNS and its certificates may come later."""
    for url in USABLE:
        made = Database(url, 1, MIGRATIONS)
        await made.open(lambda _cause: None)
        await made.close()


def test_the_payee_ends_with_one_line_for_a_malformed_url(users_file):
    ended = subprocess.run(
        [sys.executable, "-m", "dfsp_api"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("QUOTES_")},
            "QUOTES_ROLE": "payee",
            "QUOTES_PORT": "0",
            "QUOTES_USERS_FILE": str(users_file),
            "QUOTES_DATABASE_URL": "postgresql://payee:hunter2@db:port/quotes",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 2 == ended.returncode
    assert ended.stderr.startswith(
        "error: QUOTES_DATABASE_URL must be a URL such as postgresql://user:password@"
    )
    assert 1 == len(ended.stderr.splitlines())
    assert "hunter2" not in ended.stderr
