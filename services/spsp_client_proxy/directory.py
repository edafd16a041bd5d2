"""Looks up payees in the central directory, with the caller's own credentials (Quote API §I.2, wire.md §5).

Only responses with status 200 are cached, for ten seconds. The key of the cache has the caller's credentials and the
identifier, because the directory may answer each caller differently. Equal look-ups in flight share one request.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

import orjson
from aiohttp import hdrs
from cachetools import TTLCache

from chassis.batching import Item
from chassis.errors import (
    QuotingError,
    ReceiverNotFoundError,
    UnauthorizedError,
    UpstreamError,
    UpstreamTimeoutError,
)
from chassis.exchange import Exchange
from chassis.http.pool import NoResponseError, PeerResponse
from chassis.logs import url_for_log
from chassis.settings import base_url
from chassis.tracing import TRACE_HEADER, TRACEPARENT_HEADER, SpanContext
from quoting.call import Call
from quoting.peers import PeerRequest, Peers

Key = tuple[bytes, str, str]
"""Key of a look-up: digest of the caller's credentials, identifierType, identifier."""
Found = Callable[[str], None]
"""Function that continues an exchange. Its argument is the base URL of the payee's default DFSP."""

_NO_ANSWER: Final = "The central directory did not answer. Repeating the request is safe."


class Form(Enum):
    """The two forms of the directory's API: identifierType and identifier as separate parameters, or joined in one."""

    SEPARATE = "separate"
    JOINED = "joined"

    def query(self, identifier_type: str, identifier: str) -> str:
        if self is Form.JOINED:
            return urlencode({"identifier": f"{identifier_type}:{identifier}"}, quote_via=quote)
        return urlencode({"identifierType": identifier_type, "identifier": identifier}, quote_via=quote)


class DirectoryClient:
    """Client of the central directory, with a cache of its answers."""

    def __init__(self, peers: Peers, url: str, form: Form, seconds: float, entries: int) -> None:
        self._peers = peers
        self._url = url
        self._form = form
        self._cache: TTLCache[Key, str] = TTLCache(entries, seconds)
        self._in_flight: dict[Key, LookUp] = {}
        self._secret = secrets.token_bytes(32)  # the cache's keys have a digest in place of the credentials
        self._epoch = 0

    def find_receiver(
        self, exchange: Exchange, call: Call, identifier_type: str, identifier: str, found: Found
    ) -> None:
        """Call `found` with the base URL of the payee's default DFSP, from the cache or from the directory.

        The exchange fails with ReceiverNotFoundError, UnauthorizedError, UpstreamError or UpstreamTimeoutError.
        """
        header = call.authorization.encode("utf-8", "surrogateescape")
        digest = hashlib.blake2b(header, key=self._secret, digest_size=32).digest()
        key = digest, identifier_type, identifier
        try:
            base = self._cache[key]  # `get` takes three times as long
        except KeyError:
            self._join(key, Waiting(exchange, call, found))
        else:
            found(base)

    def _join(self, key: Key, waiting: "Waiting") -> None:
        """Let the exchange wait for an equal look-up in flight; if there is none, send one."""
        waiting.exchange.waits_for = "The central directory"
        look_up = self._in_flight.get(key)
        if look_up is not None and not look_up.is_settled:
            look_up.waiting.append(waiting)
            return
        request = _LookUpRequest(waiting.call, f"/resources?{self._form.query(key[1], key[2])}")
        look_up = LookUp(request, waiting, partial(self._end, key, self._epoch))
        self._in_flight[key] = look_up
        try:
            self._peers.send(self._url, look_up)
        except QuotingError as error:
            look_up.fail(error)

    def _end(self, key: Key, epoch: int, look_up: "LookUp", base: str | None) -> None:
        """Remove a look-up that has ended, and cache its answer `base`.

        `base` is None if the look-up timed out at the deadline of its first exchange. Exchanges with a later deadline
        then wait for another look-up.
        """
        if self._in_flight.get(key) is look_up:
            del self._in_flight[key]
        if base is not None and epoch == self._epoch:
            self._cache[key] = base
        if base is None:
            now = time.monotonic()
            late = [each for each in look_up.waiting if each.exchange.deadline > now]
            look_up.waiting = [each for each in look_up.waiting if each.exchange.deadline <= now]
            for each in late:
                self._join(key, each)

    def forget(self) -> None:
        """Clear the cache. Look-ups in flight still answer the exchanges that wait for them, but are not cached."""
        self._epoch += 1
        self._cache.clear()
        self._in_flight.clear()


