"""The commands of the README and of docs/, pasted as they stand, against what `make run` starts."""

import json
import re
from collections.abc import Iterator

import pytest

from network.polling import PollTimer
from network.topology import PORT_COUNT
from support.shell import ROOT, Shell, assert_shown, blocks

FIRST_PORT = 8010
NOTIFIED_SECONDS = 60
QUOTING = ("README.md", "docs/curl.md", "docs/command-line.md", "docs/configuration.md")
INTEGRATIONS = "docs/integrations.md"
ERROR = re.compile(r'"id": ?"\w+Error"')
NOT_RUN = {
    "docs/audit.md": "needs the payee's database and an operator: tests/command_line/test_audit.py runs the commands",
    "docs/conformance.md": "one of its commands needs another network: tests/conformance runs the kit",
    "docs/deployment.md": "needs a container engine: tests/containers",
    "docs/kubernetes.md": "needs kubectl and an editor: tests/deploy renders the manifests",
}


@pytest.fixture
def shell(run, tmp_path) -> Iterator[Shell]:
    ports = {
        f"http://127.0.0.1:{FIRST_PORT + offset}": f"http://127.0.0.1:{run.port + offset}"
        for offset in range(PORT_COUNT)
    }
    logs = {"quotes logs ": f"quotes logs --data {run.data} "}
    with Shell({**ports, ".data/": f"{tmp_path}/", **logs}) as opened:
        yield opened


def test_every_document_with_commands_is_either_run_or_needs_what_is_named_here():
    documents = [str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]

    assert {*QUOTING, INTEGRATIONS, *NOT_RUN} == {name for name in documents if blocks(name)}


@pytest.mark.parametrize("document", QUOTING)
def test_the_commands_give_what_the_document_shows(document, shell):
    for block in blocks(document):
        printed = shell.paste(block.command)
        if block.expected:
            assert_shown(block.expected, printed)
        else:
            assert not ERROR.search(printed), f"{block}\n{printed}"


def test_the_readme_shows_what_make_run_prints(run):
    (shown,) = re.findall(
        r"^```console\n\$ make run\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    printed = iter([_comparable(line) for line in run.output.splitlines()])

    for line in shown.splitlines():
        if line != "...":
            assert _comparable(line) in printed, f"{line!r} is not printed, or not at this place"


def _comparable(line: str) -> str:
    """Return a line without what differs from run to run: ports, durations, uuids and times."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", line)
    line = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<time>", line)
    line = re.sub(r"ports \d+ to \d+|127\.0\.0\.1:\d+", "<port>", line)
    return re.sub(r" *\d+(\.\d)? (ms|s)\b", " <duration>", line)


def test_the_story_of_the_integration_services_takes_six_commands_and_ends_as_told(shell):
    *commands, last = [block.command for block in blocks(INTEGRATIONS)[:6]]
    for command in commands:
        assert not ERROR.search(shell.paste(command)), command

    timer = PollTimer(NOTIFIED_SECONDS, 0.1)
    while "InsufficientFunds" not in (notifications := shell.paste(last)):
        assert timer.wait(), notifications

    trades = json.loads(
        shell.paste("curl -s -u receiver:sample http://127.0.0.1:8018/v1/accounts/sample/trades")
    )["trades"]
    assert [
        ("OPEN", "BUY", "10"),
        ("CLOSE", "BUY", "10"),
        ("OPEN", "SELL", "10"),
        ("CLOSE", "SELL", "10"),
    ] == [(trade["action"], trade["direction"], trade["quantity"]) for trade in trades[::-1]]


def test_the_command_that_checks_a_webhook_finds_no_fault_in_the_receivers(shell):
    (command,) = [block.command for block in blocks(INTEGRATIONS)[6:]]

    assert "0 faults" in shell.paste(command)
