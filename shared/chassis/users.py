"""The users file: a line a user, ``name:hash``, hashed with argon2id.

``python -m chassis.users add NAME --file FILE`` adds a user or changes the password; the password is asked
for, or read from standard input where that is no terminal.
"""

import argparse
import getpass
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

from argon2 import PasswordHasher

# OWASP's second choice: 19 MiB, 2 passes, 1 lane
HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
MAX_NAME_CHARACTERS: Final = 64
MAX_PASSWORD_CHARACTERS: Final = 1_024


class UsersFileError(Exception):
    """The users file cannot be used; the message says why and where."""


def read(path: Path) -> dict[str, str]:
    """Name to hash. Raises UsersFileError that names the line at fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsersFileError(f"{path} cannot be read: {error}") from error
    users: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, hashed = line.partition(":")
        if not name or not hashed.startswith("$argon2id$") or not hashed.isascii():
            raise UsersFileError(f"{path}, line {number}: not a name, a colon and an argon2id hash")
        if name in users:
            raise UsersFileError(f"{path}, line {number}: a second line for this name")
        users[name] = hashed.strip()
    return users


def add(path: Path, name: str, password: str) -> None:
    """Adds a user or replaces the password; the file is replaced as a whole, readable by its owner alone."""
    if not name or len(name) > MAX_NAME_CHARACTERS or not name.isprintable() or {":", " "} & set(name):
        raise UsersFileError("a name is 1 to 64 printable characters without colon and space")
    if name.startswith("#"):
        raise UsersFileError("a name does not begin with #")
    if not password or len(password) > MAX_PASSWORD_CHARACTERS:
        raise UsersFileError("a password is 1 to 1,024 characters")
    users = read(path) if path.exists() else {}
    users[name] = HASHER.hash(password)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.writelines(f"{user}:{hashed}\n" for user, hashed in users.items())
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).replace(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chassis.users", description="Keeps a users file.")
    commands = parser.add_subparsers(required=True, metavar="add")
    adding = commands.add_parser("add", help="add a user or change the password")
    adding.add_argument("name")
    adding.add_argument("--file", type=Path, required=True)
    options = parser.parse_args(arguments)
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password for {options.name}: ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    try:
        add(options.file, options.name, password)
    except UsersFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
