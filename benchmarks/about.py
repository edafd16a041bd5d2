"""Describe a benchmark run: machine, versions and settings. The description is published with the results."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.chains import Machine
from benchmarks.options import Options
from network.topology import DATABASE_URL, PREFIX


def about(machine: Machine, options: Options, load: str) -> dict[str, Any]:
    """Return the description of this run. `load` is the load generator's name and version."""
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(Path.cwd()),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "processor": _processor(),
        "processors": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "postgres": str(machine.database.value("SHOW server_version")),
        "postgres_settings": machine.settings,
        "load": load,
        "settings": _settings(),
    }


def _settings() -> dict[str, str]:
    """Return this process's QUOTES_… variables except the database URL. The services get them, too."""
    own = (name for name in sorted(os.environ) if name.startswith(PREFIX) and name != DATABASE_URL)
    return {name: os.environ[name] for name in own}


def commit(checkout: Path) -> str:
    """Return the abbreviated id of the commit in a folder, with "-dirty" if the folder has uncommitted changes."""
    done = subprocess.run(
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
