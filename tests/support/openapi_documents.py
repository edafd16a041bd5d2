"""The OpenAPI document of each service, from its application; no service is started."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from central_directory import app as central_directory
from chassis.app import OPENAPI
from console import app as console
from console.settings import ConsoleSettings
from dfsp_api import payee
from integrations import app as integrations
from integrations.settings import IntegrationsSettings
from signal_receiver import app as signal_receiver
from support import audit
from support.forwarders import FORWARDERS
from support.provider import KEY
from support.settings import load

METHODS: Final = frozenset({"get", "put", "post", "delete"})
NO_DATABASE: Final = "postgresql://postgres@127.0.0.1:1/none"
SERVICES: Final = (*FORWARDERS, "payee", "central-directory", "integrations", "signal-receiver", "console")


def document(service: str, users_file: Path, folder: Path) -> dict[str, Any]:
    """The document of one of `SERVICES`. `folder` is an empty folder for the service's files."""
    return application(service, users_file, folder)[OPENAPI]


def application(service: str, users_file: Path, folder: Path, **settings: str) -> web.Application:
    """The application of one of `SERVICES`. `folder` is an empty folder for the service's files.

    `settings` are more variables, in lower case without QUOTES_.
    """
    environment = {
        "QUOTES_USERS_FILE": str(users_file),
        "QUOTES_NEXT_HOP": "http://127.0.0.1:1",
        "QUOTES_DIRECTORY_FILE": str(folder / "directory.json"),
        "QUOTES_DATABASE_URL": NO_DATABASE,
        "QUOTES_AUDIT_KEY": audit.KEY.secret_text,
        "QUOTES_ENCRYPTION_KEYS": KEY,
        "QUOTES_CONSOLE_SERVICES": "dfsp-api=http://127.0.0.1:1",
        "QUOTES_SERVICE_PASSWORD": "secret",
        **{f"QUOTES_{name.upper()}": value for name, value in settings.items()},
    }
    if service in FORWARDERS:
        forwarder = FORWARDERS[service]
        return forwarder.create_app(load(forwarder.settings, environment))
    if service == "payee":
        return payee.create_app(load(payee.PayeeSettings, environment))
    if service == "central-directory":
        return central_directory.create_app(load(central_directory.CentralDirectorySettings, environment))
    if service == "integrations":
        return integrations.create_app(load(IntegrationsSettings, environment))
    if service == "console":
        return console.create_app(load(ConsoleSettings, environment))
    return signal_receiver.create_app(load(signal_receiver.ReceiverSettings, environment))


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operations with their names, such as ``GET /metrics``."""
    for path, item in document["paths"].items():
        for method in METHODS & item.keys():
            yield f"{method.upper()} {path}", item[method]


def patterns(content: Any) -> Iterator[str]:
    """All patterns in a document."""
    if isinstance(content, dict):
        if isinstance(content.get("pattern"), str):
            yield content["pattern"]
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from patterns(each)
