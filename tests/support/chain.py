"""Start the whole chain, with each service as a process, on free ports."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from network.polling import PollTimer
from network.ports import find_first_port
from network.processes import Network
from network.samples import ensure_directory
from network.topology import CHAIN, services
from support import audit
from support.settings import DEFAULTS

Overrides = Mapping[str, Mapping[str, str]]
PATIENCE_SECONDS: Final = 60


@dataclass(frozen=True)
class Chain:
    """A running network.

    Services have the names of `network.topology`: dfsp-api-payer, …, dfsp-api, central-directory.
    """

    network: Network
    database_url: str
    logs: Path

    @property
    def url(self) -> str:
        """URL to which callers send requests: that of the payer's dfsp-api."""
        return self.network.origin("dfsp-api-payer")

    def origin(self, name: str) -> str:
        return self.network.origin(name)

    def log_lines(self, name: str) -> list[dict[str, Any]]:
        """Return the log lines of a service, parsed. Raises ValueError if a line is not JSON."""
        return [json.loads(line) for line in (self.logs / f"{name}.log").read_text().splitlines()]

    def has_logged(self, name: str, event: str) -> bool:
        return any(line.get("event") == event for line in self.log_lines(name))

    def forget_directory(self) -> None:
        """Clear the cache of the running proxy, which would answer in place of the directory."""
        name, event = "spsp-client-proxy", "directory answers forgotten"
        before = [line.get("event") for line in self.log_lines(name)].count(event)
        self.network.children[name].reload()
        timer = PollTimer(PATIENCE_SECONDS)
        while [line.get("event") for line in self.log_lines(name)].count(event) == before:
            assert timer.wait(), "the proxy has not cleared its cache"


free_ports = find_first_port
"""Return the first of several consecutive free ports, enough for a whole network.

Each call returns other ports (`network.ports`).
"""


@contextmanager
def running(data: Path, database_url: str, users_file: Path, overrides: Overrides) -> Iterator[Chain]:
    """Start a chain and wait until it is ready. Stop it at the end of the `with` block."""
    first = free_ports()
    logs = data / "logs"
    specs = services(
        first,
        data=data,
        database_url=database_url,
        # no spans: the console, which would take them, is not started
        environment={
            "QUOTES_TRACES_URL": "",
            "QUOTES_AUDIT_KEY": audit.KEY.secret_text,
            **DEFAULTS,
            "QUOTES_USERS_FILE": str(users_file),
        },
    )
    ensure_directory(data / "directory.json", f"http://127.0.0.1:{first + 3}")
    of_the_chain = [spec for spec in specs if spec.name in CHAIN]
    with Network(of_the_chain, logs=logs, overrides=overrides) as network:
        network.wait_ready()
        yield Chain(network, database_url, logs)
