"""Start what the benchmarks measure: one Postgres, the bare chain, and the network of `make run` ("mesh")."""

import functools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from benchmarks import bare
from benchmarks.database import BenchmarkDatabase
from benchmarks.errors import BenchmarkError
from benchmarks.names import BARE, DIRECTORY, MAKE_RUN
from benchmarks.processes import children_of, environment_of
from network import http_client, ports, samples, topology
from network.child_process import ChildProcess
from network.polling import PollTimer
from network.postgres import EmbeddedPostgres
from network.topology import HOST, ServiceSpec

FORWARDERS: Final = 5
READY_SECONDS: Final = 90
STOP_SECONDS: Final = 30
UP: Final = "The network is up."
"""`make run` prints this line when its demonstration has ended."""
FIRST_IDENTIFIER: Final = 30_000_000
# the chains can be compared only if a commit waits for the disk in all of them
REQUIRED: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


@dataclass(frozen=True)
class MeasuredChain:
    """A running chain. Its load is sent to `origin`, and it stores one row in `table` for each quote."""

    name: str
    origin: str
    table: str
    pids: Mapping[str, int]
    database: BenchmarkDatabase

    def rows(self) -> int:
        """Return the number of quotes that the chain has stored."""
        return int(self.database.value(f"SELECT count(*) FROM {self.table}"))


@dataclass(frozen=True)
class Checkout:
    """A folder with some commit of this project, the path of its Python, and environment variables for its services."""

    folder: Path
    python: str
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, folder: Path, settings: Mapping[str, str]) -> "Checkout":
        """Return the checkout in a folder. Raises BenchmarkError if the folder has no environment made by `make`."""
        python = folder.absolute() / ".venv" / "bin" / "python"
        if not (python.exists() and (folder / "shared" / "network").is_dir()):
            raise BenchmarkError(
                f"{folder} is not a checkout of this project with an environment: {python} or shared/network "
                f"is missing. Create one: git worktree add {folder} COMMIT && make -C {folder} .venv/.installed"
            )
        return cls(folder.absolute(), str(python), settings)


THIS_CHECKOUT: Final = Checkout(Path.cwd(), sys.executable)


