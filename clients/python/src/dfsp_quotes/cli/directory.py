"""`quotes directory`: look up and change the central directory (wire.md §5)."""

import json
import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.configuration import Access
from dfsp_quotes.cli.failures import BadInputError, NoAnswerError
from dfsp_quotes.cli.http import base_url, call
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, Timeout, User
from dfsp_quotes.cli.output import facts, show
from dfsp_quotes.cli.receivers import receiver

DEFAULT_TIMEOUT_SECONDS: Final = 10.0

DirectoryUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="QUOTES_DIRECTORY_URL",
        metavar="URL",
        help="Base URL of the directory; `directory_url` of the configuration.",
    ),
]
Person = Annotated[
    str,
    typer.Argument(metavar="TYPE:IDENTIFIER", help="The person, such as eur:30754016.", show_default=False),
]

_group = typer.Typer(no_args_is_help=True, help="Look up and change the central directory.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="directory")


@_group.command("list", epilog="Example: quotes directory list eur:30754016")
def list_entries(
    person: Annotated[
        str | None,
        typer.Argument(
            metavar="TYPE:IDENTIFIER",
            show_default=False,
            help="A person, such as eur:30754016. Without it: the types of identifiers.",
        ),
    ] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: DirectoryUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the DFSPs where a person has an account, or the types of identifiers."""
    if person is not None:
        receiver(person)
    used = _access(config, url, user, password_file)
    if person is None:
        types = _objects(call("GET", "/identifier-types", access=used, seconds=timeout))
        rows = [(str(each.get("identifierType")), str(each.get("description"))) for each in types]
        show({"identifierTypes": types}, facts(rows), as_json=as_json)
        return
    found = _objects(call("GET", "/resources", access=used, query={"identifier": person}, seconds=timeout))
    lines = [(str(each.get("name")), _dfsp(each)) for each in found]
    show({"dfsps": found}, facts(lines), as_json=as_json)


@_group.command(
    "add", epilog="Example: quotes directory add eur:30754016 https://spsp.dfsp.example --user admin"
)
def add(
    person: Person,
    address: Annotated[
        str,
        typer.Argument(metavar="SPSP_URL", show_default=False, help="Base URL of the DFSP's spsp-server."),
    ],
    is_primary: Annotated[
        bool, typer.Option("--primary/--secondary", help="Whether it is the person's default DFSP.")
    ] = True,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: DirectoryUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Add a person's account at a DFSP. The caller must be the directory's administrator."""
    identifier_type, identifier = receiver(person)
    content = {
        "identifierType": identifier_type,
        "identifier": identifier,
        "spspReceiver": base_url(address),
        "primary": is_primary,
    }
    used = _access(config, url, user, password_file)
    call("POST", "/resources", access=used, body=json.dumps(content).encode(), seconds=timeout)
    view = Text.assemble(("added", "green"), f" {person} at {address}")
    show(content, view, as_json=as_json)


@_group.command("register", epilog="Example: quotes directory register dfsp3 --secret-file dfsp3.secret")
def register(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the DFSP.", show_default=False)],
    secret_file: Annotated[
        Path,
        typer.Option(
            "--secret-file", metavar="FILE", help="New file for the DFSP's secret. It is printed nowhere."
        ),
    ],
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: DirectoryUrl = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Register a DFSP: the directory makes a key and a secret. The caller must be its administrator."""
    used = _access(config, url, user, password_file)
    body = json.dumps({"name": name}).encode()
    # before the request: the directory shows the secret only once
    descriptor = _create(secret_file.expanduser())
    is_written = False
    try:
        answer = call("POST", "/commands/register", access=used, body=body, seconds=timeout)
        members = answer if isinstance(answer, dict) else {}
        key, secret = members.get("key"), members.get("secret")
        if not isinstance(key, str) or not isinstance(secret, str):
            raise NoAnswerError("The directory's response has no key and secret.")
        os.write(descriptor, f"{secret}\n".encode())
        is_written = True
    finally:
        os.close(descriptor)
        if not is_written:
            secret_file.expanduser().unlink()
    rows: list[tuple[str, str | Text]] = [("name", name), ("key", key), ("secret", f"in {secret_file}")]
    show({"name": name, "key": key, "secretFile": str(secret_file)}, facts(rows), as_json=as_json)


def _create(path: Path) -> int:
    """Create a file that only its owner can read. Raises BadInputError if it exists."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadInputError(f"{path} exists already; choose a new file.") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}.") from None


def _access(config: Path | None, url: str | None, user: str | None, password_file: Path | None) -> Access:
    settings = configuration.load(config)
    return configuration.access(
        settings, url=url, user=user, password_file=password_file, url_key="directory_url"
    )


def _objects(content: object) -> list[dict[str, object]]:
    if not isinstance(content, list):
        raise NoAnswerError("The directory's response is not a list; check --url.")
    return [each for each in content if isinstance(each, dict)]


def _dfsp(entry: dict[str, object]) -> str:
    return f"{entry.get('providerUrl')}{' (primary)' if entry.get('primary') is True else ''}"
