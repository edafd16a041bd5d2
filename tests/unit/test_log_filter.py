"""The filters of `make logs` and `quotes logs`."""

import io
import json
import os

import pytest

from network import log_viewer
from network.log_filter import LogFilterError, LogMatcher, log_filter
from network.log_records import parse
from network.log_viewer import LogFollower, LogsNotFoundError, TerminalOutput
from network.terminal import Terminal
from support.log_lines import entry, record

NOW = record(at=30.0).time
UUID = "729bce92-cf6b-81d3-9085-437ed128fe45"


def shown(data, *, service=None, **wanted) -> list[str]:
    """Return the trace ids of the lines that are shown; for a line without one, its text."""
    stream = io.StringIO()
    terminal = Terminal(stream)
    found = log_filter(NOW, **wanted)
    log_viewer.show(
        data, TerminalOutput(terminal, by_trace=found.is_by_trace), found, service=service, follow=False
    )
    return [word for line in stream.getvalue().splitlines() for word in line.split() if word.startswith("t:")]


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    lines = {
        "dfsp-api-payer": [
            entry("dfsp-api-payer", at=1.0, trace="t:reserved", uuid=UUID),
            entry("dfsp-api-payer", at=20.0, trace="t:paid", path=f"/v1/payments/{UUID.upper()}", uuid=UUID, caller="other"),
            entry("dfsp-api-payer", at=25.0, trace="t:refused", status=401, id="UnauthorizedError", caller=None, attempted="alice"),
            entry("dfsp-api-payer", at=29.0, trace="t:late", status=504, id="UpstreamTimeoutError", caller="alice"),
        ],
        "dfsp-api": [
            entry("dfsp-api", at=0.9, trace="t:reserved", uuid=UUID),
            entry("dfsp-api", at=22.0, trace="t:full", status=503, id="UnavailableError"),
            "Traceback t:text",
        ],
        "central-directory": [entry("central-directory", at=0.8, trace="t:reserved", path="/resources")],
    }  # fmt: skip
    for service, each in lines.items():
        (folder / f"{service}.log").write_text("".join(f"{line}\n" for line in each))
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"status": "503"}, {"t:full"}),
        ({"status": "5xx"}, {"t:full", "t:late"}),
        ({"status": "5XX, 401"}, {"t:full", "t:late", "t:refused"}),
        ({"caller": "alice"}, {"t:late", "t:refused"}),
        ({"caller": "other"}, {"t:paid"}),
        ({"error": "UnavailableError"}, {"t:full"}),
        ({"quote": UUID}, {"t:reserved", "t:paid"}),
        ({"quote": UUID.upper()}, {"t:reserved", "t:paid"}),
        ({"quote": UUID, "caller": "other"}, {"t:paid"}),
        ({"trace": "t:paid"}, {"t:paid"}),
        ({"since": "6s"}, {"t:refused", "t:late"}),
        ({"since": "8s"}, {"t:full", "t:text", "t:refused", "t:late"}),
        ({"since": "2026-11-21T00:00:26Z"}, {"t:late"}),
        ({"since": "2026-11-21T01:00:26+01:00"}, {"t:late"}),
        ({"since": "2026-11-21T00:00:26"}, {"t:late"}),
        ({"since": "00:00:26"}, {"t:late"}),
        ({"until": "29s"}, {"t:reserved"}),
        ({"since": "11s", "until": "8s"}, {"t:paid", "t:full", "t:text"}),
        ({"since": "1m", "status": "4xx"}, {"t:refused"}),
        ({"service": "dfsp-api", "status": "5xx"}, {"t:full"}),
        ({"service": "dfsp-api", "quote": UUID}, {"t:reserved"}),
    ],
)
def test_only_lines_that_match_all_filters_are_shown(data, wanted, expected):
    assert expected == set(shown(data, **wanted))


def test_the_lines_of_a_quote_are_those_of_all_services_in_the_order_of_the_hops(data):
    assert ["t:reserved"] * 3 + ["t:paid"] == shown(data, quote=UUID)


