"""A PostgreSQL 18 of our own on a data folder, reachable over a Unix socket alone."""

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from network import cluster
from network.child import Child
from network.cluster import Cluster, PostgresError
from network.deadline import Deadline

__all__ = ["EmbeddedPostgres", "PostgresError"]

_START_SECONDS = 60
_FAST_SECONDS = 10
_LEFTOVER_SECONDS = 15
_MAX_LOG_BYTES = 16_777_216
_PID_LINE, _STATUS_LINE = 0, 7


class EmbeddedPostgres:
    """Usable alone: `with EmbeddedPostgres(data / "postgres") as postgres: connect(postgres.dsn)`.

    `folder` is Postgres' own and holds nothing else; its parent must exist. `log` is by default beside it.
    """

    name = "postgres"

    def __init__(self, folder: Path, *, log: Path | None = None, keep_open: Sequence[int] = ()) -> None:
        self._folder = folder.resolve()
        self.log = log or self._folder.with_name("postgres.log")
        self._keep_open = keep_open
        self._cluster: Cluster | None = None
        self._child: Child | None = None

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
        """Known from the first `start` on, and then the same."""
        if self._cluster is None:
            raise PostgresError("Postgres was never started")
        return self._cluster.dsn

    @property
    def opened(self) -> tuple[Path, ...]:
        """Folders that others may now pass through, so that Postgres' own user can."""
        return self._cluster.opened if self._cluster else ()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def exit_code(self) -> int | None:
        return self._child.exit_code if self._child else None

    @property
    def died(self) -> bool:
        return self._child is not None and self._child.died

    def last_lines(self, count: int = 12) -> list[str]:
        return self._child.last_lines(count) if self._child else []

    def shorten_log(self) -> None:
        """To be called now and then: Postgres' own ways of rotating its log do not bound it."""
        if self._child is not None:
            self._child.shorten_log(_MAX_LOG_BYTES)

    def start(self) -> None:
        """Start, and return when connections are accepted; also after a crash, and beside what one left."""
        if self._child is not None and self._child.running:
            return
        # each time: permissions of the folders above may have been taken back meanwhile
        self._cluster = cluster.prepare(self._folder, log=self.log)
        self._child = self._child or self._server(self._cluster)
        _clear_leftovers(self._cluster)
        self._child.start()
        self._wait_ready(self._child)

    def stop(self) -> None:
        """Fast shutdown: connections are ended, everything is written. Killed if that does not end."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL, as a crash: nothing is written any more."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._child is None:
            return
        self._child.ask(how)
        if not self._child.wait(_FAST_SECONDS):
            self._child.kill()

    def _server(self, made: Cluster) -> Child:
        command = [str(made.binaries / "postgres"), "-D", str(made.folder), "-h", "", "-k", str(made.sockets)]
        return Child(
            self.name,
            command,
            log=self.log,
            env=cluster.environment(),
            cwd=made.folder,
            user=made.user,
            death_signal=signal.SIGINT,
            keep_open=self._keep_open,
        )

    def _wait_ready(self, child: Child) -> None:
        deadline = Deadline(_START_SECONDS)
        while deadline.waits():
            if child.exit_code is not None:
                break
            lines = _pid_file(self._folder)
            # the file of this very process says it, as pg_ctl reads it too
            ours = len(lines) > _STATUS_LINE and lines[_PID_LINE] == str(child.pid)
            if ours and lines[_STATUS_LINE].strip() == "ready":
                return
        self._end(signal.SIGINT)
        raise PostgresError("\n".join(["Postgres does not start:", *child.last_lines()]))


def _clear_leftovers(made: Cluster) -> None:
    """End a server that still runs here, and let its last processes go; a stale postmaster.pid is made harmless."""
    lines = _pid_file(made.folder)
    pid = int(lines[_PID_LINE]) if lines and lines[_PID_LINE].isdigit() else 0
    if pid and _is_server(pid, made.folder):
        _stop(pid, made)
    deadline = Deadline(_LEFTOVER_SECONDS)
    while deadline.waits() and _processes_in(made.folder):
        pass
    if pid and _exists(pid):
        # The number is somebody else's by now, which Postgres takes for a running server. It takes its
        # parent's number for stale, and then still looks whether its shared memory is in use: safer than
        # removing the file.
        path = made.folder / "postmaster.pid"
        with suppress(FileNotFoundError):
            path.write_text("\n".join([str(os.getpid()), *lines[1:], ""]))


def _stop(pid: int, made: Cluster) -> None:
    os.kill(pid, signal.SIGINT)
    deadline = Deadline(_FAST_SECONDS)
    while deadline.waits():
        # rather than whether the number exists: an ended one may wait for a parent that never looks
        if not _is_server(pid, made.folder):
            return
    raise PostgresError(f"a Postgres (process {pid}) still runs on {made.folder} and does not stop")


def _pid_file(folder: Path) -> list[str]:
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
        return pid in _processes_in(folder)
    found = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "postgres" in found.stdout and str(folder) in found.stdout


def _processes_in(folder: Path) -> set[int]:
    """Return Postgres' processes on this data: each has it as its working folder (Linux; elsewhere none)."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "comm").read_text().strip() == "postgres" and (process / "cwd").samefile(folder):
                found.add(int(process.name))
    return found
