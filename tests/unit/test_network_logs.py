"""Log files are followed, merged by time, and put together to calls and requests."""

import io
import json
import os

import pytest

from network import lines, logs, records
from network.logs import Merger
from network.tail import LogFile, LogFolder
from network.terminal import Terminal
from network.traffic import Requests, Traffic

PLAIN = Terminal(io.StringIO())


def entry(service="dfsp-api", *, at=1.0, trace="t", ms=1.0, status=200, **more):
    fields = {
        "time": f"2026-11-21T00:00:{at:06.3f}Z",
        "level": "info",
        "service": service,
        "event": "request",
        "traceId": trace,
        "caller": "test",
        "method": "POST",
        "path": "/v1/quoteSourceAmount",
        "status": status,
        "duration_ms": ms,
    }
    return json.dumps(fields | more)


def record(service="dfsp-api", **fields):
    return records.read(service, entry(service, **fields), otherwise_at=0)


def test_a_line_that_is_written_in_parts_comes_whole(tmp_path):
    path = tmp_path / "a.log"
    file = LogFile(path)
    assert [] == file.lines()
    with path.open("a") as log:
        log.write('{"a"')
        log.flush()
        assert [] == file.lines()
        log.write(": 1}\nTraceback\n{")
    assert ['{"a": 1}', "Traceback"] == file.lines()
    file.close()


def test_a_file_that_is_emptied_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old one\nold two\n")
    file = LogFile(path)
    assert ["old one", "old two"] == file.lines()
    path.write_text("new\n")
    assert ["new"] == file.lines()
    file.close()


