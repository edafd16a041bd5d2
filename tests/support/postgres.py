"""A real Postgres for tests. It runs in a container if the engine has the image, and is embedded otherwise."""

import asyncio
import gc
import os
import shutil
import uuid
import warnings
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker
import pytest
from docker.errors import DockerException

from chassis.migrations import Connection, Migrations
from network import postgres_data
from network.postgres import EmbeddedPostgres

T = TypeVar("T")

IMAGE: Final = "postgres:17"
FIRST_OF_CATALOGS: Final = 10_000
"""Below are the ids of built-in types, which are the same in every Postgres."""
MAX_CONNECTIONS: Final = 400
"""Several processes of pytest share a server, and each test may have some services with a pool each."""
MEMORY: Final = "/dev/shm"
MEMORY_BYTES: Final = 2_000_000_000

# A test leaves connections, settings, tables and functions.
_DISCONNECT: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_RESET: Final = """
DO $$
BEGIN
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I RESET ALL', current_database());
    PERFORM pg_stat_reset();
END
$$
"""
_DROP_SCHEMAS: Final = """
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
END
$$
"""
_SYSTEM_OBJECTS: Final = "SELECT (SELECT count(*) FROM pg_proc) + (SELECT count(*) FROM pg_extension)"

# The definitions of everything in the database, as one number for each catalog. A row of a catalog that is written again
# has another xmin. Those of pg_class are written again by TRUNCATE and VACUUM, which change no definition.
_DEFINITIONS: Final = """
SELECT ARRAY[
    (SELECT sum(hashtext((oid, relname, relowner, relkind, relnatts, relacl, reloptions, relrowsecurity)::text))
        FROM pg_class WHERE oid >= 16384),
    (SELECT sum(xmin::text::bigint) FROM pg_attribute WHERE attrelid >= 16384),
    (SELECT sum(xmin::text::bigint) FROM pg_attrdef),
    (SELECT sum(xmin::text::bigint) FROM pg_constraint WHERE oid >= 16384),
    (SELECT sum(xmin::text::bigint) FROM pg_index WHERE indexrelid >= 16384),
    (SELECT sum(xmin::text::bigint) FROM pg_trigger),
    (SELECT sum(xmin::text::bigint) FROM pg_type WHERE oid >= 16384),
    (SELECT sum(hashtext((oid, proname)::text)) FROM pg_proc),
    (SELECT sum(hashtext((oid, nspname, nspacl)::text)) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT count(*) FROM pg_rewrite),
    (SELECT count(*) FROM pg_extension)
]::text
"""
_TABLES: Final = """
SELECT oid::regclass::text FROM pg_class
WHERE relkind = 'r' AND relpersistence <> 't' AND oid >= 16384 AND relnamespace <> 'pg_toast'::regnamespace
"""
# DELETE is cheaper than TRUNCATE, which creates files, but it leaves the space of the rows.
_DELETE_ROWS: Final = f"""
DO $$
DECLARE
    name text;
BEGIN
    SET LOCAL session_replication_role = replica;
    FOR name IN {_TABLES} LOOP
        IF pg_relation_size(name) > 200000 THEN
            EXECUTE format('TRUNCATE %s CASCADE', name);
        ELSIF pg_relation_size(name) > 0 THEN
            EXECUTE format('DELETE FROM %s', name);
        END IF;
    END LOOP;
    FOR name IN SELECT seqrelid::regclass::text FROM pg_sequence LOOP
        PERFORM setval(name, 1, false);
    END LOOP;
END
$$
"""


@contextmanager
def postgres() -> Iterator[str]:
    """Run a Postgres server and return its URL. The server stops at the end of the `with` block."""
    if _engine_has_image():
        with _in_container() as url:
            yield url
    else:
        with TemporaryDirectory(dir=_quick_folder()) as folder:
            data = Path(folder) / "postgres"
            prepared = postgres_data.prepare(data, log=Path(folder) / "postgres.log")
            with (prepared.folder / "postgresql.auto.conf").open("a") as file:
                file.write(f"max_connections = {MAX_CONNECTIONS}\n")
            with EmbeddedPostgres(data) as embedded:
                yield embedded.dsn


def _quick_folder() -> str | None:
    """Return a folder in memory, where a commit waits for no disk; None if there is none with enough space."""
    try:
        return MEMORY if shutil.disk_usage(MEMORY).free > MEMORY_BYTES else None
    except OSError:
        return None


def _engine_has_image() -> bool:
    has_image = _find_image()
    with warnings.catch_warnings():
        # without an engine, docker's client leaves an open socket, which would fail the test that runs when it is collected
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return has_image


def _find_image() -> bool:
    try:
        client = docker.from_env(timeout=5)
        try:
            client.images.get(IMAGE)
        finally:
            client.close()
    except (DockerException, OSError):
        return False
    return True


@contextmanager
def _in_container() -> Iterator[str]:
    # testcontainers would start another image to clean up, which an engine without a registry does not have
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.community.postgres import PostgresContainer

    command = f"postgres -c max_connections={MAX_CONNECTIONS}"
    with PostgresContainer(IMAGE, driver=None).with_command(command) as container:
        yield container.get_connection_url()