def test_without_filters_all_lines_are_shown(data):
    assert 8 == len(shown(data))
    assert log_filter() == log_filter(since="", until="", status="", caller="", error="", quote="", trace="")


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"since": "10 minutes"}, "SINCE must be an age such as 90s, 10m"),
        ({"since": "10"}, "SINCE must be"),
        ({"since": "25:00"}, "SINCE must be"),
        ({"until": "2026-13-01"}, "UNTIL must be"),
        ({"since": "1m", "until": "2m"}, "SINCE must be before UNTIL"),
        ({"status": "600"}, "STATUS must be statuses such as 503 or 5xx"),
        ({"status": "5x"}, "STATUS must be"),
        ({"status": "503,"}, "STATUS must be"),
        ({"quote": "x"}, "QUOTE must be the uuid of a quote"),
        ({"quote": "x" * 9_000}, "QUOTE must be"),
    ],
)
def test_a_malformed_filter_is_reported_with_its_name(wanted, message):
    with pytest.raises(LogFilterError) as raised:
        log_filter(NOW, **wanted)

    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("since", ["999999999d", "0001-01-01T00:00:00Z"])
def test_a_time_before_all_times_is_accepted(data, since):
    assert 8 == len(shown(data, since=since))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"status": "5xx", "caller": "x"}, "has the status 5xx and the caller 'x'"),
        ({"quote": UUID.replace("7", "0")}, f"has the quote {UUID.replace('7', '0')}"),
        ({"error": "Nope"}, "has the error 'Nope'"),
        ({"caller": "x", "since": "1s"}, "has the caller 'x' and a time from 2026-11-21T00:00:29.000Z on"),
        ({"until": "1h"}, "has a time until 2026-11-20T23:00:30.000Z"),
    ],
)
def test_it_is_said_what_no_line_has(data, wanted, message):
    with pytest.raises(LogsNotFoundError) as raised:
        shown(data, **wanted)

    assert str(raised.value).endswith(message)


def test_rotated_files_that_end_before_the_time_are_not_read(data):
    log = data / "logs" / "dfsp-api.log"
    old = log.with_name("dfsp-api.log.1")
    old.write_text(entry("dfsp-api", at=29.5, trace="t:rotated") + "\n")
    os.utime(old, (NOW - 3_600, NOW - 3_600))

    assert "t:rotated" not in shown(data, since="1m")
    assert "t:rotated" in shown(data, since="2h")


def test_the_newest_lines_are_kept_if_there_are_too_many(data, monkeypatch):
    monkeypatch.setattr(log_viewer, "MAX_LINES", 3)

    assert ["t:text", "t:refused", "t:late"] == shown(data, since="1m")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        '{"status": 503',
        '{"status": "503"}',
        '{"id": ["x"]}',
        "\x00",
        "{}",
        '{"path": 7, "uuid": 7}',
        "[]",
    ],
)
def test_damaged_lines_match_no_filter(line):
    for wanted in ({"status": "503"}, {"caller": "x"}, {"error": "x"}, {"quote": UUID}, {"trace": "x"}):
        matcher = LogMatcher(log_filter(NOW, **wanted))
        record = parse("dfsp-api", line, default_time=0)
        matcher.note([record])

        assert not matcher.accepts(record)


@pytest.mark.parametrize("name", ["ä", 'a"b', "a\\b", "a\x1bb", "%s", "😀"])
@pytest.mark.parametrize("is_escaped", [True, False])
def test_a_name_is_found_however_it_is_escaped(data, name, is_escaped):
    line = entry(caller=name, trace="t:name")
    if not is_escaped:
        line = line.replace(json.dumps(name), json.dumps(name, ensure_ascii=False))
    with (data / "logs" / "dfsp-api.log").open("a") as log:
        log.write(f"{line}\n")

    assert "t:name" in shown(data, caller=name)


class Shown:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.traces: list[str] = []

    def has_reader(self) -> bool:
        return True

    def show(self, records) -> None:
        self.traces += [each.trace_id for each in records]

    def note(self, text) -> None:
        raise AssertionError(text)


def test_new_lines_of_a_quote_are_shown_although_the_line_that_names_it_comes_later():
    now = [0.0]
    output = Shown()
    follower = LogFollower(output, LogMatcher(log_filter(quote=UUID)), clock=lambda: now[0])
    follower.add([record("central-directory", at=1.0, trace="t:1"), record(at=1.0, trace="t:2")])
    follower.show_due()
    follower.add([record("dfsp-api", at=1.1, trace="t:1", uuid=UUID)])
    now[0] = 10.0
    follower.show_due()

    assert ["t:1", "t:1"] == output.traces


def test_following_ends_when_the_time_has_passed(monkeypatch):
    now = [NOW]
    monkeypatch.setattr(log_viewer.time, "time", lambda: now[0])
    follower = LogFollower(Shown(), LogMatcher(log_filter(NOW, until="2026-11-21T00:00:31Z")))
    assert not follower.is_over
    now[0] += 2

    assert follower.is_over
