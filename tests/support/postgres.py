"""A real Postgres for tests: in a container where an engine has the image, else embedded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
