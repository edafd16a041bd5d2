"""One child process. Its output goes to a log file, and it ends when this process ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from network.files import open_private

_PARENT_DEATH_SCRIPT = Path(__file__).with_name("parent_death.py")
# To the kernel, a process' parent is the thread that started it. This thread starts all processes, and lives until
# the interpreter ends.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network-starter")
_LAST_BYTES = 16_384
# a service has ten seconds to finish the requests it has accepted
_STOP_SECONDS = 12.0


def inherited_environment(*, without: tuple[str, ...]) -> dict[str, str]:
    """Return this process' environment without the variables whose names start with one of the prefixes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}


class ChildProcess:
    """A process that can be started again after it has ended. Its owner may call it from several threads.

    `died` is true if the process has ended although neither `terminate` nor `kill` was called.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: tuple[int, int] | None = None,
        death_signal: signal.Signals = signal.SIGTERM,
        keep_open: Sequence[int] = (),
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log
        self.env = env
        self._cwd = cwd
        self._user = user
        self._death_signal = death_signal
        self._keep_open = tuple(keep_open)
        self._process: subprocess.Popen[bytes] | None = None
        self._should_run = False
        self._log_start = (0, 0)
        self._started_at = 0.0
        self.starts = 0
        """How often the process has been started."""

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def uptime_seconds(self) -> float | None:
        """Time since the process was last started; None if it does not run."""
        return time.monotonic() - self._started_at if self.running else None

    @property
    def exit_code(self) -> int | None:
        """The exit code; None if the process runs or never ran. After a signal it is the signal's negative number."""
        return self._process.poll() if self._process else None

    @property
    def died(self) -> bool:
        return self._should_run and self.exit_code is not None

    def start(self) -> None:
        if self.running:
            return
        self._should_run = True
        _starter.submit(self._spawn).result()

    def request_end(self, number: signal.Signals) -> None:
        """Send a signal that ends the process, even if the process is paused."""
        self._should_run = False
        self._send(number)
        self.resume()

    def pause(self) -> None:
        """Send SIGSTOP. The process then keeps its connections open and answers nothing."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        self.request_end(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        self.request_end(signal.SIGKILL)
        self.wait(10)

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Send SIGTERM and wait until the process has ended. Kill it if it still runs after `seconds`."""
        self.terminate()
        if not self.wait(seconds):
            self.kill()

    def reload(self) -> None:
        """Send SIGHUP: a service then reads its files again."""
        self._send(signal.SIGHUP)

    def wait(self, seconds: float) -> bool:
        """Wait until the process has ended. Returns False if it still runs after `seconds`."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self, count: int = 12) -> list[str]:
        """Return the last `count` of the log lines that were written since the process was last started."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._start_offset(file), end - _LAST_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def rotate_log(self, max_bytes: int) -> None:
        """Move the content of a log of at least `max_bytes` to `<log>.1`. For processes that do not rotate their log.

        It copies the log, then truncates it. Lines that are written in the microseconds between the two steps are
        lost.
        """
        if not self.log.exists() or self.log.stat().st_size < max_bytes:
            return
        with (
            self.log.open("rb") as file,
            open_private(self.log.with_name(f"{self.log.name}.1"), "wb") as older,
        ):
            shutil.copyfileobj(file, older)
            os.truncate(self.log, 0)

    def _start_offset(self, log: BinaryIO) -> int:
        """Return where in the log the last start began; 0 if the log has been rotated or truncated since then."""
        now, (inode, size) = os.fstat(log.fileno()), self._log_start
        return size if now.st_ino == inode and size <= now.st_size else 0

    def _send(self, number: signal.Signals) -> None:
        # sent by the starter thread, so that a start whose caller Ctrl-C has interrupted ends before
        _starter.submit(self._send_now, number).result()

    def _send_now(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _spawn(self) -> None:
        # for this thread only; the new process inherits the block, and ends it when it ignores SIGHUP
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
        uid, gid = self._user or ("", "")
        wrapper = [sys.executable, "-I", "-S", str(_PARENT_DEATH_SCRIPT)]
        arguments = [str(int(self._death_signal)), str(os.getpid()), str(uid), str(gid)]
        with open_private(self.log, "ab") as output:
            log = os.fstat(output.fileno())
            self._log_start = log.st_ino, log.st_size
            self._process = subprocess.Popen(
                [*wrapper, *arguments, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self._cwd,
                pass_fds=self._keep_open,
                # else a terminal's Ctrl-C reaches every process at once, and they cannot be stopped in order
                start_new_session=True,
            )
        self._started_at = time.monotonic()
        self.starts += 1
