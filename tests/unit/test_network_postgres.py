"""The embedded Postgres; each test starts a real one."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import asyncpg
import pytest

from network import postgres as postgres_module
from network.child_process import ChildProcess
from network.postgres import EmbeddedPostgres, PostgresError, processes_on


@pytest.fixture
def new_folder():
    """Not under tmp_path: pytest forbids other users, such as Postgres', to enter the folders above that."""
    with tempfile.TemporaryDirectory(prefix="network-postgres-") as above:
        yield Path(above) / "postgres"


@pytest.fixture(scope="module")
def created():
    """A data folder after a first start, which takes most of a test's time."""
    with tempfile.TemporaryDirectory(prefix="network-postgres-") as above:
        with EmbeddedPostgres(Path(above) / "postgres"):
            pass
        yield Path(above) / "postgres"


@pytest.fixture
def folder(created, new_folder):
    """A copy of that data folder."""
    subprocess.run(["cp", "-a", str(created), str(new_folder)], check=True)
    return new_folder


@pytest.fixture
def postgres(folder):
    with EmbeddedPostgres(folder) as running:
        yield running


async def fetch_value(postgres, statement):
    connection = await asyncpg.connect(postgres.dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def test_committed_rows_survive_a_stop_a_crash_and_a_stale_pid_file(postgres, folder):
    """The server is started again after a stop, and after a crash whose process id belongs to another process now."""
    await fetch_value(postgres, "CREATE TABLE kept AS SELECT 1 AS n")
    postgres.stop()
    postgres.start()
    await fetch_value(postgres, "INSERT INTO kept VALUES (2)")
    postgres.kill()
    assert not postgres.died  # it was killed on purpose
    reused = folder / "postmaster.pid"
    # of the same user, because Postgres ignores other users' processes
    other = ChildProcess("other", ["/bin/sleep", "60"], log=postgres.log, user=postgres._data.user)
    other.start()
    reused.write_text(reused.read_text().replace(reused.read_text().split()[0], str(other.pid), 1))
    try:
        postgres.start()
    finally:
        other.kill()

    assert 3 == await fetch_value(postgres, "SELECT sum(n) FROM kept")
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        assert "on" == await fetch_value(postgres, f"SHOW {setting}")
    assert "18" == (await fetch_value(postgres, "SHOW server_version")).split(".")[0]


async def test_a_stale_socket_lock_of_another_process_does_not_stop_the_start(postgres):
    """After a crash, the process id in the socket's lock file may belong to another process of the same user."""
    postgres.kill()
    lock = postgres._data.socket_folder / ".s.PGSQL.5432.lock"
    other = ChildProcess("other", ["/bin/sleep", "60"], log=postgres.log, user=postgres._data.user)
    other.start()
    pid, *rest = lock.read_text().splitlines()
    assert pid
    lock.write_text("\n".join([str(other.pid), *rest, ""]))
    try:
        postgres.start()
    finally:
        other.kill()

    assert 1 == await fetch_value(postgres, "SELECT 1")


def test_a_paused_postgres_is_stopped_with_its_backends(postgres, folder):
    for pid in postgres.all_pids():
        os.kill(pid, signal.SIGSTOP)
    postgres.stop()

    assert set() == postgres.all_pids() | processes_on(folder)
    assert 0 == postgres.exit_code  # in good order, not killed


def test_a_paused_postgres_that_is_killed_leaves_no_backend(postgres, folder):
    for pid in postgres.all_pids():
        os.kill(pid, signal.SIGSTOP)
    postgres.kill()

    assert set() == processes_on(folder)


async def test_a_start_that_takes_long_is_waited_for_and_reported(folder, monkeypatch):
    """Such as a recovery after a crash. An interrupted one starts from its beginning at the next attempt."""
    reported = []
    read = postgres_module._read_pid_file

    def read_slowly(of_folder):
        return read(of_folder) if len(reported) >= 2 else []

    monkeypatch.setattr(postgres_module, "_REPORT_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(postgres_module, "_read_pid_file", read_slowly)
    with EmbeddedPostgres(folder, report=reported.append) as postgres:
        assert 1 == await fetch_value(postgres, "SELECT 1")
    assert all("Postgres has been starting for 0 s; a recovery after a crash" in line for line in reported)


async def test_a_server_that_an_earlier_run_left_is_stopped_first(postgres, folder):
    leftover = postgres.pid
    with EmbeddedPostgres(folder) as mine:
        assert leftover != mine.pid
        assert postgres.exit_code == 0
        assert postgres.died
        assert 1 == await fetch_value(mine, "SELECT 1")


def test_postgres_ends_with_the_process_that_started_it(folder):
    code = (
        "import sys, time; from pathlib import Path; from network.postgres import EmbeddedPostgres\n"
        "one = EmbeddedPostgres(Path(sys.argv[1])); one.start(); print(one.pid, flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as starter:
        pid = int(starter.stdout.readline())
        assert pid in processes_on(folder)
        starter.send_signal(signal.SIGKILL)
    with EmbeddedPostgres(folder) as again:  # waits for the processes that are left
        assert {pid} & processes_on(folder) == set()
        assert again.pid


def test_a_stop_during_a_start_prevents_the_start(postgres, folder, monkeypatch):
    """Such as Ctrl-C while the supervisor restarts Postgres, which waits for processes of the last start."""
    postgres.kill()
    monkeypatch.setattr(postgres_module, "_clear_leftovers", lambda data: postgres.stop())

    with pytest.raises(PostgresError, match="stopped while it was starting"):
        postgres.start()
    assert set() == processes_on(folder)


def test_data_of_another_version_is_reported(new_folder):
    new_folder.mkdir()
    (new_folder / "PG_VERSION").write_text("15\n")

    with pytest.raises(RuntimeError, match="expecting version 18 but found version 15"):
        EmbeddedPostgres(new_folder).start()
