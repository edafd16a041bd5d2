"""Changes of a users file, with the errors of the command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chassis import users
from dfsp_quotes.cli.failures import BadInputError


def names(path: Path) -> list[str]:
    """Return the names, in the order of the file. Raises BadInputError."""
    with _as_bad_input():
        return [user.name for user in users.read(path).values()]


def add(path: Path, name: str, password: str) -> None:
    """Raises BadInputError, also if the name is taken."""
    if path.exists() and _has(path, name):
        raise BadInputError(
            f"{path} has a user {name!a:.80} already; `quotes users rotate` changes the password."
        )
    with _as_bad_input():
        users.add(path, name, password)


def rotate(path: Path, name: str, password: str) -> None:
    """Change the password of a user. Raises BadInputError, also if there is none with this name."""
    if not _has(path, name):
        raise BadInputError(f"{path} has no user {name!a:.80}; `quotes users add` adds one.")
    with _as_bad_input():
        users.add(path, name, password)


def remove(path: Path, name: str) -> None:
    """Raises BadInputError, also if there is no user with this name."""
    with _as_bad_input():
        users.remove(path, name)


def _has(path: Path, name: str) -> bool:
    with _as_bad_input():
        return users.key_of(name) in users.read(path)


@contextmanager
def _as_bad_input() -> Iterator[None]:
    try:
        yield
    except users.UsersFileError as error:
        raise BadInputError(f"{error}.") from None
