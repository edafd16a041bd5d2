"""Requests to the watched services, with the console's own credentials."""

import asyncio
import base64
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import hdrs

from chassis.errors import UnavailableError, cause_of
from chassis.http.resolver import ReplicaAddress, resolve
from chassis.tls import Tls
from console.service_list import WatchedService

TIMEOUT_SECONDS: Final = 5.0
RESOLVE_SECONDS: Final = 1.0
MAX_REPLY_BYTES: Final = 8 << 20
MAX_CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class ServiceReply:
    """The response of a service."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - JSON
        """Return the body as JSON. Raises UnavailableError if it is not JSON."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise UnavailableError("The service's response is not JSON.", cause=str(error)) from error


class ServiceClient:
    """Sends requests to the replicas of the watched services."""

    def __init__(self, services: tuple[WatchedService, ...], tls: Tls, user: str, password: str) -> None:
        self.services = {each.name: each for each in services}
        self._tls = tls
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._authorization: Final[Mapping[str, str]] = {hdrs.AUTHORIZATION: f"Basic {credentials}"}
        self._session: aiohttp.ClientSession | None = None

    def open(self) -> None:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
            connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS, force_close=True),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def replicas(self, name: str) -> list[ReplicaAddress]:
        """Return the addresses of a service's replicas; an empty list if its name cannot be resolved."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RESOLVE_SECONDS):
                return await resolve(self.services[name].origin) or []
        return []

    async def request(
        self,
        name: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> ServiceReply:
        """Send a request to one replica of a service, and return its response, whatever its status is.

        `body` is sent as JSON. Raises UnavailableError if the service is not watched, or does not respond in time.
        """
        if name not in self.services:
            raise UnavailableError(
                f"The console does not watch a service {name}. QUOTES_CONSOLE_SERVICES names the services that it watches."
            )
        found = await self.replicas(name)
        if not found:
            raise UnavailableError(f"The name of {name} cannot be resolved.")
        return await self.send(
            found[0], method, path, query=query, body=body, headers={**self._authorization, **(headers or {})}
        )

    async def send(
        self,
        replica: ReplicaAddress,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> ServiceReply:
        """Send a request to a replica; `headers` may have credentials. Raises UnavailableError."""
        assert self._session is not None  # noqa: S101 - opened with the app
        data = None if body is None else orjson.dumps(body)
        given: Mapping[str, str] = {} if body is None else {hdrs.CONTENT_TYPE: "application/json"}
        try:
            async with self._session.request(
                method,
                replica.base + path,
                params=query,
                data=data,
                headers={**given, **replica.headers, **(headers or {})},
                ssl=self._tls.client,
                server_hostname=replica.server_hostname,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
            ) as response:
                return ServiceReply(response.status, response.headers, await _body(response))
        except TimeoutError as error:
            raise UnavailableError(
                f"No response within {timeout_seconds:.0f} s.", cause=f"{replica.base}{path}: no response"
            ) from error
        except aiohttp.ClientError as error:
            raise UnavailableError(
                "The service cannot be reached.", cause=f"{replica.base}{path}: {cause_of(error)}"
            ) from error


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body. Raises UnavailableError if it is longer than MAX_REPLY_BYTES."""
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_REPLY_BYTES:
            raise UnavailableError(f"The response is longer than {MAX_REPLY_BYTES:,} bytes.")
        chunks.append(chunk)
    return b"".join(chunks)
