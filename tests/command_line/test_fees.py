"""`quotes fees` agrees with the payee's own reading of a fee schedule."""

import builtins
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfsp_api.fee_schedule_file import parse_fee_schedule
from dfsp_quotes import Operation
from dfsp_quotes.cli.project import fee_schedules
from support.command_line import without_colour

SAMPLE = Path(__file__).parents[2] / "services" / "dfsp_api" / "sample_fees.toml"
STEPS = """
[[rule]]
transferType = "p2p"
currencyCode = "USD"
least = "0.30"
most = "5.00"
rounding = "half_even"

[[rule.step]]
from = "1.00"
to = "100.00"
flat = "0.20"
percent = "1"

[[rule.step]]
from = "100.01"
to = "1000.00"
flat = "0.70"
percent = "0.5"
"""


@pytest.fixture
def files(tmp_path) -> Path:
    """A folder with schedules, the present folder of commands."""
    (tmp_path / "sample.toml").write_text(SAMPLE.read_text())
    (tmp_path / "steps.toml").write_text(STEPS)
    (tmp_path / "bad.toml").write_text(STEPS.replace('"100.01"', '"100.02"'))
    return tmp_path


async def test_a_schedule_is_checked_and_its_bounds_are_shown(bare, files):
    checked = await bare.json("fees", "check", "steps.toml")
    [rule] = checked["rules"]

    assert checked["isValid"]
    assert {
        "transferType": "p2p",
        "currencyCode": "USD",
        "minDestinationAmount": "1.00",
        "maxDestinationAmount": "1000.00",
        "minSourceAmount": "1.30",
        "maxSourceAmount": "1005.00",
        "least": "0.30",
        "most": "5.00",
        "rounding": "half_even",
        "steps": [
            {"from": "1.00", "to": "100.00", "flat": "0.20", "percent": "1"},
            {"from": "100.01", "to": "1000.00", "flat": "0.70", "percent": "0.5"},
        ],
    } == rule


async def test_a_schedule_that_the_payee_refuses_has_exit_code_1(bare, files):
    message = "bad.toml: rule p2p USD: after the step to 100.00 the next must begin at 100.01, not 100.02."
    done = await bare.run("fees", "check", "bad.toml", "--json")

    assert message == await bare.error(1, "fees", "check", "bad.toml")
    assert (1, {"message": message, "exitCode": 1, "isValid": False}) == (done.code, done.json["error"])


@pytest.mark.parametrize(
    ("direction", "amount", "expected"),
    [
        ("source", "50.00", ("50.70", "50.00", "0.70", "0.7", None, "1.00")),
        ("source", "1.00", ("1.30", "1.00", "0.30", "0.3", "least", "1.00")),
        ("source", "900.00", ("905.00", "900.00", "5.00", "5", "most", "100.01")),
        ("source", "10.50", ("10.80", "10.50", "0.30", "0.305", None, "1.00")),
        ("destination", "50.70", ("50.70", "50.00", "0.70", "0.7", None, "1.00")),
    ],
)
async def test_a_price_is_explained(bare, files, direction, amount, expected):
    found = await bare.json("fees", "explain", "steps.toml", direction, amount, "USD")
    names = ("sourceAmount", "destinationAmount", "fee", "unrounded", "limitedBy")

    assert expected == (*(found[name] for name in names), found["step"]["from"])
    assert {"transferType": "p2p", "currencyCode": "USD"} == found["rule"]
    assert ("0.30", "5.00", "half_even") == (found["least"], found["most"], found["rounding"])


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(cents=st.integers(100, 100_000), operation=st.sampled_from(list(Operation)))
def test_an_explained_price_is_the_payees_and_follows_from_its_step(cents, operation):
    schedule = parse_fee_schedule(STEPS)
    amount = Decimal(cents).scaleb(-2)
    request = {"transferType": "p2p", "currencyCode": "USD", "amount": str(amount)}
    is_source = operation is Operation.QUOTE_SOURCE_AMOUNT
    if not is_source and cents < 130:
        return
    terms = (schedule.price_source if is_source else schedule.price_destination)(request)
    found = fee_schedules.explain(schedule, operation, "p2p", "USD", str(amount))
    fee = terms.source_amount - found.destination_amount if is_source else found.fee
    free = found.step.flat + found.step.percent / 100 * found.destination_amount

    assert (terms.source_amount, terms.destination_amount) == (found.source_amount, found.destination_amount)
    assert found.step.first <= found.destination_amount <= found.step.last
    assert Decimal(found.unrounded) == min(max(free, Decimal("0.30")), Decimal("5.00"))
    if is_source:
        assert abs(fee - Decimal(found.unrounded)) <= Decimal("0.005")