class _LookUpRequest:
    """The HTTP request of a look-up. It has the credentials and trace id of the first call that needs the look-up."""

    method: Final = "GET"
    body: Final = None

    def __init__(self, call: Call, target: str) -> None:
        self.target = target
        self._headers = {hdrs.AUTHORIZATION: call.authorization, TRACE_HEADER: call.trace_id}
        if call.traceparent is not None:
            self._headers[TRACEPARENT_HEADER] = call.traceparent

    def headers(self, _now: float) -> dict[str, str]:
        return self._headers


class Waiting(NamedTuple):
    """An exchange that waits for a look-up."""

    exchange: Exchange
    call: Call
    found: Found


class LookUp(Item[PeerRequest, PeerResponse]):
    """A look-up in flight, and the exchanges that wait for it."""

    __slots__ = ("_end", "_is_over", "waiting")

    def __init__(
        self, request: PeerRequest, first: Waiting, end: "Callable[[LookUp, str | None], None]"
    ) -> None:
        """`end` is called with the answer; with None if the look-up times out at the deadline of `first`."""
        super().__init__(request, first.exchange.deadline)
        self.waiting = [first]
        self._end = end
        self._is_over = False

    @property
    def is_settled(self) -> bool:
        """Whether the look-up has ended, or no exchange waits for it any more."""
        return self._is_over or all(each.exchange.is_settled for each in self.waiting)

    @property
    def span(self) -> SpanContext | None:
        """The place of the first exchange in its trace."""
        return self.waiting[0].exchange.needed_span() if self.waiting else None

    def needed_span(self) -> SpanContext | None:
        return self.span

    def settle(self, result: PeerResponse) -> None:
        try:
            base = _receiver(result)
        except QuotingError as error:
            self.fail(error)
            return
        if self._is_over:
            return
        self._is_over = True
        self._end(self, base)
        for each in self.waiting:
            if not each.exchange.is_settled:
                each.exchange.attempt(partial(each.found, base))

    def fail(self, error: BaseException) -> None:
        if self._is_over:
            return
        self._is_over = True
        if isinstance(error, (TimeoutError, UpstreamTimeoutError)):
            self._end(self, None)  # exchanges that joined later may have a later deadline
        elif isinstance(error, NoResponseError):
            error = UpstreamError(_NO_ANSWER, cause=str(error))
        for each in self.waiting:
            each.exchange.fail(error)


def _receiver(received: PeerResponse) -> str:
    """Return the base URL in a response of the directory.

    Raises ReceiverNotFoundError, UnauthorizedError, UpstreamError.
    """
    if received.status == 200:  # noqa: PLR2004
        return receiver_in(received.body)
    if received.status == 401:  # noqa: PLR2004
        raise UnauthorizedError("The central directory does not accept these credentials.")
    if received.status == 404:  # noqa: PLR2004
        raise ReceiverNotFoundError
    raise UpstreamError(_NO_ANSWER, cause=f"the directory answered {received.status}")


def receiver_in(body: bytes | None) -> str:
    """Return the base URL in the body of a 200 response, in either form of the directory's API (wire.md §5).

    Raises ReceiverNotFoundError if the body names no receiver, UpstreamError if it is malformed.
    """
    try:
        content = orjson.loads(body or b"")
    except orjson.JSONDecodeError as error:
        raise UpstreamError(_NO_ANSWER, cause="the directory's answer is not JSON") from error
    if isinstance(content, list):
        entries = [entry for entry in content if isinstance(entry, dict)]
        if len(entries) != len(content):
            raise UpstreamError(_NO_ANSWER, cause="the directory's list has an entry that is not an object")
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
    """Whether an entry says that the directory knows the identifier.

    For an unknown identifier, a directory may return its default DFSP with ``registered: false``.
    """
    return entry.get("registered", True) is True


def _base(entry: dict[str, Any]) -> str:
    url = entry.get("spspReceiver", entry.get("providerUrl"))
    try:
        return base_url(url if isinstance(url, str) else "")
    except ValueError as error:
        raise UpstreamError(_NO_ANSWER, cause=f"the directory named {url_for_log(url)}: {error}") from error
