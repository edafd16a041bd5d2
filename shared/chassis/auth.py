"""Authentication: HTTP Basic against the users file (wire.md §3, §4).

The service remembers each Authorization header that it has verified: the header's HMAC and the password's hash. It
forgets them when the header has not been used for a day, when the hash changes, or when the user is removed. To check
a remembered header costs only a digest and a look-up, and wrong passwords from others cannot lock its caller out.
"""

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp_basicauth import BasicAuthMiddleware
from cachetools import TTLCache
from prometheus_client import CollectorRegistry, Counter, Gauge

from chassis.addresses import network_of
from chassis.errors import TooManyRequestsError, UnauthorizedError
from chassis.password_queue import PasswordQueue
from chassis.users import MAX_NAME_CHARACTERS, User, fault_of_name, fault_of_password, key_of, normal
from chassis.users_file import UsersFile

CALLER: Final = web.RequestKey("caller", str)

REMEMBERED_SECONDS: Final = 24 * 3_600.0
MAX_REMEMBERED: Final = 10_000
MAX_WRONG_A_MINUTE: Final = 100
WRONG_ENTRIES: Final = 10_000

_NONE: Final[tuple[str | None, str | None]] = None, None

HashOf = Callable[[str], str | None]


@dataclass(slots=True)
class _Remembered:
    user: User
    until: float
    users: dict[str, User] | None = None
    """The version of the users file in which the user was last found; None for a user who is not in the file."""


class Credentials:
    """Checks Authorization headers."""

    def __init__(
        self,
        users: UsersFile,
        also: HashOf = lambda _name: None,
        clock: Callable[[], float] = time.monotonic,
        registry: CollectorRegistry | None = None,
    ) -> None:
        """``also`` returns the password hash of a user who is not in the users file, or None."""
        self._users = users
        self._also = also
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, _Remembered] = {}
        self._wrong: TTLCache[tuple[str, str], int] = TTLCache(WRONG_ENTRIES, 60, timer=clock)
        self._being_checked: dict[bytes, asyncio.Future[bool]] = {}
        self._latest = _NONE
        self._queue = PasswordQueue()
        self._counter = Counter(
            "password_checks",
            "Passwords that were not remembered: right, wrong, refused after 100 wrong ones for the same name and"
            " address within a minute (locked), refused because too many were waiting (queue_full)",
            ["outcome"],
            registry=registry,
        )
        for outcome in ("right", "wrong", "locked", "queue_full"):
            self._counter.labels(outcome)
        queued = Gauge("passwords_queued", "Passwords that wait to be hashed", registry=registry)
        queued.set_function(lambda: len(self._queue))

    def known(self, header: str) -> str | None:
        """Return the caller's name if this Authorization header is remembered, else None."""
        if header == self._latest[0]:
            return self._latest[1]
        caller = self._known(self._digest(header))
        if caller is not None:
            # most lines of a batch have the same header; it is kept unhashed for this iteration of the event loop only
            self._latest = header, caller
            asyncio.get_running_loop().call_soon(self._forget_latest)
        return caller

    def _forget_latest(self) -> None:
        self._latest = _NONE

    def _digest(self, header: str) -> bytes:
        return hashlib.blake2b(header.encode("utf-8", "surrogateescape"), key=self._key).digest()

    def _known(self, digest: bytes) -> str | None:
        now = self._clock()
        found = self._remembered.get(digest)
        if found is None or found.until < now or not self._is_in_force(found):
            return None
        found.until = now + REMEMBERED_SECONDS
        return found.user.name

    def _is_in_force(self, found: _Remembered) -> bool:
        users = self._users.users
        if found.users is users:
            return True
        if self._find(found.user.name) != found.user:
            return False
        found.users = users if key_of(found.user.name) in users else None
        return True

    async def reload(self) -> Mapping[str, object]:
        """Read the users file again (`chassis.watched_files.Reload`)."""
        await self._users.reload()
        self._wrong.clear()  # correct passwords may have failed with the old file
        return {"users": len(self._users.users)}

    def _find(self, name: str) -> User | None:
        user = self._users.find(name)
        if user is not None:
            return user
        hashed = self._also(name)
        return User(name, hashed) if hashed is not None else None

    async def check(self, headers: Sequence[str], address: str) -> str:
        """Return the caller's name. ``headers`` are all Authorization headers of a request: it must have exactly one.

        Raises UnauthorizedError. Raises TooManyRequestsError after 100 wrong passwords within a minute for the same
        name and address, and if too many passwords are waiting to be checked.
        """
        if len(headers) != 1:
            raise UnauthorizedError(
                cause="no Authorization header" if not headers else "more than one Authorization header"
            )
        digest = self._digest(headers[0])
        known = self._known(digest)
        if known is not None:
            return known
        name, password = parse_basic(headers[0])
        user = self._find(name)
        await self._check_password(digest, user, (key_of(name), network_of(address)), password)
        if user is None or self._find(name) != user:
            raise UnauthorizedError(cause=f"{name!r} was changed or removed during the check of the password")
        self._remember(digest, user)
        return user.name

    def _remember(self, digest: bytes, user: User) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = _Remembered(user, self._clock() + REMEMBERED_SECONDS)

    async def _check_password(
        self, digest: bytes, user: User | None, source: tuple[str, str], password: str
    ) -> None:
        if self._wrong.get(source, 0) >= MAX_WRONG_A_MINUTE:
            self._counter.labels("locked").inc()
            raise TooManyRequestsError(retry_after=60, cause="too many wrong passwords")
        result = self._being_checked.get(digest)
        try:
            if result is None:
                # a hundred equal headers may come at once when a service has just started
                result = self._queue.check(user and user.hashed, password, source[1])
                self._being_checked[digest] = result
                result.add_done_callback(lambda _: self._being_checked.pop(digest, None))
            is_right = await asyncio.shield(result)
        except TooManyRequestsError:
            self._counter.labels("queue_full").inc()
            raise
        self._counter.labels("right" if is_right else "wrong").inc()
        if not is_right:
            self._wrong[source] = self._wrong.get(source, 0) + 1
            raise UnauthorizedError(
                cause=f"wrong password for {user.name!r}" if user else "unknown user name"
            )

    def close(self) -> None:
        self._queue.close()


def parse_basic(header: str) -> tuple[str, str]:
    """Return the name and the password of an HTTP Basic header, both in Unicode form NFC. Raises UnauthorizedError.

    The header must be in UTF-8 (RFC 7617).
    """
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise UnauthorizedError(cause="the Authorization header is not HTTP Basic")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:  # also the error of base64
        raise UnauthorizedError(cause="the Basic credentials are not Base64 of UTF-8") from None
    name, password = normal(name), normal(password)
    fault = fault_of_name(name) or fault_of_password(password)
    if not colon or fault is not None:
        raise UnauthorizedError(cause=fault or "the credentials have no colon")
    return name, password


def attempted_name(header: str | None) -> str | None:
    """Return the name in an HTTP Basic header, cut for the log; None if the header has none.

    Text without a colon is no name: it may be a secret of another kind.
    """
    scheme, _, encoded = (header or "").partition(" ")
    try:
        name, colon, _ = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:  # also the error of base64
        return None
    return name[:MAX_NAME_CHARACTERS] if colon and scheme.lower() == "basic" else None


def without_credentials(handler: Any) -> Any:  # noqa: ANN401 - any handler of aiohttp
    """Mark an aiohttp handler as one that needs no credentials, and return it."""
    return BasicAuthMiddleware().ignore(handler)