def know_builtin_types(patch: pytest.MonkeyPatch) -> None:
    """Let asyncpg look up each set of built-in types, such as uuid[], once, and not once for each connection.

    To plan that statement takes ten milliseconds, and that was half of the processor time of a test's Postgres.
    """
    known: dict[frozenset[int], Any] = {}
    look_up = asyncpg.Connection._introspect_types
    no_statement = SimpleNamespace(name="none was prepared")

    async def introspect(self: asyncpg.Connection, oids: Iterable[int], timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
        key = frozenset(oids)
        if key not in known:
            types, statement = await look_up(self, key, timeout)
            if max(key) >= FIRST_OF_CATALOGS:
                return types, statement
            known[key] = types
        return known[key], no_statement

    patch.setattr(asyncpg.Connection, "_introspect_types", introspect)


@dataclass(frozen=True)
class _Migrated:
    """A database right after its migrations: the definitions, and the rows of each table that has some, as JSON."""

    definitions: str
    rows: dict[str, str]
    now: str
    """The time of the migrations, as it is in the rows."""


class ReusedDatabases:
    """Databases that tests use one after the other.

    To create a database and drop it takes 300 ms, to migrate an empty one and to empty it again 50 ms. Therefore, a
    database keeps the tables of its migrations for the next test that needs them, and only the rows are deleted.

    A connection to each is kept, since a new one plans its statements again. It belongs to an event loop in a thread of
    its own, because each module of tests has another event loop.
    """

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._free: dict[tuple[Migrations, ...], list[str]] = defaultdict(list)
        self._migrated: dict[str, _Migrated] = {}
        self._system_objects: int | None = None
        self._connections: dict[str, Connection] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._close_connections(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @asynccontextmanager
    async def one(self, *migrations: Migrations) -> AsyncIterator[str]:
        """The URL of a database with the tables of these migrations; without migrations, of an empty database."""
        url = await self._in_thread(self._take(migrations))
        yield url
        await self._in_thread(self._give_back(url, migrations))

    async def _in_thread(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _close_connections(self) -> None:
        for each in self._connections.values():
            await each.close()

    async def _connection(self, url: str) -> Connection:
        kept = self._connections.get(url)
        try:
            if kept is not None and await kept.fetchval("SELECT true"):
                return kept
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # the test has ended all connections
            del self._connections[url]
        made = self._connections[url] = await asyncpg.connect(url)
        return made

    async def _take(self, migrations: tuple[Migrations, ...]) -> str:
        if self._free[migrations]:
            return self._free[migrations].pop()
        if self._free[()]:
            url = self._free[()].pop()
        else:
            url = with_database(self._server_url, await create_database(self._server_url))
        if not migrations and self._system_objects is not None:
            return url
        connection = await self._connection(url)
        if self._system_objects is None:
            self._system_objects = await connection.fetchval(_SYSTEM_OBJECTS)
        if migrations:
            self._migrated[url] = await _migrate(connection, migrations)
        return url

    async def _give_back(self, url: str, migrations: tuple[Migrations, ...]) -> None:
        """Remove what the test has left. If that is too much, drop the database."""
        migrated = self._migrated.pop(url, None)
        try:
            connection = await self._connection(url)
        except asyncpg.InvalidCatalogNameError:  # the test has dropped it
            return
        try:
            await connection.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
            await connection.execute(_DISCONNECT)
            await connection.execute(_RESET)
            if migrated and migrated.definitions == await connection.fetchval(_DEFINITIONS):
                await _restore_rows(connection, migrated)
                self._migrated[url] = migrated
                self._free[migrations].append(url)
                return
            await connection.execute(_DROP_SCHEMAS)
            is_empty = self._system_objects == await connection.fetchval(_SYSTEM_OBJECTS)
        except asyncpg.PostgresError:
            is_empty = False
        if is_empty:
            self._free[()].append(url)
        else:
            await self._connections.pop(url).close()
            await drop_database(self._server_url, urlsplit(url).path.removeprefix("/"))


async def _migrate(connection: Connection, migrations: tuple[Migrations, ...]) -> _Migrated:
    async with connection.transaction():
        for each in migrations:
            if each.schema is not None:
                await connection.execute(f"SET LOCAL search_path = {each.schema}")
            await each.apply(connection)
            await connection.execute("SET LOCAL search_path = DEFAULT")
        rows = {}
        for [table] in await connection.fetch(_TABLES):
            found = await connection.fetchval(f"SELECT json_agg(each)::text FROM {table} AS each")
            if found is not None:
                rows[table] = found
        now = await connection.fetchval("SELECT to_json(now())::text")
    return _Migrated(await connection.fetchval(_DEFINITIONS), rows, now)


async def _restore_rows(connection: Connection, migrated: _Migrated) -> None:
    """Make the rows those that are there after a migration at this moment."""
    async with connection.transaction():
        await connection.execute(_DELETE_ROWS)
        now = await connection.fetchval("SELECT to_json(now())::text")
        for table, rows in migrated.rows.items():
            await connection.execute(
                f"INSERT INTO {table} SELECT * FROM json_populate_recordset(NULL::{table}, $1::text::json)",
                rows.replace(migrated.now, now),
            )


async def create_database(url: str) -> str:
    name = f"test_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    return name


async def drop_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.close()


def with_database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Create a database on the server at ``url`` and drop it at the end. For fixtures that are not coroutines."""
    name = asyncio.run(create_database(url))
    try:
        yield with_database(url, name)
    finally:
        asyncio.run(drop_database(url, name))
