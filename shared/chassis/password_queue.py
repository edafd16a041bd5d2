"""A queue of passwords that wait to be hashed and compared.

One thread hashes, so that hashing never blocks the event loop and never takes more than one core. The networks of the
callers share the places in the queue, and take turns. So a caller that guesses many passwords does not keep the
callers of other networks out.
"""

import asyncio
import secrets
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Final

from chassis.errors import TooManyRequestsError
from chassis.users import HASHER
from chassis.users_file import is_right

MAX_PASSWORDS: Final = 32


@dataclass(slots=True)
class _Check:
    hashed: str | None
    password: str
    result: asyncio.Future[bool]


class PasswordQueue:
    """A queue of at most 32 passwords, including the one that is being hashed."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Check]] = {}
        """Waiting passwords by network. The first network has the next turn."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="argon2")
        self._worker: asyncio.Task[None] | None = None
        self._is_hashing = False

    def __len__(self) -> int:
        """Passwords in the queue, including the one that is being hashed."""
        return sum(map(len, self._waiting.values())) + self._is_hashing

    def check(self, hashed: str | None, password: str, network: str) -> asyncio.Future[bool]:
        """Return a future with the result: whether the password has the hash ``hashed``.

        If ``hashed`` is None, the result is False, and takes the same time as for a user's hash. Raises
        TooManyRequestsError if the queue is full. If the queue becomes full later, the future may get
        TooManyRequestsError, too: its place is then given to a network that has fewer places.
        """
        check = _Check(hashed, password, asyncio.get_running_loop().create_future())
        if len(self) >= MAX_PASSWORDS:
            self._make_place_for(network)
        self._waiting.setdefault(network, deque()).append(check)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return check.result

    def _make_place_for(self, network: str) -> None:
        error = TooManyRequestsError(cause="too many passwords wait to be checked")
        largest = max(self._waiting, key=lambda each: len(self._waiting[each]))
        if len(self._waiting[largest]) <= len(self._waiting.get(network, ())) + 1:
            raise error
        newest = self._waiting[largest].pop()
        if not newest.result.done():
            newest.result.set_exception(error)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                network = next(iter(self._waiting))
                checks = self._waiting.pop(network)
                check = checks.popleft()
                if checks:
                    self._waiting[network] = checks  # behind the other networks
                self._is_hashing = True
                found = await loop.run_in_executor(self._thread, _hash, check.hashed, check.password)
                if not check.result.done():
                    check.result.set_result(found)
        finally:
            self._is_hashing = False
            self._worker = None

    def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)


@cache
def _hash_of_no_password() -> str:
    return HASHER.hash(secrets.token_hex(16))


def _hash(hashed: str | None, password: str) -> bool:
    return is_right(hashed or _hash_of_no_password(), password) and hashed is not None
