"""Services as processes: small ones that stand in for the real."""

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
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ.get("STATUS", 200)))
        self.end_headers()
        self.wfile.write(b'{"missing": ["database"]}')
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, lambda *_: "STUBBORN" not in os.environ and (print(time.monotonic_ns(), flush=True), os._exit(0)))
http.server.HTTPServer(("127.0.0.1", int(os.environ["QUOTES_PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Make a network of `front` and `back`; what it started is gone afterwards."""
    (tmp_path / "network_stand_in.py").write_text(SERVICE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    first = ports.find_first_port(2)
    back = ServiceSpec("back", "network_stand_in", first, {"QUOTES_PORT": str(first)}, stops_last=True)
    front = ServiceSpec("front", "network_stand_in", first + 1, {"QUOTES_PORT": str(first + 1)})
    made = []

    def build(**overrides):
        made.append(Network([back, front], logs=tmp_path / "logs", overrides=overrides))
        return made[-1]

    yield build
    for network in made:
        network.stop(seconds=0.5)


def test_a_network_starts_gets_ready_and_stops_with_the_payee_last(build, tmp_path):
    with build() as network:
        network.wait_ready()
    front, back = (int((tmp_path / "logs" / f"{name}.log").read_text()) for name in ("front", "back"))

    assert front < back


def test_a_service_that_ends_at_once_is_named_with_what_it_wrote(build):
    network = build(front={"BREAK": "1"})
    network.start()

    with pytest.raises(NotReadyError, match="front ended at once with exit code 1") as error:
        network.wait_ready()
    assert ("broken",) == error.value.lines


def test_a_service_that_never_gets_ready_is_named_with_what_is_missing(build):
    network = build(back={"STATUS": "503"})
    network.start()

    with pytest.raises(
        NotReadyError, match=r'back is not ready after 1 s: answers 503 \{"missing": \["database"\]\}'
    ):
        network.wait_ready(seconds=1)


def test_a_killed_service_comes_back_when_asked_and_the_others_stay(build):
    with build() as network:
        network.wait_ready()
        before = network.children["front"].pid, network.children["back"].pid
        network.kill("front")
        assert -signal.SIGKILL == network.children["front"].exit_code
        assert not network.children["front"].died
        network.restart("front")

        assert before[0] != network.children["front"].pid
        assert before[1] == network.children["back"].pid
        assert 0 == network.terminate("back")


def test_a_service_that_ends_by_itself_has_died(build):
    with build() as network:
        network.wait_ready()
        subprocess.run(["/bin/kill", "-9", str(network.children["front"].pid)], check=True)
        network.children["front"].wait(5)

        assert network.children["front"].died


def test_a_service_that_does_not_stop_is_killed_and_named(build):
    network = build(front={"STUBBORN": "1"})
    network.start()
    network.wait_ready()

    assert ["front"] == network.stop(seconds=0.5)
    assert -signal.SIGKILL == network.children["front"].exit_code


def test_the_last_lines_are_those_of_this_start_also_where_the_log_was_rotated_meanwhile(tmp_path):
    log = tmp_path / "log"
    log.write_text("an earlier start\n")
    child = ChildProcess("c", ["/bin/echo", "this start"], log=log)
    child.start()
    child.wait(5)
    assert ["this start"] == child.last_lines()
    log.replace(tmp_path / "log.1")
    log.write_text("after the rotation\n" * 2)

    assert ["after the rotation"] * 2 == child.last_lines()


def test_a_log_that_its_process_does_not_rotate_is_shortened_under_it(tmp_path):
    log, older = tmp_path / "log", tmp_path / "log.1"
    child = ChildProcess("c", ["/bin/sh", "-c", "echo one; kill -STOP $$; echo two"], log=log)
    child.start()
    waiting = PollTimer(5)
    while waiting.wait() and not log.read_text():
        pass
    child.rotate_log(5)
    assert not older.exists()
    child.rotate_log(4)
    child.resume()
    child.wait(5)

    assert ("one\n", "two\n") == (older.read_text(), log.read_text())


def test_each_service_is_told_which_file_its_output_goes_to(build, tmp_path):
    network = build(front={"QUOTES_LOG_FILE": "elsewhere"})

    assert {str(child.log) for child in network.children.values()} == {
        child.env["QUOTES_LOG_FILE"] for child in network.children.values()
    }


def test_log_files_are_readable_by_their_owner_alone(tmp_path):
    """Also those of an earlier version. The older file of a rotation is another one."""
    log = tmp_path / "log"
    log.touch(0o644)
    child = ChildProcess("c", ["/bin/echo", "a line"], log=log)
    child.start()
    child.wait(5)
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

    assert child.wait(5)


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
    # the pipe's other end is not the child's, so this waits for the process itself
    waiting = ChildProcess(
        "w", ["/bin/sh", "-c", f"while kill -0 {pid}; do sleep 0.05; done"], log=tmp_path / "log"
    )
    waiting.start()

    assert waiting.wait(5)
    waiting.kill()


def test_a_process_sees_signals_as_a_shell_would_start_it(tmp_path):
    """Python ignores SIGPIPE, and what is ignored would stay so."""
    child = ChildProcess("c", ["/bin/sh", "-c", "kill -PIPE $$; echo survived"], log=tmp_path / "log")
    child.start()

    assert child.wait(5)
    assert -signal.SIGPIPE == child.exit_code


def test_one_data_folder_is_one_runs(tmp_path):
    first = DataLock(tmp_path, print)
    with pytest.raises(DataInUseError, match="another `make run`"):
        DataLock(tmp_path, print)
    first.release()
    DataLock(tmp_path, print).release()


def test_a_run_waits_for_the_processes_of_a_killed_one(tmp_path):
    first, told = DataLock(tmp_path, print), []
    left_over = ChildProcess("c", ["/bin/sleep", "0.5"], log=tmp_path / "log", keep_open=[first.shared])
    left_over.start()
    first.release()
    DataLock(tmp_path, told.append).release()

    assert ["waiting for the processes of an earlier run to end"] == told
    assert not left_over.running
