"""Postgres: a service's pool of connections, its migrations, and the errors that its callers get."""

import asyncio
import contextlib
import select
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from chassis.database_metrics import DatabaseMetrics
from chassis.errors import QuotingError, UnavailableError, UpstreamTimeoutError, cause_of
from chassis.migrations import Connection, Migrations
from chassis.postgres_session import UnfitDatabaseError, prepare_session
from chassis.postgres_stream import StreamWatch
from chassis.settings import SettingsError

__all__ = ["Connection", "Database"]

CONNECT_SECONDS: Final = 5.0
MAX_TRIES: Final = 3
RETRY_SECONDS: Final = 0.5
MAX_TURNS: Final = 8
"""Turns of the event loop in which asyncpg may read what has come on an idle connection."""
STATEMENT_SECONDS: Final = 60.0
"""Time limit of a statement that has no caller. It is also the longest time limit that a caller can set."""
READY_SECONDS: Final = 2.0
EXPIRE_EVERY_SECONDS: Final = 10.0
"""Minimum time between two replacements of all connections.

If statements are slow because Postgres is busy, replacing the connections more often would make Postgres even slower.
"""
NEEDS_WRITES: Final = "database that accepts writes"
NO_SERVER: Final = "/nonexistent"
MAX_PORT: Final = 65_535
NOTHING: Final[Mapping[str, str]] = {}

T = TypeVar("T")

# the server cannot be reached or is ending; the statement is not at fault
_AWAY = (
    OSError,  # TimeoutError too
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement cancelled
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that has not been promoted yet
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_TRY_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
# the database was replaced, a table was dropped, or a pooler now shares sessions
_CHANGED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidSchemaNameError,
    asyncpg.DuplicatePreparedStatementError,
    asyncpg.InvalidSQLStatementNameError,
)

_UNSAFE: Final = """
SELECT name FROM pg_settings WHERE setting <> 'on' AND name IN ('fsync', 'full_page_writes', 'synchronous_commit')
"""
TABLE_BYTES: Final = """
SELECT name, pg_total_relation_size(to_regclass(name)) AS bytes FROM unnest($1::text[]) AS t (name)
WHERE to_regclass(name) IS NOT NULL
"""
_IS_READ_ONLY: Final = "SELECT current_setting('transaction_read_only') = 'on'"


