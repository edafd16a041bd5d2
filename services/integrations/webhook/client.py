"""HTTP client for webhooks: sends one event and decides from the response whether it was delivered."""

import math
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict, CIMultiDictProxy
from standardwebhooks import Webhook
from yarl import URL

from integrations.events import VERSIONS, CanonicalEvent, EventVersion, IntegrationData, render
from integrations.webhook.http_connection import RESPONSE_START, ResponseStart, WebhookConnector
from integrations.webhook.response_excerpt import response_excerpt
from integrations.webhook.signing import signature_headers
from integrations.webhook.ssrf_guard import ADDRESS_NOT_ALLOWED, SsrfGuard
from integrations.webhook.webhook_response import HttpResponse, WebhookResponse, classify

TIMEOUT_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
MAX_BODY_BYTES: Final = 16 * 1024
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_HEADERS: Final = 1_000
USER_AGENT: Final = "proquant-integrations"

TlsContext = ssl.SSLContext | bool

_NO_HEADERS: Final[CIMultiDictProxy[str]] = CIMultiDictProxy(CIMultiDict())


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The webhook of an integration, with decrypted headers and signing secrets."""

    integration: IntegrationData
    revision: int
    url: URL
    signer: Webhook
    previous: Webhook | None
    previous_until: float
    """Monotonic time until which requests have a second signature, made with the previous secret."""

    def signers(self) -> list[Webhook]:
        if self.previous is not None and time.monotonic() < self.previous_until:
            return [self.signer, self.previous]
        return [self.signer]


def open_session(connector: aiohttp.BaseConnector) -> aiohttp.ClientSession:
    """Return a session that adds only a User-Agent to requests, and that does not decompress responses."""
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.ACCEPT),
        headers={hdrs.USER_AGENT: USER_AGENT},
        max_line_size=MAX_HEADER_BYTES,
        max_field_size=MAX_HEADER_BYTES,
        max_headers=MAX_HEADERS,
    )


async def post(
    session: aiohttp.ClientSession,
    url: URL,
    headers: CIMultiDict[str],
    body: bytes,
    seconds: float,
    tls: TlsContext = True,
) -> HttpResponse:
    """Send one request. Return the response, or the cause if there is no response within `seconds`. Raises no errors.

    `tls` is used in place of the session's own, unless it is True.

    A kept connection may close just as the request is sent; a request whose response has not begun is then repeated
    once, with the same webhook-id.
    """
    until = time.monotonic() + seconds
    start = ResponseStart()
    try:
        return await _post_once(session, url, headers, body, seconds, start, tls)
    except aiohttp.ClientConnectionError as error:
        is_repeatable = not start.has_begun and not isinstance(
            error, (aiohttp.ClientConnectorError, TimeoutError)
        )
        if not is_repeatable:
            return _incomplete(start, error, seconds)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _incomplete(start, error, seconds)
    start = ResponseStart()
    try:
        left = max(until - time.monotonic(), 0.001)
        return await _post_once(session, url, headers, body, left, start, tls)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _incomplete(start, error, seconds)


async def _post_once(
    session: aiohttp.ClientSession,
    url: URL,
    headers: CIMultiDict[str],
    body: bytes,
    seconds: float,
    start: ResponseStart,
    tls: TlsContext,
) -> HttpResponse:
    RESPONSE_START.set(start)
    timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS, ceil_threshold=math.inf)
    async with session.post(
        url, data=body, headers=headers, allow_redirects=False, timeout=timeout, ssl=tls
    ) as response:
        content = await _body(response)
        cause = None if content is not None else f"the response body is longer than {MAX_BODY_BYTES:,} bytes"
        return HttpResponse(response.status, response.headers, content, cause)


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the response body; None if it is longer than MAX_BODY_BYTES."""
    chunks = []
    left = MAX_BODY_BYTES
    while chunk := await response.content.readany():
        left -= len(chunk)
        if left < 0:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _incomplete(start: ResponseStart, error: Exception, seconds: float) -> HttpResponse:
    """Return a response without a body: its status, if the status arrived, and the cause of the failure."""
    if start.status is None:
        return HttpResponse(None, _NO_HEADERS, None, _no_response(start, error, seconds))
    cause = f"the response could not be read after its status line: {_unreadable(error, seconds)}"
    return HttpResponse(start.status, _NO_HEADERS, None, cause)


def _no_response(start: ResponseStart, error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no response within {seconds:g} seconds"
    if isinstance(error, aiohttp.ClientConnectorError):
        # not more precise, because the reason would show a partner the network behind this service
        is_refused = isinstance(error.os_error, PermissionError) and error.strerror == ADDRESS_NOT_ALLOWED
        return ADDRESS_NOT_ALLOWED if is_refused else "no connection could be made"
    if start.has_begun:
        return "the response does not begin with an HTTP/1.1 status line"
    return "the connection was closed before a response began"


def _unreadable(error: Exception, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"it was not complete within {seconds:g} seconds"
    if isinstance(error, aiohttp.ClientResponseError):
        # the parser's message goes on with the bytes at fault, which may hold secrets of the partner
        text = error.message.partition(":")[0]
        return "there are bytes after its end" if text == "Bad status line" else text
    return "the connection was closed before its end"


@dataclass(slots=True)
class WebhookClient:
    """Sends events to webhooks.

    `now` returns the wall-clock time for signatures and for the deprecation of versions.
    """

    guard: SsrfGuard
    ca: Path | None = None
    versions: Sequence[EventVersion] = VERSIONS
    now: Callable[[], datetime] = _utc_now
    timeout_seconds: float = TIMEOUT_SECONDS
    _session: aiohttp.ClientSession | None = field(default=None, init=False)
    _tls: TlsContext = field(default=True, init=False)

    def open(self) -> None:
        self._load_ca()
        self._session = open_session(
            WebhookConnector(
                limit=0,  # the number of lanes in progress limits the connections
                keepalive_timeout=30,
                socket_factory=self.guard.socket,
            )
        )

    async def reload(self) -> Mapping[str, object]:
        """Read the CA file again (`chassis.watched_files.Reload`); later requests trust it.

        Raises OSError, and then nothing has changed.
        """
        self._load_ca()
        return {}

    def _load_ca(self) -> None:
        self._tls = ssl.create_default_context(cafile=self.ca)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self, event: CanonicalEvent, to: Endpoint, at: datetime
    ) -> tuple[WebhookResponse, dict[str, object] | None]:
        """Send an event, signed with the time `at`; raise no errors, whatever the webhook does.

        Return what the response means, and its excerpt for the attempt log.
        """
        assert self._session is not None  # noqa: S101 - opened with the app
        body = render(self.versions, event, to.integration, at)
        headers = CIMultiDict(to.integration.webhook.headers)
        headers.update(signature_headers(to.signers(), event.id, at, body))
        headers[hdrs.CONTENT_TYPE] = "application/json"
        response = await post(self._session, to.url, headers, body, self.timeout_seconds, self._tls)
        excerpt = response_excerpt(response, to.integration.webhook.headers.values(), to.url)
        return classify(response, self.now()), excerpt