async def test_what_a_new_schedule_changes_is_shown(bare, files):
    new = STEPS.replace('percent = "1"', 'percent = "0.9"').replace('"p2p"', '["p2p", "b2b"]')
    (files / "new.toml").write_text(new)
    changes = await bare.json("fees", "diff", "steps.toml", "new.toml")
    added, changed = changes["rules"]

    assert changes["isChanged"]
    assert ("b2b", None) == (added["transferType"], added["old"])
    assert ("1", "0.9") == (changed["old"]["steps"][0]["percent"], changed["new"]["steps"][0]["percent"])
    assert {"amount": "100.00", "oldFee": "1.20", "newFee": "1.10"} in changed["fees"]
    assert "1000.00" not in [each["amount"] for each in changed["fees"]]


async def test_a_schedule_does_not_differ_from_itself(bare, files):
    assert {"isChanged": False, "rules": []} == await bare.json("fees", "diff", "sample.toml", "sample.toml")


async def test_a_terminal_gets_tables_with_colours(bare, files):
    (files / "new.toml").write_text(STEPS.replace('percent = "1"', 'percent = "0.9"'))
    checked = await bare.on_terminal("fees", "check", "sample.toml")
    explained = await bare.on_terminal("fees", "explain", "steps.toml", "source", "1.00", "USD")
    compared = await bare.on_terminal("fees", "diff", "steps.toml", "new.toml")

    assert "\x1b[32mvalid" in checked.output
    assert re.search(r"p2p USD +0\.01 +1000000\.00 +0\.02 +1100000\.00 +0\.01 +- +1", checked.output)
    assert "1.00 to 100.00: 0.20 plus 1 %, raised to the least fee 0.30" in without_colour(explained.output)
    assert "\x1b[33mchanged" in compared.output
    assert re.search(r"100\.00 +1\.20 +1\.10 +-0\.10", without_colour(compared.output))
    assert "\x1b[32m-0.10" in compared.output.replace(" ", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("check", "missing.toml"), 2, "missing.toml cannot be read: No such file or directory."),
        (("check", "."), 2, ". cannot be read: Is a directory."),
        (("explain", "steps.toml", "up", "1", "USD"), 2, "Invalid value for 'direction'"),
        (("explain", "steps.toml", "source", "1,0", "USD"), 2, "AMOUNT must be a plain decimal number"),
        (("explain", "steps.toml", "source", "1.001", "USD"), 1, "An amount of USD has at most 2 fraction"),
        (("explain", "steps.toml", "source", "5", "EUR"), 1, "The schedule has no rule for p2p EUR."),
        (
            ("explain", "steps.toml", "source", "9000", "USD"),
            1,
            "The amount must be from 1.00 to 1000.00 for this transfer.",
        ),
    ],
)
def test_each_failure_is_one_sentence(refusal, files, arguments, code, message):
    assert refusal("fees", *arguments, code=code).startswith(message)


@pytest.mark.parametrize(
    "arguments", [("fees", "check", "sample.toml"), ("users", "list"), ("doctor", "--port", "8010")]
)
def test_without_the_projects_packages_a_command_says_so(refusal, files, monkeypatch, arguments):
    """A user who installed the client alone gets this."""
    real_import = builtins.__import__

    def without_project(name, *more):
        if name.startswith("dfsp_quotes.cli.project"):
            raise ModuleNotFoundError(name="network.topology")
        return real_import(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_project)

    assert (
        "This command needs the packages of the quoting project: run it with the project's own .venv/bin/quotes."
        == refusal(*arguments)
    )
