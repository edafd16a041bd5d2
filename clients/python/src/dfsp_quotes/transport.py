"""One request over HTTP: what is sent, and the reply or the reason why there is none."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self

import aiohttp

from dfsp_quotes.retries import UNKNOWN_OUTCOME, retry_after_seconds

MAX_BODY_BYTES: Final = 65_536
MAX_PAGE_BYTES: Final = 4_194_304
"""For a page of 200 quotes with the longest fields."""
MAX_TIMEOUT_MS: Final = 60_000
"""The services count more as this (wire.md §3), so no attempt waits longer."""
TRACE_HEADER: Final = "L1p-Trace-Id"
KEY_HEADER: Final = "Idempotency-Key"
LIFETIME_HEADER: Final = "X-Quote-Lifetime-Ms"
TIMEOUT_HEADER: Final = "X-Request-Timeout-Ms"


@dataclass(frozen=True, slots=True)
class Message:
    """One request as it is sent, and sent again."""

    method: str
    path: str
    trace_id: str
    body: bytes | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = None
    lifetime_ms: int | None = None
    max_reply_bytes: int = MAX_BODY_BYTES

    def headers(self) -> dict[str, str]:
        found = {TRACE_HEADER: self.trace_id}
        if self.body is not None:
            found["Content-Type"] = "application/json"
        if self.idempotency_key is not None:
            found[KEY_HEADER] = self.idempotency_key
        if self.lifetime_ms is not None:
            found[LIFETIME_HEADER] = str(self.lifetime_ms)
        return found


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one attempt. `problem` says why the reply, or a part of it, did not arrive."""

    status: int | None = None
    """None if no reply arrived, or not all of a 200."""
    body: bytes = b""
    retry_after: float | None = None
    problem: str | None = None
    may_repeat: bool = False

    @property
    def outcome(self) -> str:
        """The outcome of the attempt, for the log."""
        return self.problem or f"status {self.status}"


class Transport:
    """Connections to one server, with the credentials. `async with` opens and closes them."""

    def __init__(self, base_url: str, name: str, password: str, ssl_context: ssl.SSLContext | None) -> None:
        self._base_url = base_url
        self._authorization = "Basic " + b64encode(f"{name}:{password}".encode()).decode()
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Transport({self._base_url!r})"

    async def __aenter__(self) -> Self:
        if self._session is not None:
            raise RuntimeError("the client is open already: open each QuoteClient once")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl_context or True),
            cookie_jar=aiohttp.DummyCookieJar(),
            # asyncio.timeout() in `send` is exact; aiohttp rounds its own up to whole seconds
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trust_env=False,
            middlewares=[_without_hidden_repetition],
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": "dfsp-quotes",
            },
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, message: Message, seconds: float) -> Reply:
        """Send one request, and wait for its reply for at most this time, which must be above zero."""
        if self._session is None:
            raise RuntimeError("the client is not open: use it inside `async with QuoteClient(...)`")
        seconds = min(seconds, MAX_TIMEOUT_MS / 1000)
        headers = {
            **message.headers(),
            TIMEOUT_HEADER: str(max(1, int(seconds * 1000))),
            # here and not in the session: aiohttp's errors show their request, so they are not passed on either
            "Authorization": self._authorization,
        }
        try:
            async with asyncio.timeout(seconds):
                return await _exchange(self._session, self._base_url, message, headers)
        except TimeoutError:
            return Reply(problem=f"no response arrived within {seconds:.3f} s", may_repeat=True)
        except aiohttp.ClientSSLError:
            return Reply(problem="the TLS certificate or the TLS settings of the server were refused")
        except aiohttp.ClientConnectorError:
            return Reply(problem=f"no connection to {self._base_url} was possible", may_repeat=True)
        except _BrokenConnectionError as error:
            return Reply(problem=f"the connection broke: {error}", may_repeat=True)
        except (aiohttp.ClientError, OSError) as error:
            return Reply(problem=f"the connection broke: {type(error).__name__}", may_repeat=True)


class _BrokenConnectionError(aiohttp.ClientError):
    """The connection broke before a response arrived."""


async def _without_hidden_repetition(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Hide broken connections from aiohttp, which repeats a PUT or GET once by itself, with the same timeout header.

    The client would not learn that the outcome of the first one is unknown.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        kind = type(error).__name__
    raise _BrokenConnectionError(kind)


async def _exchange(
    session: aiohttp.ClientSession, base_url: str, message: Message, headers: Mapping[str, str]
) -> Reply:
    async with session.request(
        message.method,
        base_url + message.path,
        params=message.query,
        data=message.body,
        headers=headers,
        allow_redirects=False,
    ) as response:
        retry_after = retry_after_seconds(response.headers.get("Retry-After"))
        limit = message.max_reply_bytes
        body, problem = await _read(response, limit)
        if problem is not None and response.status == HTTPStatus.OK:
            return Reply(problem=problem, may_repeat=True)
        if problem is None and len(body) > limit:
            body, problem = b"", f"the body is longer than {limit:,} bytes"
        return Reply(response.status, body, retry_after, problem, response.status in UNKNOWN_OUTCOME)


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, str | None]:
    """Read one byte more than the maximum at most. A broken body is no reason to forget the status."""
    body = bytearray()
    try:
        while len(body) <= limit and (part := await response.content.read(MAX_BODY_BYTES)):
            body += part
    except (aiohttp.ClientError, OSError) as error:
        return b"", f"the response broke off: {type(error).__name__}"
    return bytes(body), None
