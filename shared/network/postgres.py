"""Runs the embedded PostgreSQL 18 on a data folder. It listens only on a Unix socket."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from network import postgres_data
from network.child_process import ChildProcess
from network.polling import PollTimer
from network.postgres_data import PostgresData, PostgresError

__all__ = ["EmbeddedPostgres", "PostgresError", "processes_on"]

_POLL_SECONDS = 0.02
_REPORT_INTERVAL_SECONDS = 10
_FAST_SHUTDOWN_SECONDS = 10
_KILL_SECONDS = 5
_LEFTOVER_SECONDS = 15
_MAX_LOG_BYTES = 16_777_216
# lines of postmaster.pid
_PID_LINE, _STATUS_LINE = 0, 7


class EmbeddedPostgres:
    """A Postgres server: `with EmbeddedPostgres(data / "postgres") as postgres: connect(postgres.dsn)`.

    Only Postgres may use `folder`, whose parent folder must exist. The default for `log` is a file beside `folder`. If
    a start takes long, `report` is called with lines about it, one at a time.
    """

    name = "postgres"

    def __init__(
        self,
        folder: Path,
        *,
        log: Path | None = None,
        keep_open: Sequence[int] = (),
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._folder = folder.resolve()
        self.log = log or self._folder.with_name("postgres.log")
        self._keep_open = keep_open
        self._report = report
        self._data: PostgresData | None = None
        self._server: ChildProcess | None = None
        self._stop_requested = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """The database URL. It is available after the first `start` and never changes."""
        if self._data is None:
            raise PostgresError("Postgres was never started")
        return self._data.dsn

    @property
    def opened(self) -> tuple[Path, ...]:
        """The folders that this class made passable for all users, because Postgres runs as another user."""
        return self._data.opened if self._data else ()

    @property
    def pid(self) -> int | None:
        return self._server.pid if self._server else None

    @property
    def uptime_seconds(self) -> float | None:
        return self._server.uptime_seconds if self._server else None

    @property
    def starts(self) -> int:
        return self._server.starts if self._server else 0

    @property
    def exit_code(self) -> int | None:
        return self._server.exit_code if self._server else None

    @property
    def died(self) -> bool:
        return self._server is not None and self._server.died

    def all_pids(self) -> set[int]:
        """Return the process ids of the server and of the backends, which serve its connections."""
        pids = processes_on(self._folder)
        return pids | {self.pid} if self.pid is not None else pids

    def last_lines(self, count: int = 12) -> list[str]:
        return self._server.last_lines(count) if self._server else []

    def rotate_log(self) -> None:
        """Rotate the log if it is large. Call this now and then: Postgres' own rotation does not limit its size."""
        if self._server is not None:
            self._server.rotate_log(_MAX_LOG_BYTES)

    def start(self) -> None:
        """Start the server and wait until it accepts connections. An older server on this data is ended first.

        There is no time limit, because recovery after a crash may take long. Raises `PostgresError` if the server
        ends.
        """
        if self._server is not None and self._server.running:
            return
        self._stop_requested = False
        # before each start: the permissions of the folders above may have been changed
        self._data = postgres_data.prepare(self._folder, log=self.log)
        self._server = self._server or self._create_server(self._data)
        _clear_leftovers(self._data)
        if self._stop_requested:
            raise PostgresError("Postgres was stopped while it was starting")
        self._server.start()
        self._wait_until_ready(self._server)

    def stop(self) -> None:
        """Stop the server: it ends the connections and writes everything. Kill it if that takes too long."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End the server with SIGKILL. The data is then as after a crash."""
        self._end(signal.SIGKILL)

    def resume(self) -> None:
        """Let the server and the backends continue after SIGSTOP has paused them."""
        for pid in self.all_pids():
            with suppress(OSError):
                os.kill(pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        self._stop_requested = True
        if self._server is None:
            return
        self._server.request_end(how)
        if how != signal.SIGKILL:
            self.resume()
        if not self._server.wait(_FAST_SHUTDOWN_SECONDS):
            self._server.kill()
        self._kill_backends()

    def _kill_backends(self) -> None:
        """Wait until the backends have ended, as they do after their server. Kill those that are paused or stuck."""
        timer = PollTimer(_KILL_SECONDS)
        while timer.wait() and (pids := processes_on(self._folder)):
            if timer.seconds_left < _KILL_SECONDS - 1:
                for pid in pids:
                    with suppress(OSError):
                        os.kill(pid, signal.SIGKILL)

    def _create_server(self, data: PostgresData) -> ChildProcess:
        return ChildProcess(
            self.name,
            [
                str(data.binaries / "postgres"),
                "-D",
                str(data.folder),
                "-h",
                "",
                "-k",
                str(data.socket_folder),
            ],
            log=self.log,
            env=postgres_data.environment(),
            cwd=data.folder,
            user=data.user,
            death_signal=signal.SIGINT,
            keep_open=self._keep_open,
        )

    def _wait_until_ready(self, server: ChildProcess) -> None:
        started = time.monotonic()
        report_at = started + _REPORT_INTERVAL_SECONDS
        while server.exit_code is None:
            lines = _read_pid_file(self._folder)
            # pg_ctl reads this file too; an older server's has another process id
            is_current = len(lines) > _STATUS_LINE and lines[_PID_LINE] == str(server.pid)
            if is_current and lines[_STATUS_LINE].strip() == "ready":
                return
            if time.monotonic() >= report_at:
                report_at += _REPORT_INTERVAL_SECONDS
                self._report(_describe_start(time.monotonic() - started, server))
            time.sleep(_POLL_SECONDS)
        server.request_end(signal.SIGINT)  # so that only the exception reports the failed start
        raise PostgresError("\n".join(["Postgres does not start:", *server.last_lines()]))


def _describe_start(seconds: float, server: ChildProcess) -> str:
    last = "".join(f"; its last log line: {line}" for line in server.last_lines(1))
    return f"Postgres has been starting for {seconds:.0f} s; a recovery after a crash can take minutes{last}"


def _clear_leftovers(data: PostgresData) -> None:
    """End a server that still runs on this data, wait until its processes have ended, and remove the files it left."""
    lines = _read_pid_file(data.folder)
    pid = int(lines[_PID_LINE]) if lines and lines[_PID_LINE].isdigit() else 0
    if pid and _is_server(pid, data.folder):
        _stop_leftover(pid, data)
    timer = PollTimer(_LEFTOVER_SECONDS)
    while timer.wait() and (left := processes_on(data.folder)):
        for leftover in left if timer.seconds_left < _LEFTOVER_SECONDS / 2 else ():
            with suppress(OSError):
                os.kill(leftover, signal.SIGKILL)
    data.remove_socket()
    if pid and _exists(pid):
        # Another process has this id by now. Postgres would mistake it for a running server and not start. But
        # Postgres ignores its own parent's id, and then still checks whether its shared memory is in use. To write
        # the parent's id is therefore safer than to remove the file.
        path = data.folder / "postmaster.pid"
        with suppress(FileNotFoundError):
            path.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))


def _stop_leftover(pid: int, data: PostgresData) -> None:
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGCONT)
    timer = PollTimer(_FAST_SHUTDOWN_SECONDS)
    while timer.wait():
        # not `_exists`: an ended process may wait for a parent that never collects its exit code
        if not _is_server(pid, data.folder):
            return
    raise PostgresError(
        f"another Postgres (process {pid}) runs on {data.folder} and did not stop within"
        f" {_FAST_SHUTDOWN_SECONDS} s of SIGINT: end it, then start again"
    )


def _read_pid_file(folder: Path) -> list[str]:
    try:
        return (folder / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_server(pid: int, folder: Path) -> bool:
    if Path("/proc/self").exists():
        return pid in processes_on(folder)
    found = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "postgres" in found.stdout and str(folder) in found.stdout


def processes_on(folder: Path) -> set[int]:
    """Return the ids of the Postgres processes whose working folder is `folder` (on Linux; elsewhere an empty set)."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres" and (process / "cwd").samefile(folder):
                found.add(int(process.name))
    return found
