"""Commands with any arguments end with a documented exit code and one line, not with a traceback."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfsp_quotes.cli.app import run

CODES = {0, 1, 2, 3}
WORDS = [
    "source",
    "destination",
    "12.50",
    "USD",
    "--to",
    "eur:30754016",
    "--timeout",
    "0.01",
    "--json",
    "--key",
    "--file",
    "--data",
    "--account",
    "http://a.example/alice",
    "a=http://127.0.0.1:1",
    "fees.toml",
    ".",
    "--",
    "OPEN",
    "BUY",
    "110ec58a-a0f2-4ac4-8393-c866d813b8d1",
]
# a command line of a system has no null characters
ARGUMENTS = st.lists(
    st.sampled_from(WORDS) | st.text(st.characters(exclude_characters="\0"), max_size=20), max_size=8
)
COMMANDS = [
    ("quote", "source"),
    ("show",),
    ("requote",),
    ("trace",),
    ("fees", "check"),
    ("fees", "explain"),
    ("fees", "diff"),
    ("users", "list"),
    ("users", "rotate"),
    ("doctor",),
    ("directory", "list"),
    ("directory", "add"),
    ("events", "trigger"),
    (),
]

WITH_TIMEOUT = {("quote", "source"), ("show",), ("requote",), ("doctor",), ("directory", "list")}


@pytest.fixture(scope="module")
def _configured(tmp_path_factory):
    """No network: a request would fail at once."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("arguments")
        (folder / "fees.toml").write_text("[[rule]]\n")
        patch.chdir(folder)
        patch.setenv("HOME", str(folder))
        for name in ("URL", "DIRECTORY_URL", "INTEGRATIONS_URL"):
            patch.setenv(f"QUOTES_{name}", "http://127.0.0.1:1")
        for name in ("USER", "PASSWORD", "NEW_PASSWORD"):
            patch.setenv(f"QUOTES_{name}", "test")
        yield


@pytest.mark.usefixtures("_configured")
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arguments=ARGUMENTS)
def test_any_arguments_end_with_a_documented_exit_code(command, capsys, arguments):
    code = run(
        [*command, *arguments, "--timeout=0.01"] if command in WITH_TIMEOUT else [*command, *arguments]
    )
    _, error = capsys.readouterr()

    assert code in CODES
    assert len(error.splitlines()) <= 1
