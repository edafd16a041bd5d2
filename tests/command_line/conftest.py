"""Fixtures of the command line: `quotes` alone, and with a network."""

from collections.abc import Callable

import pytest

from dfsp_quotes.cli.app import run
from support.chain import Chain
from support.command_line import CommandLine
from support.messages import QUOTE


@pytest.fixture
def bare(tmp_path) -> CommandLine:
    """`quotes` without any configuration."""
    return CommandLine(tmp_path, {})


@pytest.fixture
def quotes(tmp_path, chain: Chain) -> CommandLine:
    """`quotes` that is configured for the chain."""
    folder = tmp_path / ".config"
    folder.mkdir()
    (folder / "dfsp-quotes.toml").write_text(f'account = "{QUOTE["account"]}"\n')
    environment = {
        "QUOTES_URL": chain.url,
        "QUOTES_PAYEE_URL": chain.origin("dfsp-api"),
        "QUOTES_DIRECTORY_URL": chain.origin("central-directory"),
        "QUOTES_USER": "test",
        "QUOTES_PASSWORD": "123",
    }
    return CommandLine(tmp_path, environment)


@pytest.fixture
def refusal(tmp_path, monkeypatch, capsys) -> Callable[..., str]:
    """Runs a command that is bad input, in this process and without a network. Returns its one line on stderr."""
    for name in (
        "URL",
        "USER",
        "PASSWORD",
        "CONFIG",
        "PAYEE_URL",
        "DIRECTORY_URL",
        "INTEGRATIONS_URL",
        "NEW_PASSWORD",
    ):
        monkeypatch.delenv(f"QUOTES_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def refused(*arguments: object, code: int = 2) -> str:
        found = run(list(map(str, arguments)))
        output, error = capsys.readouterr()
        assert (code, "") == (found, output), error
        assert 1 == len(error.splitlines())
        return error.removeprefix("error: ").rstrip("\n")

    return refused
