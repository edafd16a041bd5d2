"""central-directory: looks up the DFSP at which a person has an account (wire.md §5)."""

from pathlib import Path
from typing import Final

import environ
from aiohttp import web

from central_directory.handlers import DirectoryHandlers
from central_directory.openapi import openapi
from central_directory.registry import Registry
from chassis.app import SERVICE
from chassis.app import create_app as create_service
from chassis.exchange import CoroutineRoute, Routes
from chassis.settings import optional_path, whole
from chassis.watched_files import WatchedFile
from quoting.service import add_routes_and_batches
from quoting.settings import ChainSettings

NAME: Final = "central-directory"


@environ.config(prefix="QUOTES", frozen=True)
class CentralDirectorySettings(ChainSettings):
    """Settings of the directory."""

    port: int = environ.var(8016, converter=whole(0, 65_535), help="port to listen on")
    directory_file: Path = environ.var(converter=Path, help="JSON file of identifiers and DFSPs")
    directory_seed: Path | None = environ.var(
        None, converter=optional_path, help="JSON file to start from while there is no directory file"
    )
    directory_administrator: str = environ.var("admin", help="user who may register DFSPs and resources")


def create_app(settings: CentralDirectorySettings) -> web.Application:
    """Create the directory's application. Raises StartError if the directory file or the seed file is not valid."""
    file = WatchedFile("the directory file", settings.directory_file, settings.directory_seed)
    registry = Registry.load(settings.directory_file, settings.directory_seed)
    app = create_service(NAME, settings, also=registry.hash_of, openapi=openapi(NAME))
    service = app[SERVICE]
    registry.on_fault = service.logs.error
    registry.on_written = file.note_written
    service.checks.append(registry.missing)
    service.files.add(file, registry.reload)
    service.tables.append(registry.table)
    handlers = DirectoryHandlers(registry, settings.directory_administrator)
    routes = Routes()
    for method, path, work in (
        ("GET", "/", handlers.metadata),
        ("GET", "/identifier-types", handlers.identifier_types),
        ("GET", "/resources", handlers.resources),
        ("POST", "/resources", handlers.add_resource),
        ("POST", "/commands/register", handlers.register),
    ):
        routes.add(method, CoroutineRoute(path, work, has_body=method == "POST"))
    add_routes_and_batches(app, routes, settings.batch_lines)
    return app
