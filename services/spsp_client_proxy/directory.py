"""Asks the central directory, with the caller's own credentials (Quote API §I.2, wire.md §5).

Remembered are answers of 200 alone, for ten seconds, by the caller's credentials and the identifier: what
one caller may look up says nothing about another. Identical look-ups under way are joined.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from aiohttp import hdrs
from cachetools import TTLCache

from chassis.errors import ReceiverNotFoundError, UnauthorizedError, UpstreamError, UpstreamTimeoutError
from chassis.http.pool import MAX_SECONDS, NoResponseError
from chassis.logs import url_for_log
from chassis.settings import base_url
from chassis.tracing import TRACE_HEADER
from quoting.call import TRACEPARENT_HEADER, Call
from quoting.peers import Peers

Key = tuple[bytes, str, str]

_NO_ANSWER: Final = "The central directory gave no answer; repeating is safe."


class Form(Enum):
    """How the directory is asked, in its two generations."""

    SEPARATE = "separate"
    JOINED = "joined"

    def query(self, identifier_type: str, identifier: str) -> str:
        if self is Form.JOINED:
            return urlencode({"identifier": f"{identifier_type}:{identifier}"}, quote_via=quote)
        return urlencode({"identifierType": identifier_type, "identifier": identifier}, quote_via=quote)


class Directory:
    """The central directory, and what is remembered of it."""

    def __init__(self, peers: Peers, url: str, form: Form, seconds: float, entries: int) -> None:
        self._peers = peers
        self._url = url
        self._form = form
        self._remembered: TTLCache[Key, str] = TTLCache(entries, seconds)
        self._under_way: dict[Key, LookUp] = {}
        self._secret = secrets.token_bytes(32)  # credentials are never keys in clear
        self._epoch = 0

    def key(self, call: Call, identifier_type: str, identifier: str) -> Key:
        """Who asks for whom."""
        digest = hashlib.blake2b(
            call.authorization.encode("utf-8", "surrogateescape"), key=self._secret, digest_size=32
        ).digest()
        return digest, identifier_type, identifier

    def known(self, key: Key) -> str | None:
        """Base URL of the receiver's default DFSP where it is remembered."""
        try:
            return self._remembered[key]  # its `get` takes three times as long
        except KeyError:
            return None

    async def receiver_of(self, call: Call, key: Key) -> str:
        """Base URL of the receiver's default DFSP, remembered or asked for.

        Raises ReceiverNotFoundError, UnauthorizedError, and UpstreamError where the directory gives no
        answer.
        """
        known = self.known(key)
        if known is not None:
            return known
        look_up = self.look_up(call, key)
        try:
            return await asyncio.shield(look_up.task)
        finally:
            look_up.leave()

    def look_up(self, call: Call, key: Key) -> "LookUp":
        """The question whose receiver ``key`` is, asked or joined; whoever asks leaves it once."""
        look_up = self._under_way.get(key)
        if look_up is None or look_up.task.done():
            task = asyncio.create_task(self._ask_and_remember(key, call))
            look_up = self._under_way[key] = LookUp(task, partial(self._ended, key))
        look_up.waiting += 1
        return look_up

    def _ended(self, key: Key, look_up: "LookUp") -> None:
        if self._under_way.get(key) is look_up:
            del self._under_way[key]

    def forget(self) -> None:
        """Forgets all answers, those on their way included."""
        self._epoch += 1
        self._remembered.clear()
        self._under_way.clear()

    async def close(self) -> None:
        for look_up in list(self._under_way.values()):
            look_up.task.cancel()

    async def _ask_and_remember(self, key: Key, call: Call) -> str:
        epoch = self._epoch
        found = await self._ask(call, self._form.query(key[1], key[2]))
        if epoch == self._epoch:
            self._remembered[key] = found
        return found

    async def _ask(self, call: Call, query: str) -> str:
        try:
            received = await self._peers.ask(self._url, _Question(call, f"/resources?{query}"))
        except NoResponseError as error:
            raise UpstreamError(_NO_ANSWER, cause=str(error)) from error
        except TimeoutError as error:
            raise UpstreamTimeoutError("The central directory did not answer in time.") from error
        status, body = received.status, received.body
        if status == 200:  # noqa: PLR2004
            return receiver_in(body)
        if status == 401:  # noqa: PLR2004
            raise UnauthorizedError("The central directory does not accept these credentials.")
        if status == 404:  # noqa: PLR2004
            raise ReceiverNotFoundError
        raise UpstreamError(_NO_ANSWER, cause=f"the directory answered {status}")


class _Question:
    """What the directory is asked on behalf of the first call that needs to know."""

    method: Final = "GET"
    body: Final = None

    def __init__(self, call: Call, target: str) -> None:
        self.target = target
        self.deadline = time.monotonic() + MAX_SECONDS
        self._headers = {hdrs.AUTHORIZATION: call.authorization, TRACE_HEADER: call.trace_id}
        if call.traceparent is not None:
            self._headers[TRACEPARENT_HEADER] = call.traceparent

    def headers(self, _now: float) -> dict[str, str]:
        return self._headers


class LookUp:
    """One question on its way and how many wait for the answer."""

    __slots__ = ("_ended", "task", "waiting")

    def __init__(self, task: asyncio.Task[str], ended: "Callable[[LookUp], None]") -> None:
        self.task = task
        self.waiting = 0
        self._ended = ended

    def leave(self) -> None:
        """One waits no more; the last one ends the look-up."""
        self.waiting -= 1
        if not self.waiting:
            self.task.cancel()
            self._ended(self)


def receiver_in(body: bytes | None) -> str:
    """The base URL in an answer of 200, of either generation (wire.md §5).

    Raises ReceiverNotFoundError where it names nobody, UpstreamError where it is no answer.
    """
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError as error:
        raise UpstreamError(_NO_ANSWER, cause="the directory's answer is not JSON") from error
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, dict)]
        if len(entries) != len(content):
            raise UpstreamError(_NO_ANSWER, cause="the directory's list holds what is no entry")
        primary = [e for e in entries if e.get("primary") is True and _is_registered(e)]
        if len(primary) != 1:
            raise ReceiverNotFoundError
        return _base(primary[0])
    if not isinstance(content, dict):
        raise UpstreamError(_NO_ANSWER, cause="the directory's answer is neither object nor list")
    if not _is_registered(content):
        raise ReceiverNotFoundError
    return _base(content)


def _is_registered(entry: dict[str, Any]) -> bool:
    """``registered: false`` marks the directory's default DFSP, for identifiers it does not know."""
    return entry.get("registered", True) is True


def _base(entry: dict[str, Any]) -> str:
    url = entry.get("spspReceiver", entry.get("providerUrl"))
    try:
        return base_url(url if isinstance(url, str) else "")
    except ValueError as error:
        raise UpstreamError(_NO_ANSWER, cause=f"the directory named {url_for_log(url)}: {error}") from error
