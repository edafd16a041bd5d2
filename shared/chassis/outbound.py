"""Requests to other services: TLS, replicas in turn, one repetition (wire.md §4, "Repeating")."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDictProxy
from yarl import URL

from chassis.outgoing import Connector
from chassis.tls import Tls

MOST_REPLY_BYTES: Final = 64 * 1024
MOST_CONNECTIONS: Final = 1_024
MOST_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 5.0
REPLICA_CONNECT_SECONDS: Final = 1.0
RESOLVE_EVERY_SECONDS: Final = 1.0
RESOLVE_MOST_SECONDS: Final = 1.0
STALE_AFTER_SECONDS: Final = 2.0
SHUN_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Received:
    """What came back; ``body`` is None where it was longer than 64 KiB."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes | None


class NoAnswerError(Exception):
    """Nothing that could be read came back; the message is for the log."""


class Outbound:
    """The one client session of an app."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._replicas = Replicas()
        self._session = aiohttp.ClientSession(
            connector=Connector(
                limit=MOST_CONNECTIONS, keepalive_timeout=15, ttl_dns_cache=int(RESOLVE_EVERY_SECONDS)
            ),
            timeout=aiohttp.ClientTimeout(total=MOST_SECONDS, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=(hdrs.USER_AGENT, hdrs.ACCEPT_ENCODING, hdrs.ACCEPT),
        )
        # aiohttp would repeat PUT and GET by itself, on top of our one repetition
        self._session._retry_connection = False  # noqa: SLF001

    async def close(self) -> None:
        self._replicas.close()
        await self._session.close()

    async def send(
        self, method: str, base: str, target: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Received:
        """The answer of the service at base URL ``base`` to ``target``, its path and query.

        Repeated once, on another replica where there is one, where the connection was refused, or closed
        before a reply began. Raises NoAnswerError; TimeoutError after a minute, but whoever calls has a
        deadline of its own.
        """
        place = await self._replicas.next(base)
        try:
            return await self._once(place, method, target, headers, body)
        except aiohttp.ConnectionTimeoutError as error:  # nothing was sent, and another may take it
            again = await self._replicas.instead_of(place, base, is_away=True)
            if again.base == place.base:
                raise NoAnswerError(_cause(error)) from error
        except aiohttp.ClientConnectionError as error:  # refused, or closed before a reply began
            again = await self._replicas.instead_of(place, base, is_away=_is_away(error))
        except (aiohttp.ClientError, ValueError) as error:
            raise NoAnswerError(_cause(error)) from error
        try:
            return await self._once(again, method, target, headers, body)
        except (aiohttp.ClientError, ValueError) as error:
            raise NoAnswerError(_cause(error)) from error

    async def _once(
        self, place: "Place", method: str, target: str, headers: Mapping[str, str], body: bytes | None
    ) -> Received:
        async with self._session.request(
            method,
            URL(place.base + target, encoded=True),
            data=body,
            headers={**headers, **place.headers},
            allow_redirects=False,
            ssl=self._tls.client,
            server_hostname=place.server_hostname,
            timeout=place.timeout,
        ) as response:
            try:
                return Received(response.status, response.headers, await _limited(response))
            except aiohttp.ClientConnectionError as error:
                # a reply had begun: nothing that may be repeated (chassis.outgoing says so of what came before)
                raise aiohttp.ClientPayloadError(f"the reply broke off: {error!r}") from error


def _is_away(error: Exception) -> bool:
    """Whether no connection came about; else it was an old one that closed, which says little of the service."""
    return isinstance(error, aiohttp.ClientConnectorError)


def _cause(error: Exception) -> str:
    """Kind and message of aiohttp's error; its repr would show the request's headers, credentials too."""
    text = error.message if isinstance(error, aiohttp.ClientResponseError) else str(error)
    # further lines hold what the other side sent
    return f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"


async def _limited(response: aiohttp.ClientResponse) -> bytes | None:
    chunks = []
    left = MOST_REPLY_BYTES
    while chunk := await response.content.readany():
        left -= len(chunk)
        if left < 0:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one request goes."""

    base: str
    headers: Mapping[str, str] = field(default_factory=dict)
    server_hostname: str | None = None
    timeout: aiohttp.ClientTimeout = field(
        default_factory=lambda: aiohttp.ClientTimeout(total=MOST_SECONDS, sock_connect=CONNECT_SECONDS)
    )


