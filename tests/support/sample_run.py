"""Run `python -m network run` as a process, as `make run` does, and read its output and its child processes."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from network.polling import PollTimer
from support.settings import DEFAULTS

UP = "The network is up."
READY_SECONDS = 120


class SampleRun:
    """A started `make run`. ``output`` is the text that it has printed so far."""

    output_of_demonstration = ""
    """The text up to the first printed request, before which the log lines of the demonstration were read."""

    def __init__(self, port: int, data: Path, environment: Mapping[str, str]) -> None:
        self.port = port
        self.data = data
        own = {name: value for name, value in os.environ.items() if not name.startswith("QUOTES_")}
        self._lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "network", "run", "--port", str(port), "--data", str(data)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**own, **DEFAULTS, "PYTHONUNBUFFERED": "1", **environment},
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self._lines.append(line)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `python -m network COMMAND` on the data of this run."""
        name, *rest = arguments
        return subprocess.run(
            [sys.executable, "-m", "network", name, "--data", str(self.data), *rest],
            capture_output=True,
            text=True,
            check=False,
            timeout=READY_SECONDS,
        )

    def wait_for(self, text: str) -> None:
        """Wait until the run has printed a text."""
        timer = PollTimer(READY_SECONDS, 0.05)
        while timer.wait() and text not in self.output:
            assert self.process.poll() is None, self.output
        assert text in self.output

    def wait_until_up(self) -> None:
        timer = PollTimer(READY_SECONDS, 0.05)
        while timer.wait():
            if UP in self.output:
                return
            assert self.process.poll() is None, self.output
        raise AssertionError(f"not up in {READY_SECONDS} s:\n{self.output}")

    def end(self, number: signal.Signals, seconds: float = 30) -> int:
        self.process.send_signal(number)
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def processes(self) -> dict[int, str]:
        """Return the running processes of this run, by process id.

        They have the run's data folder in their environment, their command line or their working folder.
        """
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                settings = (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
                folder = str((process / "cwd").readlink())
                if str(self.data).encode() in settings or folder.startswith(str(self.data)):
                    found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        return found

    def left_after(self, seconds: float) -> dict[int, str]:
        """Wait until the processes of this run have ended, for at most ``seconds``; return those that still run."""
        timer = PollTimer(seconds, 0.1)
        left = self.processes()
        while timer.wait() and left:
            left = self.processes()
        return left


def shown(printed: str) -> tuple[int, int]:
    """Return the numbers of requests that were counted and that were printed one by one."""
    counted = sum(int(number) for number in re.findall(r"  (\d+) requests, ", printed))
    return counted, len(re.findall(r"POST /v1/quoteSourceAmount +\d+", printed))


@contextmanager
def sample_run(port: int, data: Path, **environment: str) -> Iterator[SampleRun]:
    """Start a run. At the end, stop it and kill all its processes that are left."""
    run = SampleRun(port, data, environment)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGINT)
            try:
                run.process.wait(30)
            except subprocess.TimeoutExpired:
                run.process.kill()
                run.process.wait()
        for pid in run.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run._reader.join(5)
