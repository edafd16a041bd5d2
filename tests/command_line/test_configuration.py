"""Where URL, user and password come from, and where the password never goes."""

from pathlib import Path

import pytest
from aiohttp import web

from dfsp_quotes.fake import FakeQuoteServer
from support.command_line import CommandLine
from support.serving import Seen, stub

PASSWORD = "correct-horse-battery"
UUID = "110ec58a-a0f2-4ac4-8393-c866d813b8d1"
SHOW = ("show", UUID, "--to", "eur:1")


@pytest.fixture
async def fake():
    async with FakeQuoteServer(users={"alice": PASSWORD}) as server:
        yield server


def write_configuration(home: Path, text: str) -> None:
    (home / ".config").mkdir()
    (home / ".config" / "dfsp-quotes.toml").write_text(text)


def configured(bare: CommandLine, text: str, **environment: str) -> CommandLine:
    write_configuration(bare.home, text)
    return CommandLine(bare.home, environment)


async def refused(quotes: CommandLine, *more: str) -> None:
    """The credentials were accepted: the request got as far as the missing quote."""
    assert "QuoteNotFoundError" in await quotes.error(1, *SHOW, *more)


async def test_everything_can_come_from_the_environment(bare, fake):
    environment = {"QUOTES_URL": fake.url, "QUOTES_USER": "alice", "QUOTES_PASSWORD": PASSWORD}

    await refused(CommandLine(bare.home, environment))


async def test_everything_can_come_from_the_file(bare, fake):
    (bare.home / "secret").write_text(f"{PASSWORD}\n")
    text = f'url = "{fake.url}"\nuser = "alice"\npassword_file = "~/secret"\n'

    await refused(configured(bare, text))


async def test_options_win_over_the_environment_and_that_over_the_file(bare, fake):
    (bare.home / "secret").write_text(PASSWORD)
    quotes = configured(
        bare, 'url = "http://127.0.0.1:1"\nuser = "nobody"\n', QUOTES_URL=fake.url, QUOTES_PASSWORD="wrong"
    )

    await refused(quotes, "--user", "alice", "--password-file", "secret")


async def test_another_file_can_be_named(bare, fake):
    (bare.home / "other.toml").write_text(f'url = "{fake.url}"\nuser = "alice"\n')
    quotes = CommandLine(bare.home, {"QUOTES_PASSWORD": PASSWORD})

    await refused(quotes, "--config", "other.toml")


async def test_a_terminal_asks_for_the_password_and_does_not_show_it(bare, fake):
    quotes = CommandLine(bare.home, {"QUOTES_URL": fake.url, "QUOTES_USER": "alice"})
    done = await quotes.on_terminal(*SHOW, keys={"Password of alice: ": PASSWORD})

    assert 1 == done.code
    assert "QuoteNotFoundError" in done.output
    assert PASSWORD not in done.output


async def test_no_option_takes_the_password(bare):
    assert "No such option: --password" in await bare.error(2, *SHOW, "--password", PASSWORD)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url", "is not TOML: Expected '=' after a key"),
        ('ulr = "x"', "'ulr' is not a setting; the settings are account, directory_url, integrations_url, "),
        ("url = 1", "url must be a string."),
        ("services = 1", "services must be a table of base URLs by name."),
        ("", "--url is missing; set it, or QUOTES_URL, or url in "),
        ('url = "http://127.0.0.1:1"', "--user is missing; set it, or QUOTES_USER, or user in "),
        (
            'url = "http://127.0.0.1:1"\nuser = "alice"',
            "The password is missing: set --password-file, QUOTES_PASSWORD, or password_file in ",
        ),
        (
            'url = "http://127.0.0.1:1"\nuser = "alice"\npassword_file = "missing"',
            "missing cannot be read: No such file or directory.",
        ),
    ],
)
def test_a_faulty_or_incomplete_configuration_is_bad_input(tmp_path, refusal, text, message):
    write_configuration(tmp_path, text)

    assert message in refusal(*SHOW)


@pytest.mark.parametrize("content", ["", "one\ntwo\n"])
def test_a_password_file_has_one_line(tmp_path, refusal, content):
    (tmp_path / "secret").write_text(content)
    more = ("--url", "http://127.0.0.1:1", "--user", "a", "--password-file", "secret")

    assert "secret must hold the password in its one line." == refusal(*SHOW, *more)


def test_an_argument_or_password_that_is_not_utf_8_is_bad_input(refusal, monkeypatch):
    monkeypatch.setenv("QUOTES_PASSWORD", "\udcff")
    more = ("--url", "http://127.0.0.1:1", "--user", "a")

    assert "An argument is not UTF-8." == refusal(*SHOW, "--user", "\udcff")
    assert "The password is not UTF-8." == refusal(*SHOW, *more)
    assert "The name of a user has no colon." == refusal(*SHOW, *more, "--user", "a:b")


async def test_a_server_that_shows_control_characters_does_not_reach_the_terminal(bare):
    async def answer(_seen: Seen) -> web.Response:
        content = {"id": "XError", "message": "\x1b]0;title\x07 [red]x[/red]", "service": "s", "traceId": "t"}
        return web.json_response(content, status=409)

    async with stub(answer) as server:
        url = server.url
        quotes = CommandLine(bare.home, {"QUOTES_URL": url, "QUOTES_USER": "a", "QUOTES_PASSWORD": "b"})
        message = await quotes.error(1, *SHOW)

    assert message.startswith("?]0;title? [red]x[/red] (XError, service s, trace id ")