@dataclass(slots=True)
class _Host:
    """One host's places, as its name was resolved last."""

    places: list[Place]
    resolved: float
    turn: int = 0


class Replicas:
    """A service's replicas, in turn.

    A name with several addresses is a service with several replicas (as in compose, or a headless service of
    Kubernetes): each request goes to the next one. The name is resolved again every second, behind the
    requests, so that replicas which come are used and those that go are not; after a pause, before the request:
    an address that was a replica's may be another service's by now. Where no connection came about is left out
    for two seconds, as long as there is another: a replica that stops is gone before its address is.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}
        self._resolving: dict[str, asyncio.Task[None]] = {}
        self._shunned: dict[str, float] = {}

    async def next(self, base: str) -> Place:
        host = self._hosts.get(base)
        if host is None:
            await asyncio.shield(self._resolve(base))
            host = self._hosts[base]
        elif (age := time.monotonic() - host.resolved) > RESOLVE_EVERY_SECONDS:
            resolving = self._resolve(base)
            if age > STALE_AFTER_SECONDS:
                await self._wait_for(resolving)
                host = self._hosts[base]
        return self._choose(host)

    async def instead_of(self, place: Place, base: str, *, is_away: bool) -> Place:
        """Where to repeat what ``place`` did not answer: elsewhere, if there is anywhere else."""
        if is_away:
            self._shunned[place.base] = time.monotonic() + SHUN_SECONDS
        if not self._others(place, base):
            await self._wait_for(self._resolve(base))
        others = self._others(place, base)
        return self._choose(self._hosts[base], others) if others else place

    async def _wait_for(self, resolving: asyncio.Task[None]) -> None:
        """No longer for a name than for a connection."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESOLVE_MOST_SECONDS):
                await asyncio.shield(resolving)

    def close(self) -> None:
        for task in self._resolving.values():
            task.cancel()

    def _others(self, place: Place, base: str) -> list[Place]:
        return [other for other in self._hosts[base].places if other.base != place.base]

    def _choose(self, host: _Host, places: Sequence[Place] = ()) -> Place:
        """The next in turn among ``places``, or all of the host's; of those left out only if there is no other."""
        host.turn += 1
        places = places or host.places
        if self._shunned and len(places) > 1:
            now = time.monotonic()
            self._shunned = {base: until for base, until in self._shunned.items() if until > now}
            places = [place for place in places if place.base not in self._shunned] or places
        return places[host.turn % len(places)]

    def _resolve(self, base: str) -> asyncio.Task[None]:
        """The resolution under way; one at a time for each host."""
        task = self._resolving.get(base)
        if task is None:
            task = asyncio.create_task(self._resolve_now(base))
            self._resolving[base] = task
            task.add_done_callback(lambda _: self._resolving.pop(base, None))
        return task

    async def _resolve_now(self, base: str) -> None:
        places = await _places(base)
        before = self._hosts.get(base)
        if places is None:  # not to be resolved now: what was known may still be there
            places = before.places if before is not None else [Place(base)]
        self._hosts[base] = _Host(places, time.monotonic(), before.turn if before is not None else 0)


async def _places(base: str) -> list[Place] | None:
    parts = urlsplit(base)
    host = parts.hostname or ""
    if _is_address(host):
        return [Place(base)]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, parts.port or 0, type=1)
    except OSError:
        return None
    families: dict[int, set[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, set()).add(str(address[0]))
    addresses = max(families.values(), key=len, default=set())
    if (
        len(addresses) == 1 and len(families) > 1
    ):  # one of each family is one host: aiohttp takes what answers
        return [Place(base)]
    seconds = CONNECT_SECONDS if len(addresses) == 1 else REPLICA_CONNECT_SECONDS
    return [_place(base, address, seconds) for address in sorted(addresses)]


def _place(base: str, address: str, connect_seconds: float) -> Place:
    parts = urlsplit(base)
    literal = f"[{address}]" if ":" in address else address
    netloc = literal if parts.port is None else f"{literal}:{parts.port}"
    return Place(
        parts._replace(netloc=netloc).geturl(),
        {hdrs.HOST: parts.netloc},
        parts.hostname if parts.scheme == "https" else None,
        aiohttp.ClientTimeout(total=MOST_SECONDS, sock_connect=connect_seconds),
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
