"""`quotes logs` shows the log lines of a network, through the filters of `make logs`."""

import asyncio
import json
from collections import Counter

import pytest

from dfsp_quotes.cli.app import run
from support.command_line import PATIENCE_SECONDS, RESERVE, TO
from support.log_lines import entry

UUID = "729bce92-21a4-4a0f-9d6d-ee5a8d1eb1a5"


@pytest.fixture
def data(tmp_path):
    """A data folder with logs."""
    folder = tmp_path / "data" / "logs"
    folder.mkdir(parents=True)
    lines = [
        entry("dfsp-api", at=1.0, trace="t1", uuid=UUID),
        entry("dfsp-api", at=2.0, trace="t2", status=503, id="UnavailableError", caller=None),
        "no JSON",
    ]
    (folder / "dfsp-api.log").write_text("".join(f"{line}\n" for line in lines))
    return folder.parent


@pytest.fixture
def in_process(capsys):
    """Runs a command that must succeed, in this process. Returns its output."""

    def run_(*arguments: object) -> str:
        assert 0 == run(list(map(str, arguments)))
        output, error = capsys.readouterr()
        assert "" == error
        return output

    return run_


async def test_the_lines_of_a_quote_are_its_reservation_and_its_payment_at_each_hop(quotes, chain):
    quote = await quotes.json(*RESERVE)
    paid = await quotes.json("pay", quote["uuid"], *TO)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:  # services hold lines back for a moment
            done = await quotes.run("logs", "--quote", quote["uuid"], "--data", chain.logs.parent, "--json")
            lines = [line for line in done.json.get("lines", []) if line["service"] != "central-directory"]
            if {quote["traceId"], paid["traceId"]} <= {line["traceId"] for line in lines} and len(
                lines
            ) >= 18:
                break
            await asyncio.sleep(0.1)

    assert {quote["uuid"]} == {line["uuid"] for line in lines}
    hops = Counter(line["traceId"] for line in lines)  # `quotes pay` looks the quote up first
    assert (6, 6) == (hops[quote["traceId"]], hops[paid["traceId"]])
    assert {quote["idempotencyKey"]} == {line["key"] for line in lines if "key" in line}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["t1", "t2", None]),
        (("--status", "5xx"), ["t2"]),
        (("--error", "UnavailableError"), ["t2"]),
        (("--caller", "test"), ["t1"]),
        (("--quote", UUID.upper()), ["t1"]),
        (("--trace", "t2"), ["t2"]),
        (("--service", "dfsp-api", "--until", "2026-11-21T00:00:01.500Z"), ["t1"]),
    ],
)
def test_each_filter_is_an_option(in_process, data, arguments, expected):
    found = json.loads(in_process("logs", "--data", data, *arguments, "--json"))

    assert expected == [line.get("traceId") for line in found["lines"]]
    assert found["note"] is None


def test_a_line_that_is_not_json_is_shown_as_text(in_process, data):
    found = json.loads(in_process("logs", "--data", data, "--json"))

    assert {"service": "dfsp-api", "text": "no JSON"} == found["lines"][-1]


def test_people_see_short_lines_without_colours_in_a_pipe(in_process, data):
    shown = in_process("logs", "--data", data, "--trace", "t1")

    assert (
        "00:00:00.999  dfsp-api                       POST /v1/quoteSourceAmount     200      1.0 ms  test  t1"
        f"  quote {UUID}"
    ).split() == shown.split()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--status", "404"), 1, "No line in {data}/logs has the status 404."),
        (("--service", "postgres"), 1, "No line of postgres in {data}/logs."),
        (("--service", "x"), 2, "There is no service 'x'; --service is one of dfsp-api-payer"),
        (("--status", "6xx"), 2, "--status must be statuses such as 503 or 5xx"),
        (("--since", "soon"), 2, "--since must be an age such as 90s"),
        (("--since", "1m", "--until", "2m"), 2, "--since must be before --until."),
        (("--quote", "x"), 2, "--quote must be the uuid of a quote"),
    ],
)
def test_a_filter_without_lines_or_with_a_fault_is_reported(refusal, data, arguments, code, message):
    found = refusal("logs", "--data", data, *arguments, code=code)

    assert found.startswith(message.replace("{data}", str(data)))


def test_a_folder_without_logs_is_bad_input(refusal):
    assert refusal("logs", "--data", "none").startswith("There is no folder none/logs: --data names")


async def test_new_lines_are_followed_as_lines_of_json(bare, data):
    process = await bare.start("logs", "--data", data, "--status", "5xx", "--follow", "--json")
    async with asyncio.timeout(PATIENCE_SECONDS):
        first = json.loads(await process.stdout.readline())
        with (data / "logs" / "dfsp-api.log").open("a") as log:
            log.write(entry("dfsp-api", at=3.0, trace="t3", status=504) + "\n")
            log.write(entry("dfsp-api", at=3.0, trace="t4") + "\n")
        second = json.loads(await process.stdout.readline())
        process.terminate()
        _, error = await process.communicate()

    assert ("t2", "t3") == (first["traceId"], second["traceId"])
    assert (130, b"") == (process.returncode, error)
