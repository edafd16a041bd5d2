"""Every command has a help with an example, and the services answer --help."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from chassis.settings import variables
from dfsp_api.payee import PayeeSettings
from dfsp_api.payer import PayerSettings
from dfsp_quotes.cli.app import app, run

SERVICES = {
    "dfsp_api": "dfsp-api",
    "spsp_client_proxy": "spsp-client-proxy",
    "spsp_client": "spsp-client",
    "spsp_server": "spsp-server",
    "spsp_server_backend": "spsp-server-backend",
    "central_directory": "central-directory",
    "load_balancer": "load-balancer",
    "integrations": "integrations",
    "signal_receiver": "signal-receiver",
}


def commands(command=None, names: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Return the names of all commands that are no groups."""
    found = typer.main.get_command(app) if command is None else command
    children = getattr(found, "commands", None)
    if children is None:
        yield names
    for name, child in (children or {}).items():
        yield from commands(child, (*names, name))


def test_there_are_these_commands():
    assert {
        "audit checkpoint",
        "audit consistency",
        "audit export",
        "audit key",
        "audit proof",
        "audit verify",
        "conformance",
        "directory add",
        "directory list",
        "directory register",
        "doctor",
        "events listen",
        "events trigger",
        "exposures",
        "fees check",
        "fees diff",
        "fees explain",
        "list",
        "logs",
        "pay",
        "quote destination",
        "quote source",
        "release",
        "requote",
        "show",
        "trace",
        "users add",
        "users list",
        "users remove",
        "users rotate",
    } == {" ".join(names) for names in commands()}


@pytest.mark.parametrize("names", list(commands()), ids=" ".join)
def test_the_help_of_a_command_has_an_example_of_it(names, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    code = run([*names, "--help"])
    text = capsys.readouterr().out

    assert 0 == code
    assert f"Usage: quotes {' '.join(names)}" in text
    assert f"Example: quotes {' '.join(names)} " in text
    assert "--json" in text


@pytest.mark.parametrize("names", [(), ("quote",), ("fees",), ("users",), ("directory",), ("events",)])
def test_a_group_without_a_command_shows_its_help(names, capsys):
    assert 2 == run([*names])
    assert "Commands" in capsys.readouterr().out


def test_the_document_has_each_command_and_no_other():
    text = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text()
    rows = re.findall(r"^\| `quotes ([a-z]+)(?: ([a-z]+))?[` ]", text, re.MULTILINE)
    documented = {" ".join(filter(None, row)) for row in rows} | {"users rotate", "users remove"}

    assert {" ".join(names) for names in commands()} == documented


def test_the_version_is_shown(capsys):
    assert 0 == run(["--version"])
    assert re.fullmatch(r"quotes [0-9.]+\n", capsys.readouterr().out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_completion_for_each_shell(shell):
    done = subprocess.run(
        [sys.executable, "-m", "dfsp_quotes.cli", "--show-completion", shell],
        check=False,
        capture_output=True,
        text=True,
        # typer takes the shell that started it, else; the tests may be started by one that it does not know
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )

    assert 0 == done.returncode, done.stderr
    assert "_QUOTES_COMPLETE" in done.stdout


@pytest.mark.parametrize("package", SERVICES)
def test_a_service_answers_help_with_what_it_is_and_its_settings(package):
    done = subprocess.run(
        [sys.executable, "-m", package, "--help"], check=False, capture_output=True, text=True
    )

    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith(f"usage: python -m {package}\n")
    assert f"\n{SERVICES[package]}: " in done.stdout
    assert re.search(
        r"^  QUOTES_HOST \(default: 127\.0\.0\.1\): address to listen on$", done.stdout, re.MULTILINE
    )


def test_the_help_of_dfsp_api_has_the_settings_of_both_roles_and_the_other_command():
    done = subprocess.run(
        [sys.executable, "-m", "dfsp_api", "-h"], check=False, capture_output=True, text=True
    )
    payer, payee = done.stdout.split("Settings with QUOTES_ROLE=")[1:]

    assert "python -m dfsp_api distribute" in done.stdout
    for part, settings in ((payer, PayerSettings), (payee, PayeeSettings)):
        assert {name for name, _ in variables(settings)} == set(
            re.findall(r"^  (QUOTES_\w+)", part, re.MULTILINE)
        )


@pytest.mark.parametrize("package", ["dfsp_api", "spsp_server", "integrations", "load_balancer"])
def test_a_service_refuses_other_arguments(package):
    done = subprocess.run(
        [sys.executable, "-m", package, "--port=1"], check=False, capture_output=True, text=True
    )

    assert (2, "") == (done.returncode, done.stdout)
    assert f"error: '--port=1' is unknown; python -m {package} --help\n" == done.stderr
