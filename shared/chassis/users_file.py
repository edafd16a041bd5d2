"""The users of a running service."""

import asyncio
from pathlib import Path
from typing import Final

from argon2.exceptions import InvalidHashError, VerificationError

from chassis.users import HASHER, User, UsersFileError, key_of, read

SAMPLE_USERS: Final = {
    "test": "123",
    "other": "456",
    "admin": "admin",
    "user@example.com": "sample",
    "engine": "sample",
    "receiver": "sample",
    "operator": "sample",
    "viewer": "sample",
}


class SampleCredentialsError(Exception):
    """The users file has the well-known sample credentials, although other machines can reach the service."""


class UsersFile:
    """The users of the last valid version of the users file."""

    def __init__(self, path: Path, *, samples_allowed: bool) -> None:
        """Read the file. Raises UsersFileError or SampleCredentialsError."""
        self._path = path
        self._samples_allowed = samples_allowed
        self.users: dict[str, User] = {}
        """Users by the key of their name. Each change of the file creates a new dictionary."""
        self.users = self._checked(read(path))

    def find(self, name: str) -> User | None:
        return self.users.get(key_of(name))

    async def reload(self) -> None:
        """Read the file again. Raises UsersFileError or SampleCredentialsError, and then the users stay the same."""
        # a search for sample passwords takes a while
        self.users = await asyncio.to_thread(self._read)

    def _read(self) -> dict[str, User]:
        return self._checked(read(self._path, must_end=True))

    def _checked(self, users: dict[str, User]) -> dict[str, User]:
        if self.users and not users:
            raise UsersFileError(f"{self._path} has no users; restart the service if this is intended")
        if self._samples_allowed:
            return users
        found = [
            name
            for name, password in SAMPLE_USERS.items()
            if name in users and is_right(users[name].hashed, password)
        ]
        if found:
            raise SampleCredentialsError(
                f"the users file has the well-known sample passwords of {', '.join(found)}; remove these users,"
                " listen on a loopback address, or set QUOTES_ALLOW_SAMPLE_CREDENTIALS=true"
            )
        return users


def is_right(hashed: str, password: str) -> bool:
    """Whether the password has this hash. Takes about 30 ms of processor time."""
    try:
        return HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False
