"""One process of the network: started with its output in a log file, and never outliving us."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

_TETHER = Path(__file__).with_name("tether.py")
# The kernel's "parent" is the thread that started a process: all are started by this one, which lives until
# the interpreter ends, and so do they at most.
_starter = ThreadPoolExecutor(max_workers=1, thread_name_prefix="network-starter")
_LAST_BYTES = 16_384


class Child:
    """A process that can be started again under the same name; thread safe enough for one owner and a watcher.

    `died` says that it ended without having been asked to by `terminate` or `kill`.
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
        self._wanted = False
        self._log_start = (0, 0)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self.running and self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs and where it never did; negative is a signal's number."""
        return self._process.poll() if self._process else None

    @property
    def died(self) -> bool:
        return self._wanted and self.exit_code is not None

    def start(self) -> None:
        if self.running:
            return
        self._wanted = True
        _starter.submit(self._spawn).result()

    def ask(self, number: signal.Signals) -> None:
        """Send a signal, of which the process may well end; that counts as wanted."""
        self._wanted = False
        self._send(number)

    def pause(self) -> None:
        """Stop it where it is (SIGSTOP): a peer that neither answers nor closes."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        self.ask(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL and wait until it is gone."""
        self.ask(signal.SIGKILL)
        self.wait(10)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; say whether it came in time."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def last_lines(self, count: int = 12) -> list[str]:
        """Return the end of what this start has written."""
        try:
            with self.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._started_at(file), end - _LAST_BYTES))
                return file.read().decode(errors="replace").splitlines()[-count:]
        except FileNotFoundError:
            return []

    def shorten_log(self, max_bytes: int) -> None:
        """Where the log is larger, make its content that of `<log>.1`: for what does not rotate its own.

        What is written between the end of the copy and the emptying, some microseconds, is lost.
        """
        if not self.log.exists() or self.log.stat().st_size < max_bytes:
            return
        with self.log.open("rb") as file, self.log.with_name(f"{self.log.name}.1").open("wb") as older:
            shutil.copyfileobj(file, older)
            os.truncate(self.log, 0)

    def _started_at(self, log: BinaryIO) -> int:
        """Where in the log this start began: at its beginning where it has been rotated or emptied since."""
        now, (number, size) = os.fstat(log.fileno()), self._log_start
        return size if now.st_ino == number and size <= now.st_size else 0

    def _send(self, number: signal.Signals) -> None:
        # behind a start that the one who asked for it did not wait for (Ctrl-C)
        _starter.submit(self._send_now, number).result()

    def _send_now(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _spawn(self) -> None:
        uid, gid = self._user or ("", "")
        tether = [sys.executable, "-I", "-S", str(_TETHER)]
        told = [str(int(self._death_signal)), str(os.getpid()), str(uid), str(gid)]
        with self.log.open("ab") as output:
            log = os.fstat(output.fileno())
            self._log_start = log.st_ino, log.st_size
            self._process = subprocess.Popen(
                [*tether, *told, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self._cwd,
                pass_fds=self._keep_open,
                # a terminal's Ctrl-C is for the one who started all, who then stops them in order
                start_new_session=True,
            )
