"""One service as a process, without a network around it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from network.polling import PollTimer

SECONDS = 60.0


@contextmanager
def service_process(package: str, port: int, users_file: Path, log: Path, **more: str) -> Iterator[int]:
    """Run a service and yield its process id when it has started. `more` are further environment variables."""
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_PORT": str(port),
        "QUOTES_LOG_FILE": str(log),
        "QUOTES_STOP_GRACE_SECONDS": "0",
        **more,
    }
    with subprocess.Popen([sys.executable, "-m", package], env=environment) as process:
        try:
            timer = PollTimer(SECONDS)
            while not (log.exists() and '"started"' in log.read_text()):
                assert timer.wait()
            yield process.pid
        finally:
            process.kill()
