"""The log file of a service is rotated, without a lost or cut line (chassis.log_file)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chassis.log_file import LogFile
from chassis.logs import LogWriter
from network.log_files import LogFolder
from network.polling import PollTimer

SHARED = Path(__file__).parents[2] / "shared"
WRITER = """
import sys
from pathlib import Path
from chassis.log_file import LogFile
from chassis.logs import LogWriter
file = LogFile(Path(sys.argv[1]), 2_000, older_files=1_000)
file.redirect_output()
lines = LogWriter(1, file)
for number in range(20_000):
    lines.write([b'{"number": %d}' % number], now=number % 7 == 0)
    if number % 1_000 == 0:
        print("a word on stderr", file=sys.stderr, flush=True)
lines.flush()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "service.log"


@pytest.fixture
def lines(path):
    """A writer to the file `path`, which is rotated at ten bytes."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    yield LogWriter(descriptor, LogFile(path, 10, older_files=2, descriptors=[descriptor]))
    os.close(descriptor)


def contents(path):
    return {each.name: each.read_text() for each in path.parent.iterdir()}


def test_a_full_file_gets_a_number_and_the_oldest_is_removed(path, lines):
    for word in (b"first", b"second", b"third", b"fourth", b"fifth", b"sixth", b"seventh"):
        lines.write([word], now=True)

    assert {
        "service.log": "seventh\n",
        "service.log.1": "fifth\nsixth\n",
        "service.log.2": "third\nfourth\n",
    } == (contents(path))


def test_log_files_are_readable_by_their_owner_alone(path, lines):
    for word in (b"first", b"second", b"third"):
        lines.write([word], now=True)

    assert {0o600} == {each.stat().st_mode & 0o777 for each in path.parent.iterdir()}


def test_the_bytes_of_an_earlier_process_count(path):
    path.write_text("earlier\n")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    LogWriter(descriptor, LogFile(path, 10, descriptors=[descriptor])).write([b"later"], now=True)
    os.close(descriptor)

    assert {"service.log": "", "service.log.1": "earlier\nlater\n"} == contents(path)


def test_a_full_file_stays_in_use_if_no_other_can_be_made(path, lines):
    (path.parent / "service.log.new").mkdir()
    for word in (b"first", b"second", b"third"):
        lines.write([word], now=True)

    assert "first\nsecond\nthird\n" == path.read_text()


def test_an_interrupted_rotation_is_repaired(path, lines):
    """As after a kill of the process between two steps."""
    (path.parent / "service.log.new").touch()
    path.rename(path.with_name("service.log.1"))
    lines.write([b"long enough"], now=True)
    lines.write([b"next"], now=True)

    assert {"service.log": "next\n", "service.log.2": "long enough\n"} == contents(path)


def test_a_reader_that_follows_the_log_gets_every_line_over_rotations(tmp_path):
    path = tmp_path / "service.log"
    path.touch()
    folder = LogFolder(tmp_path)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, env={"PYTHONPATH": str(SHARED)}) as writer:
        read = []
        while writer.poll() is None:
            read += folder.parse(folder.next_chunks())
        while chunks := folder.next_chunks():
            read += folder.parse(chunks)
    folder.close()

    assert list(range(20_000)) == [one.fields["number"] for one in read if one.fields]
    assert 20 == sum(one.text == "a word on stderr" for one in read)
    assert 100 < len(list(tmp_path.iterdir()))


@pytest.fixture
def start(tmp_path):
    """Start a service that logs to a file; it is killed afterwards."""
    (tmp_path / "users").touch()
    started = []

    def start(log, **more):
        environment = {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "QUOTES_USERS_FILE": str(tmp_path / "users"),
            "QUOTES_PORT": "0",
            "QUOTES_STOP_GRACE_SECONDS": "0",
            "QUOTES_LOG_FILE": str(log),
            **more,
        }
        command = [sys.executable, "-m", "spsp_server"]
        output = subprocess.PIPE
        started.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_service_writes_to_its_log_file_alone(start, path):
    service = start(path)
    timer = PollTimer(60)
    while timer.wait() and not (path.exists() and '"started"' in path.read_text()):
        assert service.poll() is None
    service.terminate()

    assert ("", "") == service.communicate(timeout=60)
    assert ["started", "stopping", "stopped"] == [
        json.loads(line)["event"] for line in path.read_text().splitlines()
    ]


def test_a_service_warns_of_an_old_name_of_a_variable_at_start(start, path):
    service = start(path, QUOTES_MOST_IN_HAND="100")
    timer = PollTimer(60)
    while timer.wait() and not (path.exists() and '"started"' in path.read_text()):
        assert service.poll() is None

    warning = json.loads(path.read_text().splitlines()[0])
    assert ("warning", "QUOTES_MOST_IN_HAND is deprecated. Set QUOTES_MAX_IN_FLIGHT instead.") == (
        warning["level"],
        warning["event"],
    )


def test_a_service_that_cannot_write_its_log_does_not_start(start, tmp_path):
    service = start(tmp_path / "nowhere" / "service.log")
    _, complaint = service.communicate(timeout=60)

    assert 2 == service.returncode
    assert "error: QUOTES_LOG_FILE cannot be written: " in complaint
