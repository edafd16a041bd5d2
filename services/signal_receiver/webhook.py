"""The route ``POST /webhook/{accountToken}``: executes an event and responds as the guide requires."""

import asyncio
import time
from typing import Final
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Counter

from chassis.csrf import refuse_foreign
from chassis.errors import InvalidBodyError, UnavailableError, UpstreamTimeoutError
from chassis.exchange import Exchange
from chassis.http.response import Response
from chassis.logs import Logs
from signal_receiver.digests import digest
from signal_receiver.event_errors import ERROR_HEADER, EventError
from signal_receiver.events import LIFECYCLE_TYPES, SIGNAL_TYPES, WebhookEvent, read
from signal_receiver.executor import EventExecutor, EventResult, ReceivedEvent

RESPONSE_SECONDS: Final = 8.0
"""Maximum time for a response. After it, the provider gets a 503 and sends the event again.

It is below ten seconds, because the provider waits no longer.
"""
MAX_DEPRECATIONS: Final = 100

EXECUTED: Final = Response(200, b"")


class WebhookRoute:
    """The route of the webhook. Its log lines name the account as the caller."""

    pattern = "/webhook/{accountToken}"
    is_open = True
    has_body = True

    def __init__(self, executor: EventExecutor, logs: Logs, registry: CollectorRegistry) -> None:
        self._executor = executor
        self._counter = Counter("events", "Events answered", ["type", "outcome"], registry=registry)
        self._deprecations = _Deprecations(logs)

    def prepare(self, exchange: Exchange) -> None:
        refuse_foreign(exchange.request.method, exchange.request.headers)

    def handle(self, exchange: Exchange) -> None:
        exchange.run(self._respond(exchange))

    async def _respond(self, exchange: Exchange) -> Response:
        request = exchange.request
        event, error = _read(request.body)
        token = digest(unquote(request.path.rpartition("/")[2]))
        signal = event.signal if event else error
        result = await self._execute(ReceivedEvent(token, request.headers, request.body, signal))
        exchange.caller = result.account
        if result.body_error is not None:
            raise result.body_error
        if event is not None:
            self._count(event, result.error)
            if result.account is not None:
                self._deprecations.log_once(event)
        return EXECUTED if result.error is None else _error_response(result.error, result.cause)

    async def _execute(self, event: ReceivedEvent) -> EventResult:
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                return await self._executor.execute(event, time.monotonic() + RESPONSE_SECONDS)
        except (TimeoutError, UpstreamTimeoutError):
            raise UnavailableError("The event could not be executed in time. Send it again.") from None

    def _count(self, event: WebhookEvent, error: EventError | None) -> None:
        is_known = event.type in SIGNAL_TYPES or event.type in LIFECYCLE_TYPES
        self._counter.labels(event.type if is_known else "other", error.type if error else "ok").inc()


def _error_response(error: EventError, cause: str | None) -> Response:
    return Response(
        error.status, error.body, ((ERROR_HEADER, "1"),), error_id=error.type, cause=cause or error.message
    )


def _read(body: bytes) -> tuple[WebhookEvent | None, InvalidBodyError | None]:
    """Return the event in a body, or the fault of the body.

    Does not raise the fault, because the credentials must be checked first.
    """
    try:
        return read(body), None
    except InvalidBodyError as error:
        # the traceback refers to frames that refer to the error: the cycle would keep the parsed body in memory
        return None, error.with_traceback(None)


class _Deprecations:
    """Logs a warning once for each event version that has a deprecation date."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._logged: set[tuple[str, str]] = set()

    def log_once(self, event: WebhookEvent) -> None:
        if event.deprecation is None or (event.version, event.deprecation) in self._logged:
            return
        if len(self._logged) < MAX_DEPRECATIONS:
            self._logged.add((event.version, event.deprecation))
            self._logs.warning(
                "the event version is deprecated", version=event.version, deprecation=event.deprecation[:64]
            )
