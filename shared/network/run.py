"""`make run`: starts a whole network, reserves and pays a sample quote, then prints a line for each request."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from network import demo, ports, sample_strategy, samples, topology
from network.child_process import ChildProcess
from network.control import ControlError, ControlServer
from network.data_lock import DataInUseError, DataLock
from network.demo import Demo, DemoError
from network.log_files import LogFolder
from network.log_records import time_of_day
from network.parent_death import is_tied_to
from network.postgres import EmbeddedPostgres
from network.postgres_data import PostgresError
from network.processes import Network, NotReadyError
from network.request_printer import RequestPrinter
from network.sample_strategy import StrategyError
from network.samples import SampleError
from network.signal_handlers import SignalHandlers
from network.supervisor import RestartError, SupervisedProcess, Supervisor
from network.terminal import Terminal, escape_controls
from network.topology import DATABASE_URL, ServiceSpec

# services write their log lines every 0.2 s
_LOOK_INTERVAL_SECONDS = 0.2
_LOG_FOLDER_MODE = 0o700


class PortsTakenError(RuntimeError):
    """One or more ports cannot be used. The message has a line for each port."""


# reported in a few lines; every other exception is a bug and shows its traceback
_EXPECTED_ERRORS = (
    DataInUseError,
    PortsTakenError,
    PostgresError,
    SampleError,
    NotReadyError,
    OSError,
)


class NetworkRun:
    """One `make run`. A call runs the network until it is stopped, and returns the exit code."""

    def __init__(self, first_port: int, data: Path, terminal: Terminal) -> None:
        self._first_port = first_port
        self._data = data
        self._logs = data / "logs"
        self._terminal = terminal
        self._lock: DataLock | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._network: Network | None = None
        self._supervisor: Supervisor | None = None
        self._signals = SignalHandlers(self._kill_all)
        self._control = ControlServer(
            data,
            {
                "status": lambda _: self._status(),
                "restart": self._restart,
                "reload": lambda _: {"services": self._reload()},
            },
        )

    def __call__(self, *, parent: int | None = None) -> int:
        """Run the network and return the exit code. It also stops when the process with the id `parent` ends."""
        code = 0
        try:
            self._signals.install()
            if parent is None or is_tied_to(parent, signal.SIGTERM):
                self._start()
                self._print_requests(self._demonstrate())
        except KeyboardInterrupt:
            pass
        except _EXPECTED_ERRORS as error:
            self._report_error(error)
            code = 1
        finally:
            self._signals.ignore_but_kill()
            self._stop()
        return code

    def _start(self) -> None:
        started = time.monotonic()
        self._logs.mkdir(parents=True, exist_ok=True)
        self._logs.chmod(_LOG_FOLDER_MODE)
        self._lock = DataLock(self._data, self._report_progress)
        self._check_ports()
        dsn = self._start_database()
        specs = self._services(dsn)
        self._write_samples(specs)
        self._network = Network(specs, logs=self._logs, keep_open=[self._lock.shared])
        self._report_progress(f"starting {len(specs)} services on ports {specs[0].port} to {specs[-1].port}")
        self._network.start()
        self._network.wait_ready()
        self._report_progress(f"all services are ready after {time.monotonic() - started:.1f} s")
        self._supervisor = Supervisor(self._supervised_processes(), self._report_restarts)
        self._supervisor.start()
        try:
            self._control.open()
        except OSError as error:
            self._warn(f"make status, make restart and make reload do not work: {error}")

    def _check_ports(self) -> None:
        if unavailable := ports.unavailable_ports(self._services("")):
            hint = "`make run PORT=9010` uses the ports from 9010 on"
            raise PortsTakenError("\n".join([*unavailable, hint]))

    def _start_database(self) -> str:
        if own := os.environ.get(DATABASE_URL):
            self._report_progress(f"using the Postgres that {DATABASE_URL} names")
            return own
        assert self._lock is not None  # noqa: S101 - created before
        self._report_progress("starting Postgres")
        self._postgres = EmbeddedPostgres(
            self._data / "postgres",
            log=self._logs / "postgres.log",
            keep_open=[self._lock.shared],
            report=self._report_progress,
        )
        self._postgres.start()
        for folder in self._postgres.opened:
            self._report_progress(
                f"other users can now pass through {folder}: Postgres does not run as root and needs that"
            )
        return self._postgres.dsn

    def _services(self, dsn: str) -> tuple[ServiceSpec, ...]:
        return topology.services(self._first_port, data=self._data, database_url=dsn, environment=os.environ)

    def _write_samples(self, specs: Sequence[ServiceSpec]) -> None:
        by_name = {spec.name: spec for spec in specs}
        password = samples.console_password(self._data / "console-password")
        if "QUOTES_USERS_FILE" not in os.environ:
            for name, callers in (
                ("users", samples.CALLERS),
                ("integrations-users", samples.INTEGRATION_CALLERS),
                ("receiver-users", samples.RECEIVER_CALLERS),
            ):
                samples.ensure_users(self._data / name, {**callers, samples.CONSOLE: password})
                samples.ensure_user(self._data / name, samples.CONSOLE, password)
            samples.ensure_users(self._data / "console-users", samples.CONSOLE_USERS)
        samples.ensure_secret(self._data / "encryption-keys", samples.encryption_key())
        samples.ensure_audit_key(self._data / "audit-key", "dfsp-api.localhost")
        samples.ensure_secret(self._data / "accounts.toml", samples.ACCOUNTS)
        if "QUOTES_DIRECTORY_FILE" not in os.environ:
            samples.ensure_directory(self._data / "directory.json", by_name[topology.SPSP_SERVER].origin)

    def _supervised_processes(self) -> list[SupervisedProcess]:
        assert self._network is not None  # noqa: S101 - started before
        processes = [
            SupervisedProcess(child, partial(self._network.answers_health_check, name))
            for name, child in self._network.children.items()
        ]
        return [SupervisedProcess(self._postgres), *processes] if self._postgres else processes

    def _demonstrate(self) -> list[str]:
        """Show the sample quote and return the trace ids of its requests. If this fails, report it and continue."""
        assert self._network is not None  # noqa: S101 - started before
        demonstration = Demo(
            self._network.origin(topology.FIRST_SERVICE),
            logs=self._logs,
            terminal=self._terminal,
            own_settings=[name for name in demo.SETTINGS_THAT_CHANGE_IT if os.environ.get(name)],
        )
        trace_id = str(uuid4())
        try:
            demonstration.run()
        except (DemoError, OSError) as error:
            self._report_error(error)
            self._warn("The demonstration ends here. The network stays up.")
        try:
            sample_strategy.register(self._network.origin(topology.INTEGRATIONS), trace_id)
        except (StrategyError, OSError) as error:
            self._report_error(error)
        self._print_next_steps()
        return [*demonstration.trace_ids, trace_id]

    def _print_next_steps(self) -> None:
        assert self._network is not None  # noqa: S101 - started before
        print_line = self._terminal.print_line
        data = "" if self._data == Path(".data").resolve() else f' DATA="{self._data}"'
        print_line()
        print_line(self._terminal.colour("The network is up.", "bold"))
        print_line(f"  data   {self._data}")
        print_line(
            f"  logs   {self._logs}: make logs{data}, TRACE=<id> for one request, QUOTE=<uuid> for one quote,"
            " SINCE=10m STATUS=5xx for failed requests"
        )
        print_line("  stop   Ctrl-C")
        print_line(f"  try    {demo.curl(self._network.origin(topology.FIRST_SERVICE))}")
        print_line(
            f"  docs   {self._network.origin(topology.FIRST_SERVICE)}/docs describes the API; each service has such a page"
        )
        print_line(
            f"  page   {self._network.origin(topology.INTEGRATIONS)}/ shows the integrations of the strategy"
            f" {sample_strategy.ID!r} (user {sample_strategy.USER}, password {sample_strategy.PASSWORD})"
        )
        name, password = next(iter(samples.CONSOLE_USERS.items()))
        print_line(
            f"  page   {self._network.origin(topology.CONSOLE)}/ is the console: what each service does at this moment"
            f" (user {name}, password {password})"
        )
        print_line()

    def _print_requests(self, demo_traces: list[str]) -> None:
        folder = LogFolder(self._logs)
        folder.seek_end()
        printer = RequestPrinter(self._terminal, time.time, ignored=demo_traces)
        try:
            while self._terminal.has_reader():
                printer.show(folder.next_chunks(), time.monotonic())
                self._rotate_postgres_log()
                if self._signals.take_reload():
                    self._report_progress(f"SIGHUP: {', '.join(self._reload())} read their files again")
                time.sleep(_LOOK_INTERVAL_SECONDS)
        finally:
            folder.close()

    def _rotate_postgres_log(self) -> None:
        with suppress(OSError):  # such as a full disk
            if self._postgres:
                self._postgres.rotate_log()

    def _status(self) -> dict[str, Any]:
        """Return the reply to `make status`: the processes, in the order of the chain."""
        assert self._network is not None  # noqa: S101 - started before
        children = self._network.children
        names = sorted(children, key=topology.chain_position)
        postgres = [_process_status(self._postgres, None)] if self._postgres else []
        services = [_process_status(children[name], self._network.services[name]) for name in names]
        return {"pid": os.getpid(), "services": [*postgres, *services]}

    def _restart(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._supervisor is not None  # noqa: S101 - started before
        name = str(request.get("service"))
        try:
            self._supervisor.restart(name)
        except RestartError as error:
            raise ControlError(str(error)) from None
        return next(each for each in self._status()["services"] if each["name"] == name)

    def _reload(self) -> list[str]:
        """Make every service read its files again, and return the names of the services."""
        assert self._network is not None  # noqa: S101 - started before
        for child in self._network.children.values():
            child.reload()
        return list(self._network.children)

    def _stop(self) -> None:
        self._control.close()
        if self._supervisor:
            self._supervisor.stop()
        if self._postgres:
            self._postgres.resume()  # else the payee waits for a paused Postgres before it stops
        for name in self._network.stop() if self._network else ():
            self._warn(f"{name} did not stop in time and was killed")
        if self._postgres:
            self._postgres.stop()
        if self._lock:
            self._lock.release()
        if self._postgres and (left := self._postgres.all_pids()):
            self._warn(f"these processes of Postgres did not end: {', '.join(map(str, sorted(left)))}")
        elif self._postgres or self._network:
            self._report_progress("all processes have stopped")

    def _kill_all(self) -> None:
        """Kill every process at once. Because it runs in a signal handler, it neither prints nor waits."""
        pids = self._postgres.all_pids() if self._postgres else set()
        for child in self._network.children.values() if self._network else ():
            if child.pid is not None:
                pids.add(child.pid)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _report_error(self, error: BaseException) -> None:
        for line in str(error).splitlines():
            self._warn(line)
        for line in error.lines if isinstance(error, NotReadyError) else ():
            self._terminal.print_line(f"  {escape_controls(line)}")

    def _report_restarts(self, line: str) -> None:
        self._warn(f"{time_of_day(time.time())}  {line}")

    def _warn(self, line: str) -> None:
        self._terminal.print_line(self._terminal.colour(escape_controls(line), "red"))

    def _report_progress(self, line: str) -> None:
        self._terminal.print_line(self._terminal.colour(escape_controls(line), "dim"))


def _process_status(process: ChildProcess | EmbeddedPostgres, spec: ServiceSpec | None) -> dict[str, Any]:
    return {
        "name": process.name,
        "pid": process.pid,
        "port": None if spec is None else spec.port,
        "origin": None if spec is None else spec.origin,
        "uptimeSeconds": process.uptime_seconds,
        "restarts": max(0, process.starts - 1),
    }
