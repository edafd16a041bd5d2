"""One attempt: an event over the wire to its webhook, and what came back."""

import math
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import hdrs
from multidict import CIMultiDict
from standardwebhooks import Webhook
from yarl import URL

from integrations.encryption import signature
from integrations.events import VERSIONS, CanonicalEvent, EventVersion, IntegrationData, render
from integrations.webhook import webhook_response
from integrations.webhook.http_connection import WebhookConnector
from integrations.webhook.ssrf_guard import NOT_ALLOWED, SsrfGuard
from integrations.webhook.webhook_response import WebhookResponse

TIMEOUT_SECONDS: Final = 10.0
CONNECT_SECONDS: Final = 5.0
MAX_REPLY_BYTES: Final = 16 * 1024
USER_AGENT: Final = "proquant-integrations"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an integration's events go, ready to send to."""

    integration: IntegrationData
    revision: int
    url: URL
    signer: Webhook
    previous: Webhook | None
    previous_until: float
    """On the monotonic clock: when the secret before this one stops signing."""

    def signers(self) -> list[Webhook]:
        if self.previous is not None and time.monotonic() < self.previous_until:
            return [self.signer, self.previous]
        return [self.signer]


@dataclass(slots=True)
class WebhookClient:
    """Sends. `now` is the wall clock, which the signature and the versions' deprecation go by, and no more."""

    guard: SsrfGuard
    ca: Path | None = None
    versions: Sequence[EventVersion] = VERSIONS
    now: Callable[[], datetime] = _now
    timeout_seconds: float = TIMEOUT_SECONDS
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    def open(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=WebhookConnector(
                limit=0,  # the lanes under way are what is limited
                keepalive_timeout=30,
                ssl=ssl.create_default_context(cafile=self.ca),
                socket_factory=self.guard.socket,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            skip_auto_headers=(hdrs.ACCEPT_ENCODING, hdrs.ACCEPT),
            headers={hdrs.USER_AGENT: USER_AGENT},
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, event: CanonicalEvent, to: Endpoint) -> WebhookResponse:
        """What came of it. Never raises for what the other side does."""
        at = self.now()
        body = render(self.versions, event, to.integration, at)
        headers = CIMultiDict(to.integration.webhook.headers)
        headers.update(signature(to.signers(), event.id, at, body))
        headers[hdrs.CONTENT_TYPE] = "application/json"
        try:
            return await self._ask(to.url, headers, body)
        except TimeoutError:
            return webhook_response.no_answer("no answer in time")
        except aiohttp.ClientConnectorError as error:
            is_refused = isinstance(error.os_error, PermissionError) and error.strerror == NOT_ALLOWED
            return webhook_response.no_answer(NOT_ALLOWED if is_refused else "no connection")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return webhook_response.no_answer(f"no answer that could be read ({type(error).__name__})")

    async def _ask(self, url: URL, headers: CIMultiDict[str], body: bytes) -> WebhookResponse:
        until = time.monotonic() + self.timeout_seconds
        try:
            return await self._post(url, headers, body, self.timeout_seconds)
        except (aiohttp.ClientConnectorError, TimeoutError):
            raise
        except aiohttp.ClientConnectionError:
            # a kept connection that the other side has just closed says nothing of it; the webhook-id is the same
            return await self._post(url, headers, body, max(until - time.monotonic(), 0.001))

    async def _post(
        self, url: URL, headers: CIMultiDict[str], body: bytes, seconds: float
    ) -> WebhookResponse:
        assert self._session is not None  # noqa: S101 - opened with the app
        timeout = aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS, ceil_threshold=math.inf)
        async with self._session.post(
            url, data=body, headers=headers, allow_redirects=False, timeout=timeout
        ) as response:
            try:
                content = await _limited(response)
            except (TimeoutError, aiohttp.ClientError):
                # of a success the status says all; what is wrong, only a whole answer says
                if response.status < 300:  # noqa: PLR2004
                    return WebhookResponse(webhook_response.AttemptOutcome.DELIVERED, response.status)
                return webhook_response.no_answer("the answer broke off", response.status)
            return webhook_response.read(response.status, response.headers, content, self.now())


async def _limited(response: aiohttp.ClientResponse) -> bytes | None:
    chunks = []
    left = MAX_REPLY_BYTES
    while chunk := await response.content.readany():
        left -= len(chunk)
        if left < 0:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)
