"""The users file: one line ``name:hash`` for each user. The hash of the password is made with argon2id.

``python -m chassis.users add NAME --file FILE`` adds a user or changes the password. It prompts for the password on a
terminal; otherwise it reads the password from standard input.
"""

import argparse
import getpass
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from argon2 import PasswordHasher

from chassis.text_file import TextFileError, read_text

# OWASP's second choice: 19 MiB, 2 passes, 1 lane
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
MAX_NAME_CHARACTERS: Final = 64
MAX_PASSWORD_CHARACTERS: Final = 1_024
MAX_MEMORY_KIB: Final = 1 << 20
MAX_PASSES: Final = 100
MAX_LANES: Final = 64

_FORBIDDEN_IN_NAMES: Final = frozenset(": \u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Colon, space, and the invisible characters that Python's `isprintable` accepts."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HASH: Final = re.compile(
    r"\$argon2id\$v=(?:16|19)\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,2}),p=([1-9][0-9]?)"
    r"\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{22,}"
)


class UsersFileError(Exception):
    """The users file cannot be used. The message names the file, the line and the fault."""


class User(NamedTuple):
    """One user."""

    name: str
    hashed: str


def normal(text: str) -> str:
    """Return a name or password in Unicode form NFC: keyboards may send one letter in two forms (RFC 7617)."""
    return unicodedata.normalize("NFC", text)


def key_of(name: str) -> str:
    """Return the key by which names are compared. E-mail addresses in upper and lower case have the same key."""
    return normal(normal(name).casefold()) if "@" in name else normal(name)


def fault_of_name(name: str) -> str | None:
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or _FORBIDDEN_IN_NAMES & set(name):
        return f"a name is 1 to {MAX_NAME_CHARACTERS} visible characters without colon and space"
    return "a name does not begin with #" if name.startswith("#") else None


def fault_of_password(password: str) -> str | None:
    if not 1 <= len(password) <= MAX_PASSWORD_CHARACTERS or _CONTROL.search(password):
        return f"a password is 1 to {MAX_PASSWORD_CHARACTERS:,} characters and has no control characters"
    return None


def read(path: Path, *, must_end: bool = False) -> dict[str, User]:
    """Return the users by the key of their name. Raises UsersFileError.

    With ``must_end``, the last line must have its line end. Without a line end, another process may still be writing
    it.
    """
    try:
        text = read_text(path)
    except TextFileError as error:
        raise UsersFileError(str(error)) from error
    users: dict[str, User] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.partition(":")
        user = User(normal(name), hashed.strip())
        key = key_of(name)
        fault = fault_of_name(user.name) or _fault_of_hash(user.hashed)
        if fault is None and key in users:
            fault = f"the user {users[key].name} already has a line in this file"
        if fault is None and must_end and number == len(lines):
            fault = "the line has no line end, so the file may be incomplete"
        if fault is not None:
            raise UsersFileError(f"{path}, line {number}: {fault}")
        users[key] = user
    return users


def _fault_of_hash(hashed: str) -> str | None:
    found = _HASH.fullmatch(hashed)
    if found is None:
        return "after the name and a colon there must be an argon2id hash"
    memory, passes, lanes = map(int, found.groups())
    if not 8 * lanes <= memory <= MAX_MEMORY_KIB or passes > MAX_PASSES or lanes > MAX_LANES:
        return "the parameters of the argon2id hash are out of range"
    return None


def add(path: Path, name: str, password: str) -> None:
    """Add a user or change the password. The new file replaces the old one as a whole; only its owner may read it."""
    name, password = normal(name), normal(password)
    fault = fault_of_name(name) or fault_of_password(password)
    if fault is not None:
        raise UsersFileError(fault)
    users = read(path) if path.exists() else {}
    users[key_of(name)] = User(name, HASHER.hash(password))
    _write(path, users)


def remove(path: Path, name: str) -> None:
    """Remove a user. Raises UsersFileError if there is none with this name."""
    users = read(path)
    if users.pop(key_of(name), None) is None:
        raise UsersFileError(f"{path} has no user {name!a:.80}")
    _write(path, users)


def _write(path: Path, users: Mapping[str, User]) -> None:
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{user.name}:{user.hashed}\n" for user in users.values())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except FileNotFoundError as error:
        raise UsersFileError(f"{path} cannot be written: there is no folder {path.parent}") from error
    except OSError as error:
        raise UsersFileError(f"{path} cannot be written: {error.strerror}") from error


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chassis.users", description="Edit a users file.")
    commands = parser.add_subparsers(required=True, metavar="add")
    adding = commands.add_parser("add", help="add a user or change the password")
    adding.add_argument("name")
    adding.add_argument("--file", type=Path, required=True)
    options = parser.parse_args(arguments)
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {options.name}: ")
    else:
        password = sys.stdin.readline().removeprefix("\ufeff").rstrip("\r\n")
    try:
        add(options.file, options.name, password)
    except UsersFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
