"""Postgres: one pool, opened as the app opens; a service's migrations; failures as errors that callers see."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources.abc import Traversable
from typing import Final, TypeAlias, TypeVar

import asyncpg

from chassis.errors import QuotingError, UnavailableError

CONNECT_SECONDS: Final = 5.0
MAX_RETRIES: Final = 3
TRY_AGAIN_SECONDS: Final = 0.5
STATEMENT_SECONDS: Final = 60.0  # the longest time a caller can give
READY_SECONDS: Final = 2.0
NO_SETTINGS: Final[Mapping[str, str]] = {}

T = TypeVar("T")
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)

# what says that the server is away or going, not that the statement is wrong
_AWAY = (
    OSError,  # TimeoutError too
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up, statement cancelled
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that has not been promoted yet
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_TRY_AGAIN = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


async def migrate(
    connection: Connection, migrations: Traversable, lock: str, schema: str | None = None
) -> None:
    """Applies what is new of a service's migrations, in the order of their names, under an advisory lock.

    ``schema`` is made where there is none; the connection must already look for its tables there.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", lock)
        if schema is not None:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration"
            " (service text, name text, applied timestamptz DEFAULT now(), PRIMARY KEY (service, name))"
        )
        done = {
            row["name"]
            for row in await connection.fetch("SELECT name FROM schema_migration WHERE service = $1", lock)
        }
        files = sorted(
            (file for file in migrations.iterdir() if file.name.endswith(".sql")),
            key=lambda f: f.name,
        )
        for file in files:
            if file.name not in done:
                await connection.execute(file.read_text(encoding="utf-8"))
                await connection.execute(
                    "INSERT INTO schema_migration (service, name) VALUES ($1, $2)", lock, file.name
                )


class Database:
    """A pool on one database.

    It may be away when the service starts and come and go afterwards: until it is there every use raises
    UnavailableError, and nothing has to be restarted when it is back.
    """

    def __init__(
        self,
        url: str,
        connections: int,
        migrations: Traversable,
        lock: str,
        *,
        schema: str | None = None,
        seed: Callable[[Connection], Awaitable[None]] | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
    ) -> None:
        """``migrations`` is a folder of ``*.sql``, applied in the order of their names under the advisory
        lock that ``lock`` names. ``schema`` is where a service keeps its tables that may share its database
        with others. ``seed`` is called each time after the migrations, before anything else. ``settings`` are
        Postgres' own, for all that is done here.
        """
        self._url = url
        self._connections = connections
        self._migrations = migrations
        self._lock = lock
        self._schema = schema
        self._seed = seed
        self._settings = settings
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._is_migrated = False
        self._preparing: asyncio.Task[None] | None = None

    async def open(self, on_fault: Callable[[str], object]) -> None:
        """Opens the pool; migrates in the background, again and again until the database is there."""
        # a 200 means that it is on disk, whatever the role's or database's own settings are
        settings = {**self._settings, "synchronous_commit": "on", "application_name": self._lock}
        if self._schema is not None:
            settings["search_path"] = self._schema
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections,
            timeout=CONNECT_SECONDS,
            server_settings=settings,
            reset=_nothing_to_reset,
        )
        self._preparing = asyncio.create_task(self._prepare(on_fault))

    async def close(self) -> None:
        if self._preparing is not None:
            self._preparing.cancel()
            await asyncio.wait([self._preparing])
        if self._pool is not None:
            self._pool.terminate()

    async def _prepare(self, on_fault: Callable[[str], object]) -> None:
        said = ""
        while not self._is_migrated:
            try:
                await self._using(self._migrate, None)
            except (QuotingError, asyncpg.PostgresError) as error:
                cause = f"{error.cause or error.message}" if isinstance(error, QuotingError) else str(error)
                if cause != said:
                    on_fault(cause)
                    said = cause
                await asyncio.sleep(TRY_AGAIN_SECONDS)

    async def _migrate(self, connection: Connection) -> None:
        await migrate(connection, self._migrations, self._lock, self._schema)
        if self._seed is not None:
            await self._seed(connection)
        self._is_migrated = True

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """Rows of one autocommitted statement.

        Deadlocks and serialization failures are tried again, three times at most. Raises UnavailableError
        where the database is away; the outcome is then unknown. Other errors of Postgres come as they are.
        """

        async def run(connection: Connection) -> Sequence[asyncpg.Record]:
            return await connection.fetch(statement, *arguments)

        return await self._again_and_again(run)

    async def connected(self) -> None:
        """Returns when there is a connection for the next statement. Raises UnavailableError."""
        self._require_migrated()
        if self._pool is None or not self._pool.get_idle_size():
            await self._using(_nothing_to_reset, None)

    async def transaction(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """What ``work`` gives, in one READ COMMITTED transaction. Raises as :meth:`fetch` does."""

        async def run(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self._again_and_again(run)

    async def _again_and_again(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        self._require_migrated()
        for _ in range(MAX_RETRIES):
            try:
                return await self._using(work, STATEMENT_SECONDS)
            except _TRY_AGAIN:
                continue
        raise UnavailableError(cause="deadlocks or serialization failures, again and again")

    def _require_migrated(self) -> None:
        if not self._is_migrated:
            raise UnavailableError(cause="the database has not been there yet")

    async def _using(self, work: Callable[[Connection], Awaitable[T]], seconds: float | None) -> T:
        """``None`` for as long as it takes. Raises UnavailableError."""
        assert self._pool is not None  # noqa: S101 - opened with the app
        try:
            # whoever waits for a connection waits as long as he has time; connecting has a limit of its own
            async with asyncio.timeout(seconds):
                connection = await self._pool.acquire()
                try:
                    return await work(connection)
                except (asyncio.CancelledError, *_AWAY):
                    # a server that hangs would hold up an orderly release, and with it the caller
                    connection.terminate()
                    raise
                finally:
                    await self._pool.release(connection)
        except _AWAY as error:
            raise UnavailableError(
                "The database is away.", cause=f"{type(error).__name__}: {error}"
            ) from error

    async def missing(self) -> list[str]:
        """What this database lacks to keep promises; empty when ready (wire.md §6)."""
        if not self._is_migrated:
            return ["database"]
        try:
            # a server that hangs is away; no request's deadline watches over this
            async with asyncio.timeout(READY_SECONDS):
                rows = await self.fetch(
                    "SELECT name FROM pg_settings"
                    " WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on'"
                )
        except (QuotingError, TimeoutError):
            return ["database"]
        return [f"database with {row['name']} on" for row in rows]


async def _nothing_to_reset(_connection: Connection) -> None:
    """No statement of ours leaves anything behind in its session: a round trip saved each time."""
