"""`make logs` for containers: the view of :mod:`network.logs`, fed by `docker compose logs`."""

import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from network import lines
from network.logs import Merger
from network.records import Record, read, way
from network.tail import POSTGRES
from network.terminal import Terminal

_COMPOSE = ("docker", "compose")
_HISTORY_LINES = 200
_LOOK_SECONDS = 0.1
_MAX_WAITING = 10_000
# `spsp-server-2  | {"time": ...`
_LINE = re.compile(r"(?P<service>\S+?)-(?P<replica>[0-9]+) +\| ?(?P<text>.*)")
# compose clears its line before each, also where it is told to use no colours and writes to no terminal
_STEERING = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def show(
    terminal: Terminal,
    compose: Sequence[str],
    *,
    trace: str | None = None,
    service: str | None = None,
    follow: bool = True,
) -> int:
    """Print what is there (the last lines; all of one trace), then what comes, until interrupted."""
    last = "all" if trace else str(_HISTORY_LINES)
    command = [*(compose or _COMPOSE), "logs", "--no-color", "--tail", last]
    command += ["--follow"] if follow else []
    command += [service] if service else []
    with _records(command, with_postgres=service is not None) as (came, process):
        # what is there comes in one go, container by container: it is put in order before it is shown
        history = list(_at_first(came, process))
        _print(sorted((each for each in history if _is_of(each, trace)), key=lambda r: r.at), terminal, trace)
        merger = Merger()
        while terminal.is_read():
            merger.add(each for each in _at_hand(came) if _is_of(each, trace))
            _print(merger.due(), terminal, trace)
            if process.poll() is not None and came.empty():
                time.sleep(_LOOK_SECONDS)
                break
            time.sleep(_LOOK_SECONDS)
        time.sleep(0.5 if process.poll() is not None else 0)
        _print(merger.due(), terminal, trace)
        return process.poll() or 0


@contextmanager
def _records(
    command: list[str], *, with_postgres: bool
) -> Iterator[tuple["queue.Queue[Record]", "subprocess.Popen[str]"]]:
    came: queue.Queue[Record] = queue.Queue(_MAX_WAITING)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=sys.stderr,
        text=True,
        errors="replace",
        start_new_session=True,  # Ctrl-C is ours to answer: compose would say so each time
    ) as process:
        threading.Thread(target=_feed, args=(process, came, with_postgres), daemon=True).start()
        try:
            yield came, process
        finally:
            process.kill()
            with suppress(queue.Empty):  # who feeds may be waiting for room
                while True:
                    came.get_nowait()


def _feed(process: "subprocess.Popen[str]", came: "queue.Queue[Record]", with_postgres: bool) -> None:
    for record in records(process.stdout or ()):
        if with_postgres or not record.service.endswith(POSTGRES):
            came.put(record)


def records(written: Iterable[str]) -> Iterator[Record]:
    """Read what `docker compose logs` writes; replicas but the first bear their number."""
    latest: dict[str, float] = {}
    for line in written:
        match = _LINE.match(_STEERING.sub("", line, count=1))
        if match is None:
            continue
        service = match["service"] if match["replica"] == "1" else f"{match['service']}-{match['replica']}"
        # what has no time of its own (Postgres' lines, a traceback) belongs to the line before it
        record = read(service, match["text"], otherwise_at=latest.get(service) or time.time())
        latest[service] = record.at
        yield record


def _at_first(came: "queue.Queue[Record]", process: "subprocess.Popen[str]") -> Iterator[Record]:
    """What comes until nothing has come for a moment."""
    patience = 3.0
    while True:
        try:
            yield came.get(timeout=patience)
        except queue.Empty:
            return
        patience = 0.3 if process.poll() is None else 0.1


def _at_hand(came: "queue.Queue[Record]") -> Iterator[Record]:
    for _ in range(came.qsize()):
        yield came.get_nowait()


def _is_of(record: Record, trace: str | None) -> bool:
    return trace is None or record.trace_id == trace


def _print(records: list[Record], terminal: Terminal, trace: str | None) -> None:
    if trace is None:
        for record in records:
            terminal.say(lines.line(record, terminal))
        return
    for hop in way(records):
        terminal.say(lines.hop(hop, terminal))
