"""Who may call: HTTP Basic against the users file (wire.md §3, §4).

A password is checked with argon2id, one at a time in a thread of its own, so that hashing never holds up the
loop. What was found right is remembered for a minute under an HMAC of the header, so that a known caller
costs a digest and a look-up.
"""

import asyncio
import base64
import binascii
import hashlib
import ipaddress
import re
import secrets
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp_basicauth import BasicAuthMiddleware
from argon2.exceptions import InvalidHashError, VerificationError
from cachetools import TTLCache

from chassis.errors import TooManyRequestsError, UnauthorizedError
from chassis.users import HASHER, UsersFileError, read

CALLER: Final = web.RequestKey("caller", str)

REMEMBERED_SECONDS: Final = 60
REMEMBERED_ENTRIES: Final = 1_024
MAX_WAITING: Final = 32
MAX_WRONG_A_MINUTE: Final = 100
WRONG_ENTRIES: Final = 10_000
LOOK_AT_FILE_SECONDS: Final = 1.0

SAMPLE_USERS: Final = {
    "test": "123",
    "other": "456",
    "admin": "admin",
    "user@example.com": "sample",
    "engine": "sample",
    "receiver": "sample",
}

_NOBODY: Final = ("", 0.0)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

HashOf = Callable[[str], str | None]


class SampleCredentialsError(Exception):
    """A service on an address that others reach would take the sample credentials that everybody knows."""


class UsersFile:
    """Hashes by name, read again when the file changes; a broken new version leaves the old one in force."""

    def __init__(self, path: Path, on_fault: Callable[[str], object], *, samples_allowed: bool) -> None:
        self._path = path
        self._on_fault = on_fault
        self._samples_allowed = samples_allowed
        self._seen = self._state()
        self._users = self._read()
        self._look_at = 0.0

    def changed(self, now: float) -> bool:
        """Whether a new version has come into force; looks at the file once a second at most."""
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_AT_FILE_SECONDS
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        try:
            self._users = self._read()
        except (UsersFileError, SampleCredentialsError) as error:
            self._on_fault(f"the users file is not taken over: {error}")
            return False
        return True

    def hash_of(self, name: str) -> str | None:
        return self._users.get(name)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> dict[str, str]:
        users = read(self._path)
        if not self._samples_allowed:
            found = [name for name, password in SAMPLE_USERS.items() if _is_right(users.get(name), password)]
            if found:
                raise SampleCredentialsError(
                    f"the users file holds the sample credentials of {', '.join(found)}, which everybody knows;"
                    " remove them, listen on a loopback address, or set QUOTES_ALLOW_SAMPLE_CREDENTIALS=true"
                )
        return users


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Credentials:
    """Checks Authorization headers; says who the caller is or raises."""

    def __init__(
        self,
        users: UsersFile,
        also: HashOf = lambda _name: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``also`` knows hashes that are in no file."""
        self._users = users
        self._also = also
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, tuple[str, float]] = {}
        self._wrong: TTLCache[tuple[str, str], int] = TTLCache(WRONG_ENTRIES, 60, timer=clock)
        self._under_way: dict[bytes, asyncio.Task[bool]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2")

    def known(self, header: str) -> str | None:
        """The caller's name where this Authorization header was found right lately, else None."""
        return self._known(self._digest(header))

    def _digest(self, header: str) -> bytes:
        return hashlib.blake2b(header.encode("utf-8", "surrogateescape"), key=self._key).digest()

    def _known(self, digest: bytes) -> str | None:
        now = self._clock()
        if self._users.changed(now):
            self._remembered.clear()
        caller, until = self._remembered.get(digest, _NOBODY)
        return caller if until > now else None

    async def check(self, headers: Sequence[str], address: str) -> str:
        """The caller's name. ``headers`` are all Authorization headers of the request, as received.

        Raises UnauthorizedError where there is not exactly one, or it is malformed or wrong;
        TooManyRequestsError after 100 wrong passwords a minute for one name and address, and where too many
        passwords wait to be checked.
        """
        if len(headers) != 1:
            raise UnauthorizedError
        digest = self._digest(headers[0])
        known = self._known(digest)
        if known is not None:
            return known
        name, password = parse_basic(headers[0])
        await self._check_password(digest, name, password, address)
        self._remember(digest, name)
        return name

    def _remember(self, digest: bytes, name: str) -> None:
        """For a while; the oldest goes where there are too many."""
        self._remembered.pop(digest, None)
        if len(self._remembered) >= REMEMBERED_ENTRIES:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[digest] = name, self._clock() + REMEMBERED_SECONDS

    async def _check_password(self, digest: bytes, name: str, password: str, address: str) -> None:
        attempts = (name, address)
        if self._wrong.get(attempts, 0) >= MAX_WRONG_A_MINUTE:
            raise TooManyRequestsError(retry_after=60, cause="too many wrong passwords")
        task = self._under_way.get(digest)
        if task is None:
            if len(self._under_way) >= MAX_WAITING:
                raise TooManyRequestsError(cause="too many passwords wait to be checked")
            task = asyncio.ensure_future(self._hash(name, password))
            self._under_way[digest] = task
            task.add_done_callback(lambda _: self._under_way.pop(digest, None))
        # the same header may come a hundred times at once when a service has just started: hashed once
        if not await asyncio.shield(task):
            self._wrong[attempts] = self._wrong.get(attempts, 0) + 1
            raise UnauthorizedError

    async def _hash(self, name: str, password: str) -> bool:
        hashed = self._users.hash_of(name) or self._also(name)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, _is_right_or_nobodys, hashed, password)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)


@cache
def _nobodys_hash() -> str:
    """Checked for names nobody has, so that the time taken does not tell which names exist."""
    return HASHER.hash(secrets.token_hex(16))


def _is_right_or_nobodys(hashed: str | None, password: str) -> bool:
    return _is_right(hashed or _nobodys_hash(), password) and hashed is not None


def _is_right(hashed: str | None, password: str) -> bool:
    if hashed is None:
        return False
    try:
        return HASHER.verify(hashed, password)
    except (VerificationError, InvalidHashError):
        return False


def parse_basic(header: str) -> tuple[str, str]:
    """Name and password of a Basic header in UTF-8 (RFC 7617). Raises UnauthorizedError."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        raise UnauthorizedError
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise UnauthorizedError from None
    if not colon or not name or _CONTROL.search(name + password):
        raise UnauthorizedError
    return name, password


class BasicAuth(BasicAuthMiddleware):  # type: ignore[misc]
    """aiohttp-basicauth with our check and our error; leaves the caller's name under ``CALLER``."""

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials

    async def authenticate(self, request: web.Request) -> bool:
        headers = request.headers.getall(hdrs.AUTHORIZATION, [])
        request[CALLER] = await self._credentials.check(headers, request.remote or "")
        return True

    def challenge(self) -> web.StreamResponse:
        raise UnauthorizedError


def without_credentials(handler: Any) -> Any:  # noqa: ANN401 - whatever aiohttp takes as a handler
    """Marks a handler, a function of its own, that anybody may call."""
    return BasicAuthMiddleware().ignore(handler)
