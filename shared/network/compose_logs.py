"""`make logs` for containers. It prints `docker compose logs` in the format of :mod:`network.log_viewer`."""

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from network.log_files import POSTGRES
from network.log_filter import LogFilter, LogMatcher, format_time
from network.log_records import LogRecord, parse
from network.log_viewer import (
    EVERYTHING,
    HISTORY_LINES,
    LOOK_SECONDS,
    LogFollower,
    TerminalOutput,
    report_nothing_found,
)
from network.terminal import Terminal

_COMPOSE = ("docker", "compose")
_MAX_QUEUED_RECORDS = 10_000
_FIRST_LINE_SECONDS = 3.0
# `spsp-server-2  | {"time": ...`
_LINE = re.compile(r"(?P<service>\S+?)-(?P<replica>[0-9]+) +\| ?(?P<text>.*)")
# compose writes a clear-line sequence before each line, even with --no-color and without a terminal
_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def show(
    terminal: Terminal,
    compose: Sequence[str],
    wanted: LogFilter = EVERYTHING,
    *,
    service: str | None = None,
    follow: bool = True,
) -> int:
    """Print the last lines, or all lines that the filter accepts; then print new lines until interrupted.

    If `follow` is false, it ends after the existing lines. Returns the exit status.
    """
    follow = follow and not wanted.is_over(time.time())
    command = _command(compose, wanted, service, follow=follow)
    matcher = LogMatcher(wanted)
    output = TerminalOutput(terminal, by_trace=wanted.is_by_trace)
    with _records(command, with_postgres=service is not None) as (records, process):
        # compose writes the existing lines container by container: they are sorted before they are printed
        history = _history(_take_history(records, process), matcher)
        output.show(history)
        if not history and not process.poll():
            report_nothing_found(output, wanted, service=service, place="the containers' logs", follow=follow)
        follower = LogFollower(output, matcher)
        while not follower.is_over:
            follower.add(_take_queued(records))
            follower.show_due()
            has_ended = process.poll() is not None and records.empty()
            time.sleep(LOOK_SECONDS)
            if has_ended:
                break
        time.sleep(0.5 if process.poll() is not None else 0)
        follower.show_due()
        return process.poll() or 0


def _command(compose: Sequence[str], wanted: LogFilter, service: str | None, *, follow: bool) -> list[str]:
    tail = str(HISTORY_LINES) if wanted == EVERYTHING else "all"
    command = [*(compose or _COMPOSE), "logs", "--no-color", "--tail", tail]
    # the engine notes the time of a line a little after the service does
    if wanted.since is not None:
        command += ["--since", format_time(wanted.since)]
    command += ["--follow"] if follow else []
    command += [service] if service else []
    return command


def _history(records: Iterable[LogRecord], matcher: LogMatcher) -> list[LogRecord]:
    found = [record for record in records if matcher.filter.accepts(record) or matcher.filter.quote]
    matcher.note(found)
    return sorted(filter(matcher.accepts, found), key=lambda record: record.time)


@contextmanager
def _records(
    command: list[str], *, with_postgres: bool
) -> Iterator[tuple["queue.Queue[LogRecord]", "subprocess.Popen[str]"]]:
    records: queue.Queue[LogRecord] = queue.Queue(_MAX_QUEUED_RECORDS)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        errors="replace",
        start_new_session=True,  # else compose reacts to Ctrl-C too, and prints a message
    ) as process:
        threading.Thread(target=_fill, args=(process, records, with_postgres), daemon=True).start()
        try:
            yield records, process
        finally:
            process.kill()
            with suppress(queue.Empty):  # the thread may be waiting because the queue is full
                while True:
                    records.get_nowait()


def _fill(process: "subprocess.Popen[str]", records: "queue.Queue[LogRecord]", with_postgres: bool) -> None:
    for record in parse_lines(process.stdout or ()):
        if with_postgres or not record.service.endswith(POSTGRES):
            records.put(record)


def parse_lines(lines: Iterable[str]) -> Iterator[LogRecord]:
    """Parse the output of `docker compose logs`. All replicas but the first have a number after their name."""
    latest_time: dict[str, float] = {}
    for line in lines:
        match = _LINE.match(_ESCAPE_SEQUENCE.sub("", line, count=1))
        if match is None:
            continue
        service = match["service"] if match["replica"] == "1" else f"{match['service']}-{match['replica']}"
        # a line without a time, such as Postgres' or a traceback's, belongs to the line before it
        record = parse(service, match["text"], default_time=latest_time.get(service) or time.time())
        latest_time[service] = record.time
        yield record


def _take_history(records: "queue.Queue[LogRecord]", process: "subprocess.Popen[str]") -> Iterator[LogRecord]:
    """Yield the queued lines until no further line arrives for a moment."""
    timeout = _FIRST_LINE_SECONDS
    while True:
        try:
            yield records.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.3 if process.poll() is None else 0.1


def _take_queued(records: "queue.Queue[LogRecord]") -> Iterator[LogRecord]:
    for _ in range(records.qsize()):
        yield records.get_nowait()
