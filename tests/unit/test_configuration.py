"""The configuration that operators see: values, where each is from, and no secret."""

import pytest

from chassis.configuration import MAX_ROWS, ConfigurationTable, describe, shown
from chassis.settings import Secret, load
from console.settings import ConsoleSettings
from dfsp_api.audit.note import SigningKey
from dfsp_api.payee import SAMPLE_FEES, PayeeSettings, fee_table, load_fees
from integrations.settings import IntegrationsSettings

PASSWORD = "correct-horse"
AUDIT_KEY = SigningKey.generate("example.com/quotes").secret_text
KEY = "8xSQcDRjyQqXfGm1CaTrWPSqXRHzlCQWtyKxlPX1gfQ="


def described(kind, **environment: str):
    given = {f"QUOTES_{name}": value for name, value in environment.items()}
    return {each["name"]: each for each in describe(load(kind, given), given)}


def test_each_setting_says_where_its_value_is_from(tmp_path):
    file = tmp_path / "ttl"
    file.write_text("7")
    found = described(
        PayeeSettings,
        USERS_FILE="/users",
        DATABASE_URL="postgresql://a",
        TTL_SECONDS_FILE=str(file),
        MOST_IN_HAND="9",
    )
    names = ("USERS_FILE", "TTL_SECONDS", "MAX_IN_FLIGHT", "RETENTION_DAYS", "LOG_FILE")

    assert [
        ("/users", "environment", "QUOTES_USERS_FILE"),
        ("7.0", "file", "QUOTES_TTL_SECONDS_FILE"),
        ("9", "environment", "QUOTES_MOST_IN_HAND"),
        ("30.0", "default", None),
        (None, "default", None),
    ] == [tuple(found[f"QUOTES_{name}"][key] for key in ("value", "source", "variable")) for name in names]


def test_no_secret_is_shown():
    found = [
        *described(
            PayeeSettings,
            USERS_FILE="/users",
            AUDIT_KEY=AUDIT_KEY,
            DATABASE_URL=f"postgresql://quotes:{PASSWORD}@a:1,b:2/quotes?password={PASSWORD}",
        ).values(),
        *described(
            IntegrationsSettings, USERS_FILE="/users", DATABASE_URL="postgresql://a", ENCRYPTION_KEYS=KEY
        ).values(),
        *described(
            ConsoleSettings,
            USERS_FILE="/users",
            DATABASE_URL="postgresql://a",
            SERVICE_PASSWORD=PASSWORD,
            CONSOLE_SERVICES="dfsp-api=http://a",
        ).values(),
    ]

    assert PASSWORD not in repr(found)
    assert KEY not in repr(found)
    assert AUDIT_KEY[-40:] not in repr(found)
    assert {
        "QUOTES_AUDIT_KEY": "set",
        "QUOTES_DATABASE_URL": "postgresql://a",
        "QUOTES_ENCRYPTION_KEYS": "set",
        "QUOTES_SERVICE_PASSWORD": "set",
    } == {each["name"]: each["value"] for each in found if each["isSecret"]}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            Secret(f"postgresql://quotes:{PASSWORD}@a:1,b:2/quotes?password=x"),
            "postgresql://quotes:***@a:1,b:2/quotes",
        ),
        (Secret(f"postgres://q@a/quotes?password={PASSWORD}"), "postgres://q@a/quotes"),
        (Secret(f"https://user:{PASSWORD}@a"), "set"),
        (Secret("postgresql://q@[::1]:5432,b/quotes"), "postgresql://q@[::1]:5432,b/quotes"),
        (Secret("postgresql:///quotes?host=/run"), "postgresql:///quotes"),
        *(
            (Secret(f"postgresql://quotes:{password}@a/quotes"), "set")
            for password in (
                "pass/word",
                "pass#word",
                "pass?word",
                "p@ss/word",
                "p@ss#word",
                "p@ss?word",
                "[",
            )
        ),
        (Secret(""), "not set"),
        ((Secret(KEY),), "set"),
        ((), None),
        (None, None),
        (("a", "b"), "a, b"),
        (False, "false"),
        (0.5, "0.5"),
    ],
)
def test_a_value_is_shown_as_text(value, text):
    assert text == shown(value)


def test_a_large_table_is_cut_and_says_how_many_rows_there_are():
    table = ConfigurationTable("Directory", ("a",), [(str(n),) for n in range(MAX_ROWS + 1)], 10_000)

    assert (MAX_ROWS, 10_000) == (len(table.as_json()["rows"]), table.as_json()["total"])


def test_the_fee_schedule_has_one_row_for_each_step():
    fees = load_fees(SAMPLE_FEES)
    table = fee_table(fees)

    assert sum(len(rule.steps) for rule in fees.rules.values()) == table.total == len(table.rows)
    assert {len(table.columns)} == {len(row) for row in table.rows}