class Database:
    """A pool of connections to one database.

    The database may be unreachable when the service starts. It may become unreachable, or be replaced, at any later
    time. While it is not usable, each use raises UnavailableError. When it is usable again, the service needs no
    restart.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        migrations: Migrations,
        *,
        seed: Callable[[Connection], Awaitable[None]] | None = None,
        settings: Mapping[str, str] = NOTHING,
        statements: Mapping[str, str] = NOTHING,
    ) -> None:
        """``seed`` writes initial rows. It is called each time the migrations have run, before other statements.

        ``settings`` are settings of Postgres by name. They are set on each connection. ``statements`` has the name of
        SQL statements, for metrics.
        """
        self._url = url
        self._connections = connections
        self._migrations = migrations
        self._seed = seed
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.metrics = DatabaseMetrics(
            connections, self._pool_size, {**statements, TABLE_BYTES: "table_bytes"}
        )
        self._on_connect: list[Callable[[Connection], Awaitable[None]]] = []
        self._on_fault: Callable[[str], object] = lambda _: None
        self._is_prepared = False
        self._preparing: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._expired_at = -EXPIRE_EVERY_SECONDS

    def on_connect(self, hook: Callable[[Connection], Awaitable[None]]) -> None:
        """Register ``hook``, which is called with each new connection before any statement uses the connection."""
        self._on_connect.append(hook)

    async def open(self, on_fault: Callable[[str], object]) -> None:
        """Open the pool. Apply the migrations in the background as soon as the database is reachable.

        While they fail, ``on_fault`` is called with each new cause. Raises SettingsError if the URL cannot be used.
        """
        self._on_fault = on_fault
        await require_usable_url(self._url)
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            timeout=CONNECT_SECONDS,
            connect=self._connect,
            server_settings={"application_name": self._migrations.service},
            reset=_nothing_to_reset,
        )
        self._prepare_again()

    async def close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        if self._pool is not None:
            self._pool.terminate()

    async def fetch(
        self, statement: str, *arguments: object, deadline: float | None = None
    ) -> Sequence[asyncpg.Record]:
        """Run one statement, which is committed at once, and return its rows.

        ``deadline`` is on the monotonic clock; for a statement with several callers it is their latest deadline. If
        the statement has not ended by then, its connection is closed, because it may be dead, and UpstreamTimeoutError
        is raised. UnavailableError is raised if the database is unreachable. After both errors it is unknown whether
        the statement had an effect. Deadlocks and serialization failures are tried again, MAX_TRIES times in all.
        Other errors of Postgres are raised unchanged.
        """
        return await self.use(lambda connection: connection.fetch(statement, *arguments), deadline=deadline)

    async def transaction(
        self, work: Callable[[Connection], Awaitable[T]], *, deadline: float | None = None
    ) -> T:
        """Call ``work`` in one READ COMMITTED transaction and return its result. Raises the errors of :meth:`fetch`."""

        async def run(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self.use(run, deadline=deadline)

    async def use(self, work: Callable[[Connection], Awaitable[T]], *, deadline: float | None = None) -> T:
        """Call ``work`` with one connection and return its result. Raises the errors of :meth:`fetch`."""
        self._require_prepared()
        for _ in range(MAX_TRIES):
            seconds = STATEMENT_SECONDS if deadline is None else deadline - time.monotonic()
            if seconds <= 0:  # with a timeout of 0 s the statement would still be sent
                raise UpstreamTimeoutError
            try:
                return await self._with_connection(work, seconds, has_caller=deadline is not None)
            except _TRY_AGAIN:
                self.metrics.failures["conflict"] += 1
                continue
            except _CHANGED as error:
                self._prepare_again()
                await self.expire_connections()
                raise UnavailableError("The database is not ready.", cause=cause_of(error)) from error
        raise UnavailableError(cause=f"{MAX_TRIES} deadlocks or serialization failures")

    async def connected(self, *, deadline: float | None = None) -> None:
        """Wait until the pool has an open connection for the next statement. Raises the errors of :meth:`fetch`."""
        self._require_prepared()
        if self._pool is None or not self._pool.get_idle_size():
            await self.use(_nothing_to_reset, deadline=deadline)

    async def missing(self) -> list[str]:
        """Return the resources that the database lacks, such as a table; an empty list if it is ready (wire.md §6)."""
        if self._is_prepared:
            with contextlib.suppress(QuotingError, asyncpg.PostgresError):
                # no request's deadline limits this
                return await self._with_connection(self._missing, READY_SECONDS)
        return [self._problem or "database"]

    async def measure(self) -> None:
        """Measure the size of the tables, for metrics. Raises the errors of :meth:`fetch`."""
        self.metrics.table_bytes = {}
        rows = await self.fetch(TABLE_BYTES, self._migrations.tables)
        self.metrics.table_bytes = {row["name"]: row["bytes"] for row in rows}

    def _pool_size(self) -> tuple[int, int]:
        """Return how many connections are in use, and how many are idle."""
        if self._pool is None:
            return 0, 0
        idle = self._pool.get_idle_size()
        return self._pool.get_size() - idle, idle

    async def expire_connections(self) -> None:
        """Make the pool replace each connection that is open now before the connection's next use."""
        if self._pool is not None:
            await self._pool.expire_connections()

    async def _connect(self, *arguments: Any, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":  # noqa: ANN401 - asyncpg's own
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(*arguments, **options)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                # a pooler is tested while the service is not ready; each test costs it a connection
                url = None if self._is_prepared else self._url
                await prepare_session(connection, self._settings, self._migrations.schema, url=url)
                for hook in self._on_connect:
                    await hook(connection)
                connection.add_query_logger(self.metrics.log_statement)
                transport, protocol = connection._transport, connection._protocol  # type: ignore[attr-defined]  # noqa: SLF001
                transport.set_protocol(StreamWatch(protocol))
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _prepare_again(self) -> None:
        self._is_prepared = False
        if self._preparing is None or self._preparing.done():
            self._preparing = asyncio.create_task(self._prepare())

    async def _prepare(self) -> None:
        reported = ""
        while not self._is_prepared:
            try:
                await self._with_connection(self._migrate, None)
            except (QuotingError, asyncpg.PostgresError) as error:
                cause = cause_of(error)
                if cause != reported:
                    self._on_fault(cause)
                    reported = cause
                await asyncio.sleep(RETRY_SECONDS)

    async def _migrate(self, connection: Connection) -> None:
        await self._migrations.apply(connection)
        missing = await self._migrations.missing(connection)
        if missing:
            raise UnfitDatabaseError(_lacks(missing))
        if self._seed is not None:
            await self._seed(connection)
        self._is_prepared = True

    def _require_prepared(self) -> None:
        if not self._is_prepared:
            raise UnavailableError(cause=self._problem or "the database or its tables are not there yet")

    async def _with_connection(
        self,
        work: Callable[[Connection], Awaitable[T]],
        seconds: float | None,
        *,
        has_caller: bool = False,
    ) -> T:
        """Call ``work`` with a connection. ``seconds`` is the time limit, None for no limit. Raises UnavailableError.

        If ``has_caller`` is true, it raises UpstreamTimeoutError when the time limit has passed.
        """
        try:
            # this includes the wait for a free connection; CONNECT_SECONDS limits the time to open one
            async with asyncio.timeout(seconds) as limit, self._connection() as connection:
                return await work(connection)
        except UnfitDatabaseError as error:
            self._problem = str(error)
            raise UnavailableError("The database cannot be used.", cause=cause_of(error)) from error
        except _AWAY as error:
            is_read_only = isinstance(error, asyncpg.ReadOnlySQLTransactionError)
            self._problem = NEEDS_WRITES if is_read_only else None
            is_late = isinstance(error, TimeoutError) and limit.expired()
            is_full = isinstance(error, asyncpg.DiskFullError)
            self.metrics.failures["disk_full" if is_full else "timeout" if is_late else "unavailable"] += 1
            if is_late:
                await self._expire_suspects()
                if has_caller:
                    raise UpstreamTimeoutError(cause="a statement did not end in time") from error
            raise UnavailableError(
                "The database is away.", cause=f"{type(error).__name__}: {cause_of(error)}"
            ) from error

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        assert self._pool is not None  # noqa: S101 - opened with the app
        with self.metrics.waiting():
            connection = await self._pool.acquire()
            while (watch := await _watch_in_step(connection)) is None:
                connection.terminate()
                await self._pool.release(connection)
                connection = await self._pool.acquire()
        try:
            yield connection
        except (asyncio.CancelledError, *_AWAY):
            # if the server hangs, to close the connection in good order would delay the caller
            # InterfaceError: the connection was lost and is not in the pool
            with contextlib.suppress(asyncpg.InterfaceError):
                connection.terminate()
            raise
        finally:
            watch.end()
            await self._pool.release(connection)

    async def _expire_suspects(self) -> None:
        """Expire all connections after a statement did not end in time, but only once in EXPIRE_EVERY_SECONDS.

        If a firewall has dropped one connection without notice, it may have dropped the idle connections too.
        """
        now = time.monotonic()
        if now - self._expired_at >= EXPIRE_EVERY_SECONDS:
            self._expired_at = now
            await self.expire_connections()

    async def _missing(self, connection: Connection) -> list[str]:
        missing = [f"database with {row['name']} on" for row in await connection.fetch(_UNSAFE)]
        if await connection.fetchval(_IS_READ_ONLY):
            missing.append(NEEDS_WRITES)
            # only new connections use a setting that has been changed for the role or the database
            await self.expire_connections()
        tables = await self._migrations.missing(connection)
        if tables:
            self._problem = _lacks(tables)
            missing.append(self._problem)
            self._prepare_again()
        return missing


async def _watch_in_step(connection: Connection) -> StreamWatch | None:
    """Let asyncpg read what has arrived on an idle connection. Return the watch, or None if the connection must close.

    It must close if the server has ended it, or if bytes have arrived that no statement has asked for.
    """
    transport = connection._transport  # type: ignore[union-attr]  # noqa: SLF001 - no public name
    waiting = select.poll()
    waiting.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    for _ in range(MAX_TURNS):
        if transport.is_closing():
            return None
        if not waiting.poll(0):
            watch: StreamWatch = transport.get_protocol()
            return watch if watch.begin() else None
        await asyncio.sleep(0)
    return None


def _lacks(missing: Sequence[str]) -> str:
    # a new table would be empty: only the operator can decide to create it
    return f"database with {', '.join(missing)} (recorded as created, so it is not created again)"


async def require_usable_url(url: str) -> None:
    """Raise SettingsError if the URL has a wrong scheme, white space or a wrong port, or if asyncpg rejects it."""
    # asyncpg's own message may hold a part of the password
    malformed = SettingsError(
        "QUOTES_DATABASE_URL must be a URL such as postgresql://user:password@host:5432/database, in which special"
        " characters of the password are percent-encoded"
    )
    try:
        if not _is_postgres_url(url):
            raise malformed
        # asyncpg reads the whole URL before it connects; no server listens on this socket
        connection = await asyncpg.connect(url, host=NO_SERVER, timeout=CONNECT_SECONDS)
    except asyncpg.exceptions.ClientConfigurationError as error:
        raise SettingsError(f"QUOTES_DATABASE_URL cannot be used: {error}") from error
    except ValueError:
        raise malformed from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return
    connection.terminate()


def _is_postgres_url(url: str) -> bool:
    if not url.startswith(("postgresql://", "postgres://")) or any(map(str.isspace, url)):
        return False
    servers = urlsplit(url).netloc.rpartition("@")[2]
    ports = [server.rpartition("]")[2].partition(":")[2] for server in servers.split(",")]
    return all(not port or (port.isdecimal() and 0 < int(port) <= MAX_PORT) for port in ports)


async def _nothing_to_reset(_connection: Connection) -> None:
    """Do nothing. asyncpg's own reset would cost a round trip, and no statement leaves anything in its session."""
