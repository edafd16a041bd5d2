"""Trace ids, times, and lines that are never lost and never hold up payments (chassis.telemetry)."""

import asyncio
import json
import logging
import os
import re
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import telemetry
from chassis.telemetry import Lines, StandardLogging, Telemetry, iso_time, trace_id_from

A_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z")


@pytest.fixture
def written(tmp_path):
    """A file for lines and what it holds."""
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    class Written:
        number = descriptor

        @property
        def text(self) -> str:
            return path.read_text()

        @property
        def events(self) -> list[dict]:
            return [json.loads(line) for line in self.text.splitlines()]

    yield Written()
    os.close(descriptor)


@pytest.fixture
def log(written):
    return Telemetry("spsp-client", Lines(written.number), human=False)


def request(log: Telemetry, **changed: object) -> None:
    log.request(**{
        "trace_id": "t", "caller": "test", "method": "GET", "path": "/p", "route": "/r", "status": 200,
        "seconds": 0.0123456, "error": None,
    } | changed)  # fmt: skip


@pytest.mark.parametrize("given_", ["a", "A-Za-z0-9._", "x" * 64])
def test_a_trace_id_of_the_callers_own_is_kept(given_):
    assert given_ == trace_id_from([given_])


@pytest.mark.parametrize(
    "given_", [[], [""], ["x" * 65], ["a", "b"], ["a", "a"], ["a b"], ["a\n"], ["ä"], ["٣"]]
)
def test_any_other_is_replaced_by_a_uuid(given_):
    assert A_UUID.match(trace_id_from(given_))


def test_no_trace_id_comes_twice():
    assert 1_000 == len({trace_id_from(()) for _ in range(1_000)})


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


async def test_a_line_is_written_within_a_moment(log, written):
    request(log)

    assert "" == written.text
    await asyncio.sleep(telemetry.FLUSH_SECONDS + 0.1)
    [line] = written.events
    assert ("info", "spsp-client", 200, 12.346) == (
        line["level"],
        line["service"],
        line["status"],
        line["duration_ms"],
    )
    assert "id" not in line


async def test_a_line_about_an_error_is_written_at_once_with_all_before_it(log, written):
    request(log)
    request(log, status=404, error=("NotFoundError", None))
    request(log, status=503, error=("UnavailableError", "the cause"))

    assert ["info", "warning", "error"] == [line["level"] for line in written.events]
    assert ("UnavailableError", "the cause") == (written.events[2]["id"], written.events[2]["cause"])


async def test_not_too_many_lines_are_held(log, written):
    for _ in range(telemetry.MAX_LINES_HELD):
        request(log)

    assert telemetry.MAX_LINES_HELD == len(written.events)


def test_without_a_loop_a_line_is_written_at_once(log, written):
    log.log.info("started", port=8012)

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
    lines = Lines(write)
    request(Telemetry("s", lines, human=False), status=503)
    os.close(write)
    request(Telemetry("s", lines, human=False), status=503)


@given(text=st.text() | st.sampled_from(["\ud800", "a\nb", "\r\n", "\x1b[31m", '"', "\u2028"]))
def test_a_line_is_one_line_whatever_it_holds(text):
    kept = []

    class Kept(Lines):
        def write(self, lines: Iterable[bytes], *, now: bool) -> None:
            kept.extend(lines)

    request(Telemetry("s", Kept(-1), human=False), path=text, error=("E", text))

    [line] = kept
    assert b"\n" not in line
    assert text == json.loads(line)["cause"]


def test_a_terminal_gets_a_form_for_people(written):
    log = Telemetry("spsp-client", Lines(written.number), human=True)
    log.log.warning("disk nearly full")

    assert "disk nearly full" in written.text
    assert not written.text.startswith("{")


def test_what_libraries_say_becomes_our_lines(log, written):
    logger = logging.getLogger("test_telemetry")
    handler = StandardLogging(log)
    logger.addHandler(handler)
    try:
        logger.info("not this")
        logger.warning("take %s", "care")
        logger.error("failed", exc_info=RuntimeError("inside"))
    finally:
        logger.removeHandler(handler)

    warning, error = written.events
    assert ("take care", "warning", "test_telemetry") == (
        warning["event"],
        warning["level"],
        warning["logger"],
    )
    assert "RuntimeError: inside" in error["cause"]


def test_requests_are_counted(log):
    for status in (200, 200, 404):
        request(log, status=status)

    count = log.registry.get_sample_value
    assert 2 == count("requests_total", {"method": "GET", "route": "/r", "status": "200"})
    assert 1 == count("requests_total", {"method": "GET", "route": "/r", "status": "404"})
    assert 3 == count("request_duration_seconds_count", {"route": "/r"})
