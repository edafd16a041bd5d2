"""Log files are followed, merged by time, and grouped by trace."""

import io
import os

import pytest

from network import log_format, log_records, log_viewer
from network.log_files import FollowedLog, LogChunk, LogFolder
from network.log_filter import log_filter
from network.log_viewer import LogMerger, TerminalOutput
from network.terminal import Terminal
from support.log_lines import entry, record

PLAIN = Terminal(io.StringIO())
NOW = log_records.parse("", entry(at=30.0), default_time=0).time


def lines_of(file):
    return [line.decode() for line in LogChunk("a", file.next_chunk()).lines()]


def test_a_line_that_is_written_in_parts_is_returned_whole(tmp_path):
    path = tmp_path / "a.log"
    file = FollowedLog(path)
    assert [] == lines_of(file)
    with path.open("a") as log:
        log.write('{"a"')
        log.flush()
        assert [] == lines_of(file)
        log.write(": 1}\nTraceback\n{")
    assert ['{"a": 1}', "Traceback"] == lines_of(file)
    file.close()


def test_a_truncated_file_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("old one\nold two\n")
    file = FollowedLog(path)
    assert ["old one", "old two"] == lines_of(file)
    path.write_text("new\n")
    assert ["new"] == lines_of(file)
    file.close()


def test_a_replaced_file_is_read_to_its_end_before_the_new_one(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    file = FollowedLog(path)
    file.seek_end()
    with path.open("a") as log:
        log.write("two\n")
        path.rename(tmp_path / "a.log.1")
        log.write("three\n")
    path.write_text("four\n")

    assert ["two", "three", "four"] == [line for _ in range(4) for line in lines_of(file)]
    file.close()


def rotate(path, text):
    """Rotate as a service does, with two older files."""
    for older, newer in ((".2", ".1"), (".1", "")):
        if path.with_name(path.name + newer).exists():
            path.with_name(path.name + newer).replace(path.with_name(path.name + older))
    path.write_text(text)


def test_a_file_that_is_rotated_twice_between_two_reads_is_read_completely(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    file = FollowedLog(path)
    assert ["one"] == lines_of(file)
    rotate(path, "two\n")
    rotate(path, "three\n")

    assert [["two"], ["three"], []] == [lines_of(file) for _ in range(3)]
    file.close()


def test_after_a_file_was_deleted_by_rotation_the_current_one_is_read(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    file = FollowedLog(path)
    file.seek_end()
    for text in ("two\n", "three\n", "four\n"):
        rotate(path, text)

    assert ["four"] == lines_of(file)
    file.close()


def test_a_file_that_is_moved_elsewhere_is_left_for_the_current_one(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\n")
    file = FollowedLog(path)
    assert ["one"] == lines_of(file)
    path.rename(tmp_path / "elsewhere")
    path.write_text("two\n")

    assert ["two"] == [line for _ in range(30) for line in lines_of(file)]
    file.close()


def test_an_incomplete_line_before_a_rotation_is_returned(tmp_path):
    path = tmp_path / "a.log"
    path.write_text("one\nbroken o")
    file = FollowedLog(path)
    assert ["one"] == lines_of(file)
    rotate(path, "two\n")

    assert ["broken o", "two"] == lines_of(file)
    file.close()


def test_files_are_read_from_the_oldest_on(tmp_path):
    path = tmp_path / "a.log"
    for text in ("one\n", "two\n", "three\n"):
        rotate(path, text)
    file = FollowedLog(path)

    assert ["one", "two", "three"] == [line for _ in range(3) for line in lines_of(file)]
    file.close()


@pytest.mark.parametrize(
    ("count", "left"), [(1, ["3"]), (2, ["2", "3"]), (4, ["0", "1", "2", "3"]), (9, ["0", "1", "2", "3"])]
)
def test_the_last_lines_may_begin_in_an_older_file(tmp_path, count, left):
    path = tmp_path / "a.log"
    for text in ("0\n1\n", "2\n3\n"):
        rotate(path, text)
    file = FollowedLog(path)
    file.seek_last(count)

    assert left == [line for _ in range(2) for line in lines_of(file)]
    file.close()


def test_older_files_belong_to_the_same_service(tmp_path):
    rotate(tmp_path / "dfsp-api.log", entry(trace="old") + "\n")
    rotate(tmp_path / "dfsp-api.log", entry(trace="new") + "\n")
    (tmp_path / "dfsp-api.log.new").touch()
    folder = LogFolder(tmp_path)
    read = [one for _ in range(3) for one in folder.parse(folder.next_chunks())]
    folder.close()

    assert [("dfsp-api", "old"), ("dfsp-api", "new")] == [(one.service, one.trace_id) for one in read]


@pytest.mark.parametrize(
    ("count", "left"), [(0, []), (1, ["9"]), (3, ["7", "8", "9"]), (99, [*"0123456789"])]
)
def test_reading_begins_at_the_last_lines(tmp_path, count, left):
    path = tmp_path / "a.log"
    path.write_text("".join(f"{number}\n" for number in range(10)))
    file = FollowedLog(path)
    file.seek_last(count)

    assert left == lines_of(file)
    file.close()


def test_a_file_that_appears_later_is_read_and_the_log_of_postgres_is_not(tmp_path):
    now = [0.0]
    folder = LogFolder(tmp_path, clock=lambda: now[0])
    (tmp_path / "dfsp-api.log").write_text(entry() + "\n")
    (tmp_path / "postgres.log").write_text("LOG: ready\n")
    now[0] = 1.0

    assert ["dfsp-api"] == [one.service for one in folder.parse(folder.next_chunks())]
    folder.close()


def test_lines_are_merged_by_time_within_the_window():
    now = [10.0]
    merger = LogMerger(0.4, clock=lambda: now[0])
    merger.add([record(at=3.0), record(at=1.0)])
    now[0] = 10.3
    merger.add([record(at=2.0), record(at=4.0)])
    assert [] == merger.take_due()
    now[0] = 10.45
    assert [1.0, 2.0, 3.0] == [one.time % 60 for one in merger.take_due()]
    now[0] = 10.75
    assert [4.0] == [one.time % 60 for one in merger.take_due()]


def test_hops_are_in_the_order_of_the_chain_although_times_are_in_milliseconds():
    hops = log_records.order_hops(
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
    assert sorted(hop.start_time for hop in hops) == [hop.start_time for hop in hops]


def test_a_request_is_formatted_as_one_short_line():
    one = record(at=1.0, ms=4.25, status=410, id="QuoteExpiredError", cause="too late")

    assert (
        "00:00:01.000  dfsp-api             POST /v1/quoteSourceAmount     410      4.2 ms  test  t"
        "  QuoteExpiredError: too late" == log_format.format_record(one, PLAIN)
    )


def test_text_that_is_not_json_is_shown_with_escaped_control_characters():
    shown = log_format.format_record(
        log_records.parse("dfsp-api", "  File \x1b[2J\x9b", default_time=1), PLAIN
    )

    assert "dfsp-api               File \\x1b[2J\\x9b" == shown.strip()


def test_control_characters_in_a_path_are_escaped():
    assert "\x1b" not in log_format.format_record(record(path="/\x1b[31m", caller="\x1b]0;"), PLAIN)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    payer = [entry("dfsp-api-payer", at=1.0, ms=9, trace="one"), entry("dfsp-api-payer", at=3.0, trace="two")]
    payee = [entry("dfsp-api", at=0.999, ms=2, trace="one"), "Traceback", '{"half']
    (folder / "dfsp-api-payer.log").write_text("\n".join(payer) + "\n")
    (folder / "dfsp-api.log").write_text("\n".join(payee))
    return tmp_path


def shown(data, *, service=None, **wanted):
    stream = io.StringIO()
    wanted = log_filter(NOW, **wanted)
    output = TerminalOutput(Terminal(stream), by_trace=wanted.is_by_trace)
    log_viewer.show(data, output, wanted, service=service, follow=False)
    return [line.split()[:2] for line in stream.getvalue().splitlines()]


def test_logs_are_merged_by_time(data):
    assert [
        ["00:00:00.999", "dfsp-api"],
        ["dfsp-api", "Traceback"],
        ["00:00:01.000", "dfsp-api-payer"],
        ["00:00:03.000", "dfsp-api-payer"],
    ] == shown(data)


def test_the_hops_of_a_trace_are_shown_by_their_start(data):
    assert [["00:00:00.991", "dfsp-api-payer"], ["00:00:00.997", "dfsp-api"]] == shown(data, trace="one")


def test_a_trace_is_found_in_older_files(data):
    log = data / "logs" / "dfsp-api-payer.log"
    rotate(log, entry("dfsp-api-payer", at=4.0) + "\n")

    assert [["00:00:02.999", "dfsp-api-payer"]] == shown(data, trace="two")


def test_only_the_named_service_is_shown(data):
    assert ["dfsp-api", "Traceback"] == [words[-1] for words in shown(data, service="dfsp-api")]


def test_a_service_that_does_not_exist_is_reported(data):
    with pytest.raises(
        log_viewer.LogsNotFoundError, match="there is no service 'dfsp'; SERVICE is one of dfsp-api-payer"
    ):
        shown(data, service="dfsp")


def test_a_mistyped_trace_is_reported_instead_of_waiting_in_silence(data):
    with pytest.raises(log_viewer.LogsNotFoundError, match=r"no line in .*/logs has the trace id 'onee'$"):
        shown(data, trace="onee")


def test_a_mistyped_data_folder_is_reported_instead_of_waiting_in_silence(tmp_path):
    with pytest.raises(
        log_viewer.LogsNotFoundError, match=r"there is no folder .*/mistyped/logs: DATA names"
    ):
        shown(tmp_path / "mistyped")


def test_a_service_without_a_log_is_reported(data):
    with pytest.raises(log_viewer.LogsNotFoundError, match="no line of postgres in "):
        shown(data, service="postgres")


def test_a_trace_that_is_not_there_yet_is_reported_and_waited_for(data, monkeypatch):
    stream = io.StringIO()
    terminal = Terminal(stream)
    readers = iter([True, False])
    monkeypatch.setattr(terminal, "has_reader", lambda: next(readers))
    log_viewer.show(data, TerminalOutput(terminal, by_trace=True), log_filter(trace="later"))

    assert stream.getvalue().endswith("has the trace id 'later'; waiting for new lines, Ctrl-C ends\n")


def test_colours_are_used_on_terminals_without_no_color_only(monkeypatch):
    class Screen(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31mno\x1b[0m" == Terminal(Screen()).colour("no", "red")
    assert "no" == PLAIN.colour("no", "red")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "no" == Terminal(Screen()).colour("no", "red")


def test_a_closed_pipe_is_noticed_without_writing():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        terminal = Terminal(stream)
        assert terminal.has_reader()
        os.close(reading)
        assert not terminal.has_reader()
