"""`make run`: a whole network, from nothing to a paid quote, and then a line a request."""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from network import demo, plan, ports, samples, strategy
from network.cluster import PostgresError
from network.demo import Demo, DemoError, OwnSettingsError
from network.interrupts import Interrupts, end_with
from network.lock import DataInUseError, DataLock
from network.plan import DATABASE_URL, ServiceSpec
from network.postgres import EmbeddedPostgres
from network.processes import Network, NotReadyError
from network.samples import SampleError
from network.strategy import StrategyError
from network.supervisor import Supervisor, Watched
from network.tail import LogFolder
from network.terminal import Terminal, plain
from network.traffic import Traffic

# services write what they have to say every 0.2 s
_LOOK_SECONDS = 0.2


class PortsTakenError(RuntimeError):
    """One or more ports cannot be had: a sentence each."""


# told in a line or a few; anything else is a fault of ours and shows its traceback
_EXPECTED_ERRORS = (
    DataInUseError,
    PortsTakenError,
    PostgresError,
    SampleError,
    NotReadyError,
    DemoError,
    OSError,
)


class Run:
    """One `make run`, from `__call__` to its exit code."""

    def __init__(self, first_port: int, data: Path, terminal: Terminal) -> None:
        self._first_port = first_port
        self._data = data
        self._logs = data / "logs"
        self._terminal = terminal
        self._lock: DataLock | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._network: Network | None = None
        self._supervisor: Supervisor | None = None
        self._interrupts = Interrupts(self._kill_all)

    def __call__(self, *, parent: int | None = None) -> int:
        code = 0
        try:
            self._interrupts.install()
            if parent is not None:
                end_with(parent)
            self._up()
            self._follow(self._demonstrate())
        except KeyboardInterrupt:
            pass
        except _EXPECTED_ERRORS as error:
            self._complain(error)
            code = 1
        finally:
            self._interrupts.stopping()
            self._down()
        return code

    def _up(self) -> None:
        begun = time.monotonic()
        self._logs.mkdir(parents=True, exist_ok=True)
        self._lock = DataLock(self._data, self._tell)
        self._check_ports()
        dsn = self._database()
        specs = self._services(dsn)
        self._write_samples(specs)
        self._network = Network(specs, logs=self._logs, keep_open=[self._lock.shared])
        self._tell(f"starting {len(specs)} services on ports {specs[0].port} to {specs[-1].port}")
        self._network.start()
        self._network.wait_ready()
        self._tell(f"all are ready after {time.monotonic() - begun:.1f} s")
        self._supervisor = Supervisor(self._watched(), self._warn)
        self._supervisor.start()

    def _check_ports(self) -> None:
        if complaints := ports.complaints(self._services("")):
            hint = "`make run PORT=9010` moves all to 9010 and up"
            raise PortsTakenError("\n".join([*complaints, hint]))

    def _database(self) -> str:
        if own := os.environ.get(DATABASE_URL):
            self._tell(f"using the Postgres of {DATABASE_URL}")
            return own
        assert self._lock is not None  # noqa: S101 - taken before
        self._tell("starting Postgres")
        self._postgres = EmbeddedPostgres(
            self._data / "postgres", log=self._logs / "postgres.log", keep_open=[self._lock.shared]
        )
        self._postgres.start()
        for folder in self._postgres.opened:
            self._tell(f"{folder} can now be passed through by others: Postgres must run as one, not as root")
        return self._postgres.dsn

    def _services(self, dsn: str) -> tuple[ServiceSpec, ...]:
        return plan.services(self._first_port, data=self._data, database_url=dsn, environment=os.environ)

    def _write_samples(self, specs: Sequence[ServiceSpec]) -> None:
        by_name = {spec.name: spec for spec in specs}
        if "QUOTES_USERS_FILE" not in os.environ:
            samples.ensure_users(self._data / "users")
            samples.ensure_users(self._data / "integrations-users", samples.INTEGRATION_CALLERS)
            samples.ensure_users(self._data / "receiver-users", samples.RECEIVER_CALLERS)
        samples.ensure_secret(self._data / "encryption-keys", samples.encryption_key())
        samples.ensure_secret(self._data / "accounts.toml", samples.ACCOUNTS)
        if "QUOTES_DIRECTORY_FILE" not in os.environ:
            samples.ensure_directory(self._data / "directory.json", by_name[plan.RECEIVER].origin)

    def _watched(self) -> list[Watched]:
        watched: list[Watched] = [self._postgres] if self._postgres else []
        return [*watched, *(self._network.children.values() if self._network else ())]

    def _demonstrate(self) -> list[str]:
        """Return the trace ids of the demonstration's own requests."""
        assert self._network is not None  # noqa: S101 - it is up
        one = Demo(
            self._network.origin(plan.ENTRY),
            dsn=self._postgres.dsn if self._postgres else os.environ[DATABASE_URL],
            logs=self._logs,
            terminal=self._terminal,
            settings=[name for name in demo.OWN_SETTINGS if os.environ.get(name)],
        )
        try:
            one.run()
            strategy.make_known(self._network.origin(plan.INTEGRATIONS))
        except (OwnSettingsError, StrategyError) as error:
            self._warn(str(error))
        self._say_what_now()
        return one.traces

    def _say_what_now(self) -> None:
        assert self._network is not None  # noqa: S101 - it is up
        say = self._terminal.say
        data = "" if self._data == Path(".data").resolve() else f' DATA="{self._data}"'
        say()
        say(self._terminal.paint("The network is up.", "bold"))
        say(f"  data   {self._data}")
        say(
            f"  logs   {self._logs}: make logs{data}, TRACE=<id> for one call, SERVICE=<name> for one service"
        )
        say("  stop   Ctrl-C")
        say(f"  try    {demo.curl(self._network.origin(plan.ENTRY))}")
        say(
            f"  page   {self._network.origin(plan.INTEGRATIONS)}/ is {strategy.USER}'s, password"
            f" {strategy.PASSWORD}: integrations of the strategy {strategy.ID!r}"
        )
        say()

    def _follow(self, ignored: list[str]) -> None:
        folder = LogFolder(self._logs)
        folder.to_end()
        traffic = Traffic(self._terminal, time.time, ignored=ignored)
        try:
            while self._terminal.is_read():
                traffic.show(folder.chunks(), time.monotonic())
                self._shorten_log()
                time.sleep(_LOOK_SECONDS)
        finally:
            folder.close()

    def _shorten_log(self) -> None:
        with suppress(OSError):  # a full disk ends nothing here
            if self._postgres:
                self._postgres.shorten_log()

    def _down(self) -> None:
        if self._supervisor:
            self._supervisor.stop()
        for name in self._network.stop() if self._network else ():
            self._warn(f"{name} did not stop and was killed")
        if self._postgres:
            self._postgres.stop()
        if self._lock:
            self._lock.release()
        if self._postgres or self._network:
            self._tell("all has stopped")

    def _kill_all(self) -> None:
        """In a signal handler: nothing is said, nothing waited for."""
        children = self._network.children.values() if self._network else ()
        pids = [child.pid for child in children] + [self._postgres.pid if self._postgres else None]
        for pid in filter(None, pids):
            with suppress(ProcessLookupError):
                os.kill(pid, 9)

    def _complain(self, error: BaseException) -> None:
        for line in str(error).splitlines():
            self._warn(line)
        for line in error.lines if isinstance(error, NotReadyError) else ():
            self._terminal.say(f"  {plain(line)}")

    def _warn(self, line: str) -> None:
        self._terminal.say(self._terminal.paint(plain(line), "red"))

    def _tell(self, line: str) -> None:
        self._terminal.say(self._terminal.paint(plain(line), "dim"))