def test_a_file_that_is_replaced_is_read_to_its_end_and_then_the_new_one(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    file = LogFile(path)
    file.to_end()
    with path.open("a") as log:
        log.write("two\n")
        path.rename(tmp_path / "a.log.1")
        log.write("three\n")
    path.write_text("four\n")

    assert ["two", "three", "four"] == [line for _ in range(4) for line in file.lines()]
    file.close()


@pytest.mark.parametrize(
    ("count", "left"), [(0, []), (1, ["9"]), (3, ["7", "8", "9"]), (99, [*"0123456789"])]
)
def test_history_begins_at_the_last_lines(tmp_path, count, left):
    path = tmp_path / "a.log"
    path.write_text("".join(f"{number}\n" for number in range(10)))
    file = LogFile(path)
    file.to_last(count)

    assert left == file.lines()
    file.close()


def test_a_file_that_comes_later_is_read_and_postgres_own_is_not(tmp_path):
    now = [0.0]
    folder = LogFolder(tmp_path, clock=lambda: now[0])
    (tmp_path / "dfsp-api.log").write_text(entry() + "\n")
    (tmp_path / "postgres.log").write_text("LOG: ready\n")
    now[0] = 1.0

    assert ["dfsp-api"] == [one.service for one in folder.records()]
    folder.close()


def test_lines_are_merged_by_their_time_within_the_window():
    now = [10.0]
    merger = Merger(0.4, clock=lambda: now[0])
    merger.add([record(at=3.0), record(at=1.0)])
    now[0] = 10.3
    merger.add([record(at=2.0), record(at=4.0)])
    assert [] == merger.due()
    now[0] = 10.45
    assert [1.0, 2.0, 3.0] == [one.at % 60 for one in merger.due()]
    now[0] = 10.75
    assert [4.0] == [one.at % 60 for one in merger.due()]


def test_the_hops_of_a_call_come_in_the_order_of_the_chain_though_times_are_in_milliseconds():
    hops = records.way(
        [
            record("dfsp-api", at=1.004, ms=2.9),
            record("spsp-server", at=1.004, ms=3.9),
            record("spsp-client", at=1.005, ms=4.3),
            record("dfsp-api-payer", at=1.005, ms=4.9),
            record("dfsp-api-payer", at=2.0, ms=1),
        ]
    )

    assert ["dfsp-api-payer", "spsp-client", "spsp-server", "dfsp-api", "dfsp-api-payer"] == [
        hop.record.service for hop in hops
    ]
    assert sorted(hop.began for hop in hops) == [hop.began for hop in hops]


def test_a_request_is_one_short_line():
    one = record(at=1.0, ms=4.25, status=410, id="QuoteExpiredError", cause="too late")

    assert (
        "00:00:01.000  dfsp-api             POST /v1/quoteSourceAmount     410      4.2 ms  test  t"
        "  QuoteExpiredError: too late" == lines.line(one, PLAIN)
    )


def test_what_is_no_json_is_shown_as_it_is_but_cannot_steer_the_terminal():
    shown = lines.line(records.read("dfsp-api", "  File \x1b[2J\x9b", otherwise_at=1), PLAIN)

    assert "dfsp-api               File \\x1b[2J\\x9b" == shown.strip()


def test_a_path_cannot_steer_the_terminal():
    assert "\x1b" not in lines.line(record(path="/\x1b[31m", caller="\x1b]0;"), PLAIN)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    payer = [entry("dfsp-api-payer", at=1.0, ms=9, trace="one"), entry("dfsp-api-payer", at=3.0, trace="two")]
    payee = [entry("dfsp-api", at=0.999, ms=2, trace="one"), "Traceback", '{"half']
    (folder / "dfsp-api-payer.log").write_text("\n".join(payer) + "\n")
    (folder / "dfsp-api.log").write_text("\n".join(payee))
    return tmp_path


def shown(data, **options):
    stream = io.StringIO()
    logs.show(data, Terminal(stream), follow=False, **options)
    return [line.split()[:2] for line in stream.getvalue().splitlines()]


def test_logs_are_merged_by_time(data):
    assert [
        ["00:00:00.999", "dfsp-api"],
        ["dfsp-api", "Traceback"],
        ["00:00:01.000", "dfsp-api-payer"],
        ["00:00:03.000", "dfsp-api-payer"],
    ] == shown(data)


def test_a_trace_is_one_calls_way_by_when_each_hop_began(data):
    assert [["00:00:00.991", "dfsp-api-payer"], ["00:00:00.997", "dfsp-api"]] == shown(data, trace="one")


def test_a_service_is_that_one_alone(data):
    assert ["dfsp-api", "Traceback"] == [words[-1] for words in shown(data, service="dfsp-api")]


def test_a_service_that_does_not_exist_is_said(data):
    with pytest.raises(logs.UnknownServiceError, match="no service 'dfsp'; there are dfsp-api-payer"):
        shown(data, service="dfsp")


def test_a_request_is_told_once_by_its_first_service_when_its_trace_is_quiet():
    requests = Requests()
    requests.add([record("dfsp-api", at=1.009, ms=2), record("dfsp-api-payer", at=1.01, ms=9)], 0.0)
    assert [] == requests.take(0.4)
    assert ["dfsp-api-payer"] == [one.service for one in requests.take(0.5)]
    requests.add([record("spsp-server", at=1.011, ms=5)], 0.6)
    assert [] == requests.take(2.0)


def test_each_request_of_a_trace_that_is_used_again_is_told():
    requests = Requests()
    requests.add([record("dfsp-api-payer", at=at) for at in (1, 2)] + [record(at=1.0, ms=0.5)], 0.0)
    assert 2 == len(requests.take(1.0))
    requests.add([record("dfsp-api-payer", at=3)], 1.0)
    assert 1 == len(requests.take(2.0))


def test_a_request_to_a_service_further_down_is_told_too_and_other_lines_are_not():
    requests = Requests(ignored=["demo"])
    requests.add([record("spsp-server"), record(trace="demo"), record(trace="e", event="started")], 0.0)

    assert ["spsp-server"] == [one.service for one in requests.take(1.0)]


def test_no_more_than_so_many_traces_are_kept_in_memory():
    requests = Requests()
    requests.add([record(trace=str(number)) for number in range(7_000)], 0.0)

    assert 2_000 == len(requests.take(0.1))
    assert 5_000 == len(requests._traces)


def test_too_many_requests_to_read_are_summed_up_each_second():
    stream = io.StringIO()
    traffic = Traffic(Terminal(stream), wall_clock=lambda: 0.0)
    traffic.show([record(status=502 if number < 55 and number > 51 else 200) for number in range(362)], 0.0)
    traffic.show([], 1.0)
    traffic.show([record()], 1.5)
    traffic.show([], 2.0)
    traffic.show([record(trace="readable")], 3.5)
    told = stream.getvalue().splitlines()

    assert 50 + 3 == len(told)
    assert ["00:00:00.000  312 requests, 3 failed", "00:00:00.000  1 requests, 0 failed"] == told[50:52]
    assert told[52].endswith("readable")


def test_colour_is_for_terminals_alone_and_not_where_it_is_refused(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mno\x1b[0m" == Terminal(Screen()).paint("no", "red")
    assert "no" == PLAIN.paint("no", "red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "no" == Terminal(Screen()).paint("no", "red")


def test_a_reader_who_went_away_is_noticed_without_writing():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        terminal = Terminal(stream)
        assert terminal.is_read()
        os.close(reading)
        assert not terminal.is_read()
