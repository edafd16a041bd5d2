"""The lines of a service's log: form, cutting and escaping, buffering (chassis.logs)."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import logs
from chassis.logs import Logs, LogWriter, StandardLogging, iso_time

INVISIBLE = "\x7f\x85\x9b\u061c\u200b\u200e\u2028\u202e\u2066\ufeff\U000e0041"


@pytest.fixture
def written(tmp_path):
    """The log file."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    class Written:
        number = descriptor

        @property
        def text(self) -> str:
            return path.read_text()

        @property
        def events(self) -> list[dict]:
            return [json.loads(line) for line in self.text.split("\n") if line]

    yield Written()
    os.close(descriptor)


@pytest.fixture
def log(written):
    return Logs("spsp-client", LogWriter(written.number), human=False)


def access_line(log: Logs, **changed: object) -> bytes:
    return log.access_line(**{
        "at": iso_time(0), "trace_id": "t", "caller": "test", "method": "GET", "path": "/p", "status": 200,
        "seconds": 0.0123456, "error": None,
    } | changed)  # fmt: skip


def request(log: Logs, **changed: object) -> None:
    log.write([access_line(log, **changed)], now=changed.get("status", 200) >= logs.URGENT_STATUS)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1494502203.561, "2017-05-11T11:30:03.561Z"),
        (1.9999, "1970-01-01T00:00:01.999Z"),
    ],
)
def test_a_time_is_in_utc_with_milliseconds(seconds, expected):
    assert expected == iso_time(seconds)


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (200, None, {"level": "info"}),
        (404, ("NotFoundError", None), {"level": "warning", "id": "NotFoundError", "cause": None}),
        (
            503,
            ("UnavailableError", "why %s"),
            {"level": "error", "id": "UnavailableError", "cause": "why %s"},
        ),
    ],
)
def test_a_request_has_one_line(log, status, error, expected):
    line = access_line(log, caller="100%", path="/%41", status=status, error=error)

    assert {
        "time": "1970-01-01T00:00:00.000Z",
        "service": "spsp-client",
        "event": "request",
        "traceId": "t",
        "caller": "100%",
        "method": "GET",
        "path": "/%41",
        "status": status,
        "duration_ms": 12.346,
        **expected,
    } == json.loads(line)


async def test_lines_are_written_together_after_a_moment(log, written):
    request(log)

    assert "" == written.text
    await asyncio.sleep(logs.FLUSH_SECONDS)
    while not written.text:  # the event loop may be late
        await asyncio.sleep(0.01)
    assert 1 == len(written.events)


async def test_a_line_about_an_error_is_written_at_once_with_all_lines_before_it(log, written):
    request(log)
    request(log, status=404, error=("NotFoundError", None))
    request(log, status=503, error=("UnavailableError", "the cause"))

    assert ["info", "warning", "error"] == [line["level"] for line in written.events]


async def test_the_number_of_buffered_lines_is_limited(log, written):
    for _ in range(logs.MAX_BUFFERED_LINES):
        request(log)

    assert logs.MAX_BUFFERED_LINES == len(written.events)


def test_without_an_event_loop_a_line_is_written_at_once(log, written):
    log.info("started", port=8012)

    [line] = written.events
    assert ("started", 8012, "info", "spsp-client") == (
        line["event"],
        line["port"],
        line["level"],
        line["service"],
    )


def test_a_log_that_cannot_be_written_stops_nothing():
    read, write = os.pipe()
    os.close(read)
    log = Logs("s", LogWriter(write), human=False)
    request(log, status=503)
    os.close(write)
    request(log, status=503)


class Kept(LogWriter):
    """Keeps lines instead of writing them."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[bytes] = []

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        self.lines.extend(lines)


@given(text=st.text() | st.sampled_from(["\ud800", "a\nb", "\r\n", "\x1b[31m", '"', *INVISIBLE]))
def test_a_line_is_printable_json_whatever_it_holds(text):
    kept = Kept()
    log = Logs("s", kept, human=False)
    request(log, path=text, error=("E", text))
    log.info(text, value=text)

    for line in kept.lines:
        assert line.decode().isprintable()
    assert [text, text] == [json.loads(kept.lines[0])["cause"], json.loads(kept.lines[1])["value"]]


def test_a_path_is_cut_before_it_is_cached_or_logged(log):
    """Anyone may send a path of four million characters, another one each time, in a line of a batch."""
    logs._short_text.cache_clear()
    for number in range(3):
        path = f"/{number}" + "x" * 4_000_000
        assert path[:256] == json.loads(access_line(log, path=path))["path"]

    assert sys.getsizeof(logs._short_text("/0" + "x" * 254)) < 1_000
    assert 1 == logs._short_text.cache_info().hits


def test_a_long_cause_is_not_cached_and_is_cut_in_its_middle(log):
    logs._request_pattern.cache_clear()
    for number in range(3):
        cause = f"begin{number}" + "x" * 4_000_000 + "end"
        logged = json.loads(access_line(log, status=503, error=("E", cause)))["cause"]
        assert (f"begin{number}", "end", 4_099) == (logged[:6], logged[-3:], len(logged))

    assert 1 == logs._request_pattern.cache_info().currsize


def test_a_field_of_an_event_is_cut(log, written):
    log.warning("event", value="x" * 4_000_000)

    assert 4_099 == len(written.events[0]["value"])


def test_a_terminal_gets_a_readable_form_without_control_characters(written):
    log = Logs("spsp-client", LogWriter(written.number), human=True)
    log.warning("disk nearly full", cause="first\nsecond", path="/\x1b[2J\u202e")
    log.warning("event\x1b[2J")

    first, second = written.text.splitlines()
    assert "disk nearly full" in first
    assert r"'first\nsecond'" in first
    assert r"'/\x1b[2J\u202e'" in first
    assert r"'event\x1b[2J'" in second


def test_what_libraries_log_becomes_lines_of_the_service(log, written):
    logger = logging.getLogger("a library")
    handler = StandardLogging(log)
    logger.addHandler(handler)
    try:
        logger.info("not this")
        logger.warning("take %s", "care")
        logger.error("failed", exc_info=RuntimeError("inside"))
    finally:
        logger.removeHandler(handler)

    warning, error = written.events
    assert ("take care", "warning", "a library") == (warning["event"], warning["level"], warning["logger"])
    assert ("failed", "error") == (error["event"], error["level"])
    assert "RuntimeError: inside" in error["cause"]
