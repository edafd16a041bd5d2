"""The users of a running service. The users file is read again when it changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from argon2.exceptions import InvalidHashError, VerificationError

from chassis.text_file import state_of
from chassis.users import HASHER, User, UsersFileError, key_of, read

CHECK_FILE_SECONDS: Final = 1.0

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
    """The users of the last valid version of the users file. An invalid new version is logged and not used."""

    def __init__(self, path: Path, on_fault: Callable[[str], object], *, samples_allowed: bool) -> None:
        """Read the file. Raises UsersFileError or SampleCredentialsError."""
        self._path = path
        self._on_fault = on_fault
        self._samples_allowed = samples_allowed
        self._seen = state_of(path)
        self.users: dict[str, User] = {}
        """Users by the key of their name. Each change of the file creates a new dictionary."""
        self.users = self._checked(read(path))
        self._next_check = 0.0
        self.warning: str | None = None
        """The reason why the file on disk is not in force; None if it is."""

    def find(self, name: str) -> User | None:
        return self.users.get(key_of(name))

    def reload_if_changed(self, now: float) -> bool:
        """Read the file again if it has changed; this is checked once a second. Returns True after it was read."""
        if now < self._next_check:
            return False
        self._next_check = now + CHECK_FILE_SECONDS
        state = state_of(self._path)
        if state == self._seen:
            return False
        self._seen = state
        try:
            users = self._read()
        except (UsersFileError, SampleCredentialsError) as error:
            self._refuse(error)
            return False
        self._use(users)
        return True

    async def reload(self) -> bool:
        """Read the file again, even if it has not changed. Return whether it could be used."""
        self._seen = state_of(self._path)
        try:
            # a search for sample passwords takes a while
            users = await asyncio.to_thread(self._read)
        except (UsersFileError, SampleCredentialsError) as error:
            self._refuse(error)
            return False
        self._use(users)
        return True

    def _read(self) -> dict[str, User]:
        return self._checked(read(self._path, must_end=True))

    def _use(self, users: dict[str, User]) -> None:
        self.users = users
        self.warning = None

    def _refuse(self, error: Exception) -> None:
        self.warning = "the users file has changed but cannot be used; the previous users stay in force"
        self._on_fault(f"{self.warning}: {error}")

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