class Machine:
    """One Postgres and the chains that use it. All of them run until the `with` block ends.

    `with Machine(data) as machine: chain = machine.bare()`
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stack = ExitStack()
        self._logs = data / "logs"

    def __enter__(self) -> Self:
        shutil.rmtree(self._data, ignore_errors=True)
        self._logs.mkdir(parents=True)
        with ExitStack() as stack:
            self.postgres = stack.enter_context(
                EmbeddedPostgres(self._data / "postgres", log=self._logs / "postgres.log")
            )
            self.database = stack.enter_context(BenchmarkDatabase(self.postgres.dsn))
            self.settings = {name: str(self.database.value(f"SHOW {name}")) for name in REQUIRED}
            if self.settings != REQUIRED:
                raise BenchmarkError(f"Postgres runs with {self.settings}; the benchmarks need {REQUIRED}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None:
            shutil.rmtree(self._data, ignore_errors=True)
        else:
            print(f"the logs are in {self._data} until the next run")

    def bare(self) -> MeasuredChain:
        """Start the bare chain: five forwarders, and the service that inserts rows."""
        self.database.execute(bare.CREATE)
        first = ports.find_first_port()
        targets = [f"http://{HOST}:{first + hop + 1}" for hop in range(FORWARDERS)]
        commands = [("forward", target) for target in targets] + [("insert", self.postgres.dsn)]
        children = []
        for port, (kind, target) in enumerate(commands, start=first):
            name = f"bare-{port - first + 1}-{kind}"
            command = [sys.executable, "-m", "benchmarks.bare", kind, str(port), target]
            child = ChildProcess(name, command, log=self._logs / f"{name}.log", env=_without_settings())
            self._start(child, functools.partial(_answers, port))
            children.append(child)
        return MeasuredChain(BARE, f"http://{HOST}:{first}", bare.TABLE, _pids(children), self.database)

    def mesh(
        self,
        name: str,
        people: int,
        *,
        takes_batches: bool = True,
        checkout: Checkout = THIS_CHECKOUT,
        database: BenchmarkDatabase | None = None,
    ) -> MeasuredChain:
        """Start the network of a checkout with `make run`'s command, and wait until its demonstration has ended.

        The directory has the sample's people and `people` more. The services get the QUOTES_… variables of this
        process. If `takes_batches` is False, the network uses a directory that takes no batches. `database` is the
        machine's own database unless another is given.
        """
        database = database or self.database
        data = self._data / name
        data.mkdir()
        specs = {
            spec.name: spec
            for spec in topology.services(
                ports.find_first_port(), data=data, database_url=database.dsn, environment=os.environ
            )
        }
        write_directory(data / "directory.json", specs[topology.SPSP_SERVER].origin, people)
        own = {topology.DATABASE_URL: database.dsn}
        alone = None if takes_batches else self._directory_alone(specs[DIRECTORY], checkout)
        if alone:
            own["QUOTES_DIRECTORY_URL"] = alone.origin
        first = specs[topology.FIRST_SERVICE]
        command = [checkout.python, "-m", "network", "run", "--port", str(first.port), "--data", str(data)]
        run = ChildProcess(
            MAKE_RUN,
            command,
            log=self._logs / f"{name}.log",
            env={**os.environ, **checkout.settings, **own},
            cwd=checkout.folder,
        )
        self._start(run, lambda: UP in run.log.read_text())
        pids = {**_services_of(run, specs.values()), **_pids([run])}
        pids.update({DIRECTORY: alone.pid} if alone else {})
        return MeasuredChain(name, first.origin, "quote", pids, database)

    def create_database(self, name: str) -> BenchmarkDatabase:
        """Create an empty database on the machine's Postgres and return a connection to it."""
        self.database.execute(f"CREATE DATABASE {name}")
        dsn = urlsplit(self.postgres.dsn)._replace(path=f"/{name}").geturl()
        return self._stack.enter_context(BenchmarkDatabase(dsn))

    def _directory_alone(self, spec: ServiceSpec, checkout: Checkout) -> "_StartedDirectory":
        port = ports.find_first_port(1)
        samples.ensure_users(Path(spec.env["QUOTES_USERS_FILE"]))
        env = {**_without_settings(), **spec.env, "QUOTES_PORT": str(port), "QUOTES_BATCH_LINES": "0"}
        log = self._logs / f"directory-alone-{port}.log"
        command = [checkout.python, "-m", spec.module]
        child = ChildProcess(DIRECTORY, command, log=log, env=env, cwd=checkout.folder)
        self._start(child, lambda: _answers(port))
        return _StartedDirectory(f"http://{HOST}:{port}", _pid(child))

    def _start(self, child: ChildProcess, is_up: Callable[[], bool]) -> None:
        """Start a process and wait until it is up. It is stopped when the machine's `with` block ends."""
        self._stack.callback(_stop, child)
        child.start()
        timer = PollTimer(READY_SECONDS, 0.05)
        while timer.wait() and child.running:
            if is_up():
                return
        raise BenchmarkError(
            "\n".join([f"{child.name} is not up after {READY_SECONDS} s:", *child.last_lines()])
        )

    def empty_logs(self) -> None:
        """Truncate all log files, because they grow by 1 kB for each quote."""
        for folder in (self._logs, *self._data.glob("*/logs")):
            for log in folder.glob("*.log"):
                os.truncate(log, 0)


def write_directory(file: Path, receiver: str, people: int) -> None:
    """Write a directory file: the sample's people, and `people` more with identifiers from FIRST_IDENTIFIER on.

    All of them have their account at one DFSP, whose URL is `receiver`.
    """
    identifiers = [*samples.PAYEES, *(("eur", str(FIRST_IDENTIFIER + number)) for number in range(people))]
    resources = [
        {
            "identifierType": kind,
            "identifier": identifier,
            "dfsp": "dfsp2",
            "spspReceiver": receiver,
            "primary": True,
        }
        for kind, identifier in identifiers
    ]
    file.write_text(json.dumps({"types": samples.IDENTIFIER_TYPES, "resources": resources, "dfsps": {}}))


@dataclass(frozen=True)
class _StartedDirectory:
    origin: str
    pid: int


def _services_of(run: ChildProcess, specs: Iterable[ServiceSpec]) -> dict[str, int]:
    """Return the process ids of the services of a `make run`, by service name. Finds each by its port."""
    names = {f"QUOTES_PORT={spec.port}": spec.name for spec in specs}
    found = {
        names[setting]: pid
        for pid in children_of(_pid(run))
        for setting in environment_of(pid)
        if setting in names
    }
    if missing := [name for name in topology.CHAIN if name not in found]:
        raise BenchmarkError(f"{run.name} has not started {', '.join(missing)} on the expected ports")
    return {name: found[name] for name in names.values() if name in found}


def _pid(child: ChildProcess) -> int:
    assert child.pid is not None  # noqa: S101 - it is up
    return child.pid


def _pids(children: Iterable[ChildProcess]) -> dict[str, int]:
    return {child.name: _pid(child) for child in children}


def _without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(topology.PREFIX)}


def _answers(port: int) -> bool:
    """Whether a service on this port answers a request, with any status."""
    try:
        http_client.send("GET", f"http://{HOST}:{port}/", timeout_seconds=1)
    except OSError:
        return False
    return True


def _stop(child: ChildProcess) -> None:
    child.terminate()
    if not child.wait(STOP_SECONDS):
        child.kill()
