"""`quotes users`: the users file of services, who may call them."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Group
from rich.text import Text

from dfsp_quotes.cli.configuration import read_password
from dfsp_quotes.cli.failures import BadInputError, project_packages
from dfsp_quotes.cli.options import AsJson
from dfsp_quotes.cli.output import printable, show

NEW_PASSWORD_VARIABLE: Final = "QUOTES_NEW_PASSWORD"  # noqa: S105 - the name of the variable

UsersFile = Annotated[Path, typer.Option("--file", metavar="FILE", help="The users file.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the user.", show_default=False)]
NewPasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File with the user's password. Without it: QUOTES_NEW_PASSWORD, or a prompt.",
    ),
]
DEFAULT_FILE: Final = Path(".data/users")

_group = typer.Typer(
    no_args_is_help=True,
    help="List and change the users of services. They read the file again when it changes.",
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="users")


@_group.command("list", epilog="Example: quotes users list --file .data/users")
def list_users(file: UsersFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List the names of a users file."""
    with project_packages():
        # the client alone has no such packages
        from dfsp_quotes.cli.project import users_file
    names = users_file.names(file)
    show({"users": names}, Group(*(Text(printable(name)) for name in names)), as_json=as_json)


@_group.command("add", epilog="Example: quotes users add alice --file .data/users")
def add(
    name: Name, file: UsersFile = DEFAULT_FILE, password_file: NewPasswordFile = None, as_json: AsJson = False
) -> None:
    """Add a user."""
    with project_packages():
        from dfsp_quotes.cli.project import users_file
    users_file.add(file, name, _new_password(name, password_file))
    _show_done("added", name, as_json=as_json)


@_group.command("remove", epilog="Example: quotes users remove alice --file .data/users")
def remove(name: Name, file: UsersFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Remove a user."""
    with project_packages():
        from dfsp_quotes.cli.project import users_file
    users_file.remove(file, name)
    _show_done("removed", name, as_json=as_json)


@_group.command("rotate", epilog="Example: quotes users rotate alice --file .data/users")
def rotate(
    name: Name, file: UsersFile = DEFAULT_FILE, password_file: NewPasswordFile = None, as_json: AsJson = False
) -> None:
    """Change a user's password."""
    with project_packages():
        from dfsp_quotes.cli.project import users_file
    users_file.rotate(file, name, _new_password(name, password_file))
    _show_done("rotated", name, as_json=as_json)


def _new_password(name: str, file: Path | None) -> str:
    if file is not None:
        return read_password(file)
    if (password := os.environ.get(NEW_PASSWORD_VARIABLE)) is not None:
        return password
    if not sys.stdin.isatty():
        raise BadInputError(f"The password is missing: set --password-file or {NEW_PASSWORD_VARIABLE}.")
    password = getpass.getpass(f"New password of {name}: ")
    if getpass.getpass("The same again: ") != password:
        raise BadInputError("The two passwords differ, so nothing was changed.")
    return password


def _show_done(word: str, name: str, *, as_json: bool) -> None:
    view = Text.assemble((word, "green"), f" {printable(name)}")
    show({"user": name, "change": word}, view, as_json=as_json)
