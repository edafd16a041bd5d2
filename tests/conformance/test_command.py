"""The command: python -m dfsp_quotes.conformance."""

import asyncio
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest
from aiohttp import web

from dfsp_quotes.conformance import Clock, Options, Role, neighbours
from dfsp_quotes.conformance.command import main
from dfsp_quotes.conformance.neighbour import Neighbour, always, quote_reply
from dfsp_quotes.conformance.neighbour import listening as playing
from dfsp_quotes.conformance.options import Address, Part
from dfsp_quotes.conformance.result import NotRunError
from support.model import TEST
from support.model_payee import ModelPayee
from support.scripted_server import unused_url
from support.serving import listening

PASSWORD = {"QUOTES_PASSWORD": "123"}


@pytest.fixture
async def payee():
    """A payee that adds a field, so it keeps the source and breaks a promise."""

    class AddsAField(ModelPayee):
        def reservation_reply(self, quote):
            return {**quote.reply, "fee": "1.25"}

    made = web.AppRunner(AddsAField(Clock()).app(), access_log=None, shutdown_timeout=0.1)
    async with listening(made) as url:
        yield url


async def run_command(*arguments: str, environment=PASSWORD) -> int:
    return await asyncio.to_thread(main, arguments, environment)


async def test_the_command_writes_all_reports_and_exits_with_their_code(payee, tmp_path, capsys):
    junit, page = tmp_path / "junit.xml", tmp_path / "page.html"
    code = await run_command(payee, "--role", "payee", "--junit", str(junit), "--html", str(page))
    printed = capsys.readouterr().out

    assert 3 == code
    assert "FAIL  message.reply-fields" in printed
    assert ["message.reply-fields"] == [
        case.get("name") for case in ET.parse(junit).iter("testcase") if case.find("failure") is not None
    ]
    assert "message.reply-fields" in page.read_text()


async def test_the_part_of_the_source_alone_passes(payee):
    assert 0 == await run_command(payee, "--role", "payee", "--part", "source")


async def test_a_wrong_password_fails_the_source(payee):
    assert 1 == await run_command(payee, "--role", "payee", environment={"QUOTES_PASSWORD": "wrong"})


async def test_passwords_come_from_files(payee, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("123\n")
    second.write_text("456\n")
    files = ("--password-file", str(first), "--second-user", "other", "--second-password-file", str(second))

    assert 0 == await run_command(payee, "--role", "payee", "--part", "source", *files, environment={})


async def test_a_restart_is_a_command(payee, tmp_path, capsys):
    marker = tmp_path / "restarted"
    command = f"{sys.executable} -c \"open('{marker}', 'w')\""
    code = await run_command(payee, "--role", "payee", "--part", "source", "--restart", command)

    assert 0 == code
    assert "ok    persistence.restart" in capsys.readouterr().out
    assert marker.exists()


async def test_a_restart_that_fails_ends_the_run(payee, capsys):
    code = await run_command(payee, "--role", "payee", "--part", "source", "--restart", "false")

    assert 4 == code
    assert "--restart 'false' failed with exit code 1.\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://host"], "must be an http or https URL"),
        (["http://user@host"], "must be an http or https URL"),
        (["http://host:x"], "is not a URL"),
        (["http://host", "--field", "amount"], "must be NAME=VALUE"),
        (["http://host", "--field", "fee=1"], "must be NAME=VALUE"),
        (["http://host", "--field", "amount=-1"], "must be a decimal number"),
        (["http://host", "--execute", "PUT"], "--execute"),
        (["http://host", "--execute", "PUT /v1/payments"], "--execute"),
        (["http://host", "--ca", "/nowhere"], "No such file"),
        (["http://host", "--ca", __file__], "is no PEM file"),
        (["http://host", "--password-file", "/nowhere"], "cannot be read"),
        (["http://host", "--restart", "'"], "--restart"),
    ],
)
def test_a_wrong_option_gets_one_sentence_and_exit_code_2(arguments, message, capsys):
    code = main(arguments, PASSWORD)
    written = capsys.readouterr().err

    assert 2 == code
    assert message in written
    assert 1 == written.count("\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["http://host", "--role", "bank"],
        ["http://host", "--timeout", "0"],
        ["http://host", "--max-wait", "x"],
        ["http://host", "--lifetime-ms", "0"],
        ["http://host", "--lifetime-ms", "1.5"],
        ["http://host", "--listen", "8900"],
        ["http://host", "--listen", "host:70000"],
        ["http://host", "--password", "123"],
    ],
)
def test_an_option_that_argparse_refuses_has_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments, PASSWORD)

    assert 2 == ended.value.code
    assert "Traceback" not in capsys.readouterr().err


def test_without_a_password_and_a_terminal_the_command_says_where_to_put_it():
    command = [sys.executable, "-m", "dfsp_quotes.conformance", "http://127.0.0.1:9"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={}
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert "There is no password for test: set QUOTES_PASSWORD, or use a password file.\n" == done.stderr


async def test_an_implementation_that_cannot_be_reached_has_exit_code_4(capsys):
    code = await run_command(unused_url())

    assert 4 == code
    assert "cannot be reached" in capsys.readouterr().err


async def test_an_address_that_is_taken_ends_the_run():
    async with playing(Neighbour("first", always(quote_reply())), Address()) as first:
        address = Address("127.0.0.1", int(first.url.rpartition(":")[2]))
        with pytest.raises(NotRunError, match="The kit cannot listen"):
            async with neighbours(Options("", TEST, Role.SPSP_SERVER, frozenset(Part), listen=address)):
                pass
