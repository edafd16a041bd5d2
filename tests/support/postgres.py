"""A real Postgres for tests: in a container where an engine has the image, else embedded."""

import asyncio
import gc
import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import docker
from docker.errors import DockerException

from network.postgres import EmbeddedPostgres

IMAGE = "postgres:17"


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """URL of a server that lives as long as this."""
    if _engine_has_image():
        with _in_container() as url:
            yield url
    else:
        folder.mkdir(parents=True, exist_ok=True)
        with EmbeddedPostgres(folder / "postgres") as embedded:
            yield embedded.dsn


def _engine_has_image() -> bool:
    has_image = _asked_engine()
    with warnings.catch_warnings():
        # a client that met no engine leaves its socket to whichever test is running when it is found
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    return has_image


def _asked_engine() -> bool:
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
    # the reaper is an image of its own, which an engine without a registry does not have
    os.environ.setdefault("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.community.postgres import PostgresContainer

    with PostgresContainer(IMAGE, driver=None) as container:
        yield container.get_connection_url()


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
    """A database of one's own on the server at ``url``; for fixtures that are no coroutines."""
    name = asyncio.run(create_database(url))
    try:
        yield with_database(url, name)
    finally:
        asyncio.run(drop_database(url, name))
