"""A real Postgres for tests. It runs in a container if the engine has the image, and is embedded otherwise."""

import asyncio
import gc
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker
from docker.errors import DockerException

from network.postgres import EmbeddedPostgres

IMAGE: Final = "postgres:17"

# A test leaves connections, settings, tables and functions.
_DISCONNECT: Final = """
SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_EMPTY: Final = """
DO $$
DECLARE name text;
BEGIN
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    EXECUTE format('ALTER ROLE CURRENT_USER IN DATABASE %I RESET ALL', current_database());
    FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema$)' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    CREATE SCHEMA public;
    PERFORM pg_stat_reset();
END
$$
"""
_SYSTEM_OBJECTS: Final = "SELECT (SELECT count(*) FROM pg_proc) + (SELECT count(*) FROM pg_extension)"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a Postgres server and return its URL. The server stops at the end of the `with` block."""
    if _engine_has_image():
        with _in_container() as url:
            yield url
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with EmbeddedPostgres(folder / "postgres") as embedded:
            yield embedded.dsn


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

    with PostgresContainer(IMAGE, driver=None) as container:
        yield container.get_connection_url()


class ReusedDatabases:
    """Databases that tests use one after the other. To empty one takes 20 ms; to create and drop one takes 300 ms."""

    def __init__(self, server_url: str) -> None:
        self._server_url = server_url
        self._free: list[str] = []
        self._system_objects: int | None = None

    async def take(self) -> str:
        """Return the URL of an empty database."""
        if self._free:
            return self._free.pop()
        url = with_database(self._server_url, await create_database(self._server_url))
        if self._system_objects is None:
            connection = await asyncpg.connect(url)
            self._system_objects = await connection.fetchval(_SYSTEM_OBJECTS)
            await connection.close()
        return url

    async def give_back(self, url: str) -> None:
        """Empty the database for the next test. If the test has changed the database's catalog, drop it instead."""
        if await self._empty(url):
            self._free.append(url)
        else:
            await drop_database(self._server_url, urlsplit(url).path.removeprefix("/"))

    async def _empty(self, url: str) -> bool:
        try:
            connection = await asyncpg.connect(url)
        except asyncpg.InvalidCatalogNameError:  # the test has dropped it
            return False
        try:
            await connection.execute("SET default_transaction_read_only = off; SET statement_timeout = 0")
            await connection.execute(_DISCONNECT)
            await connection.execute(_EMPTY)
            return self._system_objects == await connection.fetchval(_SYSTEM_OBJECTS)
        except asyncpg.PostgresError:
            return False
        finally:
            await connection.close()


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
