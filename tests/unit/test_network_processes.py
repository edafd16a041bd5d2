"""Services as processes; small HTTP servers replace the real services."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from network import ports
from network.child_process import ChildProcess
from network.data_lock import DataInUseError, DataLock
from network.polling import PollTimer
from network.processes import Network, NotReadyError
from network.topology import ServiceSpec

SERVICE = """
import http.server, os, signal, sys, time
if "BREAK" in os.environ: sys.exit("broken")
class StubHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ.get("STATUS", 200)))
        self.end_headers()
        self.wfile.write(b'{"missing": ["database"]}')
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: "STUBBORN" not in os.environ and (print(time.monotonic_ns(), flush=True), os._exit(0)))
http.server.HTTPServer(("127.0.0.1", int(os.environ["QUOTES_PORT"])), StubHandler).serve_forever()
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Build networks of the services `first` and `last`. Their processes are ended afterwards."""
    (tmp_path / "network_stub.py").write_text(SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    port = ports.find_first_port(2)
    last = ServiceSpec("last", "network_stub", port, {"QUOTES_PORT": str(port)}, stops_last=True)
    first = ServiceSpec("first", "network_stub", port + 1, {"QUOTES_PORT": str(port + 1)})
    made = []

    def build(**overrides):
        made.append(Network([last, first], logs=tmp_path / "logs", overrides=overrides))
        return made[-1]

    yield build
    for network in made:
        network.stop(seconds=0.5)


def test_a_service_that_stops_last_is_stopped_after_the_others(build, tmp_path):
    with build() as network:
        network.wait_ready()
    first, last = (int((tmp_path / "logs" / f"{name}.log").read_text()) for name in ("first", "last"))

    assert first < last


def test_a_service_that_ends_at_once_is_reported_with_its_output(build):
    network = build(first={"BREAK": "1"})
    network.start()

    with pytest.raises(NotReadyError, match="first ended at once with exit code 1") as error:
        network.wait_ready()
    assert ("broken",) == error.value.lines


def test_a_service_that_does_not_become_ready_is_reported_with_the_reason(build):
    network = build(last={"STATUS": "503"})
    network.start()
    timer = PollTimer(30)
    while timer.wait() and not network.answers_health_check("last"):
        pass

    with pytest.raises(
        NotReadyError, match=r'last is not ready after 1 s: answers 503 \{"missing": \["database"\]\}'
    ):
        network.wait_ready(seconds=1)


def test_restart_starts_a_killed_service_and_leaves_the_others(build):
    with build() as network:
        network.wait_ready()
        before = network.children["first"].pid, network.children["last"].pid
        network.kill("first")
        assert -signal.SIGKILL == network.children["first"].exit_code
        assert not network.children["first"].died
        network.restart("first")

        assert before[0] != network.children["first"].pid
        assert before[1] == network.children["last"].pid
        assert 0 == network.terminate("last")


def test_a_service_that_was_killed_by_another_process_has_died(build):
    with build() as network:
        network.wait_ready()
        subprocess.run(["/bin/kill", "-9", str(network.children["first"].pid)], check=True)
        network.children["first"].wait(30)

        assert network.children["first"].died


def test_a_service_that_does_not_stop_in_time_is_killed_and_named(build):
    network = build(first={"STUBBORN": "1"})
    network.start()
    network.wait_ready()

    assert ["first"] == network.stop(seconds=0.5)
    assert -signal.SIGKILL == network.children["first"].exit_code


def test_the_last_lines_are_those_of_the_last_start_although_the_log_was_rotated(tmp_path):
    log = tmp_path / "log"
    log.write_text("an earlier start\n")
    child = ChildProcess("c", ["/bin/echo", "this start"], log=log)
    child.start()
    child.wait(30)
    assert ["this start"] == child.last_lines()
    log.replace(tmp_path / "log.1")
    log.write_text("after the rotation\n" * 2)

    assert ["after the rotation"] * 2 == child.last_lines()


def is_stopped(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_the_log_of_a_process_that_does_not_rotate_it_is_rotated(tmp_path):
    log, older = tmp_path / "log", tmp_path / "log.1"
    child = ChildProcess("c", ["/bin/sh", "-c", "echo one; kill -STOP $$; echo two"], log=log)
    child.start()
    timer = PollTimer(30)
    while timer.wait() and not (log.read_text() and is_stopped(child.pid)):
        pass
    child.rotate_log(5)
    assert not older.exists()
    child.rotate_log(4)
    child.resume()
    child.wait(30)

    assert ("one\n", "two\n") == (older.read_text(), log.read_text())


def test_each_service_gets_the_path_of_its_log_file(build, tmp_path):
    network = build(first={"QUOTES_LOG_FILE": "elsewhere"})

    assert {str(child.log) for child in network.children.values()} == {
        child.env["QUOTES_LOG_FILE"] for child in network.children.values()
    }


def test_log_files_are_readable_by_their_owner_alone(tmp_path):
    """Also those of an earlier version. The older file of a rotation is another one."""
    log = tmp_path / "log"
    log.touch(0o644)
    child = ChildProcess("c", ["/bin/echo", "a line"], log=log)
    child.start()
    child.wait(30)
    child.rotate_log(1)

    assert [0o600, 0o600] == [file.stat().st_mode & 0o777 for file in (log, tmp_path / "log.1")]


def test_services_do_not_inherit_variables_of_postgres_clients(build, monkeypatch):
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "standby")
    network = build()

    assert [] == [name for child in network.children.values() for name in child.env if name.startswith("PG")]
    assert all("PATH" in child.env for child in network.children.values())


def test_a_paused_process_can_be_terminated(tmp_path):
    child = ChildProcess("c", ["/bin/sleep", "60"], log=tmp_path / "log")
    child.start()
    child.pause()
    child.terminate()

    assert child.wait(30)


def test_a_process_ends_when_the_one_that_started_it_is_killed(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from network.child_process import ChildProcess\n"
        "child = ChildProcess('c', [sys.executable, '-c', 'import time; time.sleep(60)'], log=Path(sys.argv[1]))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "shared")}
    command = [sys.executable, "-c", code, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as starter:
        pid = int(starter.stdout.readline())
        starter.send_signal(signal.SIGKILL)
    # the child does not inherit the pipe, so this polls the process itself
    waiting = ChildProcess(
        "w", ["/bin/sh", "-c", f"while kill -0 {pid}; do sleep 0.05; done"], log=tmp_path / "log"
    )
    waiting.start()

    assert waiting.wait(30)
    waiting.kill()


def test_a_process_has_default_signal_handlers(tmp_path):
    """Python ignores SIGPIPE, and a child would inherit that."""
    child = ChildProcess("c", ["/bin/sh", "-c", "kill -PIPE $$; echo survived"], log=tmp_path / "log")
    child.start()

    assert child.wait(30)
    assert -signal.SIGPIPE == child.exit_code


def test_a_data_folder_is_used_by_one_run_at_a_time(tmp_path):
    first = DataLock(tmp_path, print)
    with pytest.raises(DataInUseError, match="another `make run`"):
        DataLock(tmp_path, print)
    first.release()
    DataLock(tmp_path, print).release()


def test_a_run_waits_for_the_processes_of_a_killed_one(tmp_path):
    first, reported = DataLock(tmp_path, print), []
    leftover = ChildProcess("c", ["/bin/sleep", "60"], log=tmp_path / "log", keep_open=[first.shared])
    leftover.start()
    first.release()

    def report(line):
        reported.append(line)
        leftover.kill()

    DataLock(tmp_path, report).release()

    assert ["waiting for the processes of an earlier run to end"] == reported
