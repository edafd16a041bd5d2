"""`quotes conformance` runs the kit, and reports in each form."""

import pytest

from support.command_line import CommandLine
from support.serving import reply, stub

ACCESS = {"QUOTES_USER": "test", "QUOTES_PASSWORD": "123"}


@pytest.fixture
def caller(bare) -> CommandLine:
    return CommandLine(bare.home, ACCESS)


async def test_the_network_keeps_the_quote_api(caller, chain):
    found = await caller.json(
        "conformance", chain.url, "--part", "source", "--max-wait", "0.1", "--timeout", 60
    )

    assert found["isConformant"]
    assert {"source"} == {each["part"] for each in found["checks"]}
    assert {"passed", "skipped"} == {each["outcome"] for each in found["checks"]}
    assert {"id", "part", "section", "outcome", "message", "right"} == set(found["checks"][0])


async def test_an_implementation_that_is_wrong_has_exit_code_1_and_colours(caller, tmp_path):
    async with stub(reply(200, {})) as server:
        options = ("--part", "source", "--max-wait", "0.1", "--html", "report.html", "--junit", "report.xml")
        shown = await caller.on_terminal("conformance", server.url, *options)

    assert 1 == shown.code
    assert "\x1b[1;31m    FAIL" in shown.output
    assert "Checks of the Quote API failed." in shown.output
    assert "<html" in (tmp_path / "report.html").read_text()
    assert "<testsuite" in (tmp_path / "report.xml").read_text()


async def test_an_implementation_that_cannot_be_reached_has_exit_code_3(caller):
    assert "127.0.0.1:1" in await caller.error(3, "conformance", "http://127.0.0.1:1", "--timeout", "5")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--role", "bank"), "--role must be one of network, payee, chain, payer, "),
        (("--part", "none"), "--part must be one of source, promises, all."),
        (("--field", "amount=1e3"), "--field amount must be a plain decimal number such as 12.50."),
        (("--field", "name=x"), "--field must be NAME=VALUE, with a NAME of currencyCode, "),
        (("--listen", "8900"), "--listen must be HOST:PORT."),
        (("--directory", "x:99999"), "--directory must be HOST:PORT."),
        (("--ca", "none"), "--ca must be a PEM file with certificates; none is none."),
        (("--second-user", "other"), "--second-user needs --second-password-file or QUOTES_SECOND_PASSWORD."),
        (("--timeout", "0"), "--timeout must be above 0 and at most 3,600 seconds."),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(refusal, monkeypatch, arguments, message):
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)

    assert refusal("conformance", "http://127.0.0.1:1", *arguments).startswith(message)


def test_a_url_that_is_missing_is_bad_input(refusal):
    assert refusal("conformance").startswith("URL is missing; set it, or QUOTES_URL, or url in ")
