"""The lines of a trace in log files: rotated files, limits, time windows."""

import itertools
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from chassis.logs import iso_time
from console.traces import log_search
from console.traces.log_search import LogSearch, TimeWindow

NOW = 1_790_000_000.0
TRACE, UUID = "order-17", "8f0c2a4e-0000-4000-8000-000000000001"


def line(number: int, trace: str = "another", **fields: object) -> str:
    """Return a line; `number` is its time in seconds."""
    members = {"time": iso_time(NOW + number), "service": "dfsp-api", "event": "request", "traceId": trace}
    return json.dumps({**members, "number": number, **fields}, separators=(",", ":"))


def write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{each}\n" for each in lines))


def numbers(found: log_search.FoundLines) -> list[int]:
    return [each.fields["number"] for each in found.lines]


@pytest.fixture(params=[400, log_search.CHUNK_BYTES])
def chunk_bytes(request, monkeypatch) -> int:
    """A chunk of two lines, and one of all lines."""
    monkeypatch.setattr(log_search, "CHUNK_BYTES", request.param)
    return request.param


@pytest.fixture
def folder(tmp_path, chunk_bytes) -> Path:
    """The logs of two services: 200 lines in three files, and 50; and Postgres' log."""
    write(tmp_path / "dfsp-api.log.2", (line(number, TRACE if number == 3 else "a") for number in range(60)))
    write(
        tmp_path / "dfsp-api.log.1",
        (line(number, TRACE if number in {60, 119} else "a") for number in range(60, 120)),
    )
    write(
        tmp_path / "dfsp-api.log",
        (line(number, TRACE if number == 199 else "a") for number in range(120, 200)),
    )
    write(
        tmp_path / "spsp-server.log",
        (line(number, TRACE, service="spsp-server") for number in range(100, 102)),
    )
    write(tmp_path / "postgres.log", [line(7, TRACE)])
    write(tmp_path / "notes.txt", [line(8, TRACE)])
    return tmp_path


def test_the_lines_of_a_trace_are_found_in_all_files_in_the_order_of_their_times(folder):
    found = LogSearch(folder).of_trace(TRACE)

    assert [3, 60, 100, 101, 119, 199] == numbers(found)
    assert ["dfsp-api", "spsp-server"] == sorted({each.service for each in found.lines})
    assert found.is_complete


def test_a_line_that_is_only_about_a_trace_is_not_of_it(tmp_path):
    write(
        tmp_path / "a.log", [line(1, "x", cause=f'"traceId":"{TRACE}"'), line(2, TRACE + "0"), line(3, TRACE)]
    )

    assert [3] == numbers(LogSearch(tmp_path).of_trace(TRACE))


def test_the_lines_that_name_a_quote_are_found_by_uuid_and_path(tmp_path):
    write(tmp_path / "a.log", [line(1), line(2, uuid=UUID), line(3, path=f"/v1/payments/{UUID}")])

    assert [2, 3] == numbers(LogSearch(tmp_path).of_quote(UUID))


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (60, 101, [60, 100, 101]),
        (0, 10, [3]),
        (199, 500, [199]),
        (4.5, 4.6, []),
        (-900, -800, []),
        (900, 901, []),
    ],
)
def test_a_time_window_skips_the_rest(folder, since, until, expected):
    found = LogSearch(folder).of_trace(TRACE, TimeWindow(NOW + since, NOW + until))

    assert expected == numbers(found)
    assert found.is_complete


def test_every_window_has_every_line_that_is_in_it(tmp_path, chunk_bytes):
    every = [line(number // 3, TRACE) for number in range(150)]
    write(tmp_path / "a.log", every)
    for since, length in itertools.product(range(-2, 52, 7), (0, 1, 20)):
        found = LogSearch(tmp_path).of_trace(TRACE, TimeWindow(NOW + since, NOW + since + length))

        expected = [number // 3 for number in range(150) if since <= number // 3 <= since + length]
        assert expected == numbers(found)


def test_a_window_reads_a_small_part_of_a_large_file(tmp_path, monkeypatch):
    monkeypatch.setattr(log_search, "CHUNK_BYTES", 1_000)
    monkeypatch.setattr(log_search, "MAX_BYTES", 20_000)
    write(tmp_path / "a.log", (line(number, TRACE if number == 2_000 else "a") for number in range(10_000)))

    assert [] == numbers(LogSearch(tmp_path).of_trace(TRACE))
    assert not LogSearch(tmp_path).of_trace(TRACE).is_complete
    found = LogSearch(tmp_path).of_trace(TRACE, TimeWindow(NOW + 2_000, NOW + 2_001))
    assert [2_000] == numbers(found)
    assert found.is_complete


def test_a_search_that_has_enough_lines_keeps_the_newest_and_says_so(tmp_path, chunk_bytes):
    write(tmp_path / "a.log", (line(number, TRACE) for number in range(log_search.MAX_LINES * 2)))
    found = LogSearch(tmp_path).of_trace(TRACE)

    assert list(range(log_search.MAX_LINES, log_search.MAX_LINES * 2)) == numbers(found)
    assert not found.is_complete


def test_a_search_that_takes_too_long_ends_and_says_so(folder, monkeypatch):
    monkeypatch.setattr(log_search, "MAX_SECONDS", -1.0)

    assert log_search.FoundLines((), is_complete=False) == LogSearch(folder).of_trace(TRACE)


def test_what_is_no_line_of_json_is_left_out(tmp_path, chunk_bytes):
    broken = [f'"traceId":"{TRACE}"', f'{{"time":7,"traceId":"{TRACE}"}}', f'["traceId":"{TRACE}"]', ""]
    content = "".join(f"{each}\n" for each in [*broken, line(1, TRACE), "x" * 5_000]) + line(2, TRACE)[:-20]
    (tmp_path / "a.log").write_text(content)

    assert [1] == numbers(LogSearch(tmp_path).of_trace(TRACE))


def test_a_folder_that_is_not_there_has_no_lines(tmp_path):
    assert log_search.FoundLines((), is_complete=True) == LogSearch(tmp_path / "none").of_trace(TRACE)


def test_a_long_line_is_shown_cut(tmp_path):
    write(tmp_path / "a.log", [line(1, TRACE, cause="x" * 10_000)])
    (found,) = LogSearch(tmp_path).of_trace(TRACE).lines

    assert 2_048 == len(found.text)
    assert found.text.endswith("…")
