"""``POST /webhook/{accountToken}``: executes an event and responds as the guide says."""

import asyncio
import time
from typing import Final
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Counter

from chassis.csrf import refuse_foreign
from chassis.errors import InvalidBodyError, UnavailableError, UpstreamTimeoutError
from chassis.logs import Logs
from chassis.messages import Message, Reply
from signal_receiver.digests import digest
from signal_receiver.event_errors import ERROR_HEADER, EventError
from signal_receiver.events import LIFECYCLE_TYPES, SIGNAL_TYPES, WebhookEvent, read
from signal_receiver.executor import EventExecutor, EventResult, ReceivedEvent

RESPONSE_SECONDS: Final = 8.0
"""The provider waits ten seconds. An event that takes longer gets its response when it is sent again."""
MAX_DEPRECATIONS: Final = 100

EXECUTED: Final = Reply(200, b"")


class WebhookRoute:
    """The route. In log lines the caller is the account."""

    pattern = "/webhook/{accountToken}"
    is_open = True

    def __init__(self, executor: EventExecutor, logs: Logs, registry: CollectorRegistry) -> None:
        self._executor = executor
        self._counter = Counter("events", "Events answered", ["type", "outcome"], registry=registry)
        self._deprecations = _Deprecations(logs)

    def begin(self, message: Message) -> None:
        refuse_foreign(message.method, message.headers)

    async def answer(self, message: Message) -> Reply:
        body = await message.body()
        event, error = _read(body)
        token = digest(unquote(message.path.rpartition("/")[2]))
        result = await self._execute(
            ReceivedEvent(token, message.headers, body, event.signal if event else error)
        )
        message.caller = result.account
        if result.body_error is not None:
            raise result.body_error
        if event is not None:
            self._count(event, result.error)
            if result.account is not None:
                self._deprecations.log_once(event)
        return EXECUTED if result.error is None else _error_reply(result.error, result.cause)

    async def _execute(self, event: ReceivedEvent) -> EventResult:
        try:
            async with asyncio.timeout(RESPONSE_SECONDS):
                return await self._executor.execute(event, time.monotonic() + RESPONSE_SECONDS)
        except (TimeoutError, UpstreamTimeoutError):
            raise UnavailableError("The event could not be executed in time. Send it again.") from None

    def _count(self, event: WebhookEvent, error: EventError | None) -> None:
        is_known = event.type in SIGNAL_TYPES or event.type in LIFECYCLE_TYPES
        self._counter.labels(event.type if is_known else "other", error.type if error else "ok").inc()


def _error_reply(error: EventError, cause: str | None) -> Reply:
    return Reply(
        error.status, error.body, ((ERROR_HEADER, "1"),), error_id=error.type, cause=cause or error.message
    )


def _read(body: bytes) -> tuple[WebhookEvent | None, InvalidBodyError | None]:
    """Return the event, or the fault in the body, which is reported only after the credentials are checked."""
    try:
        return read(body), None
    except InvalidBodyError as error:
        return None, error


class _Deprecations:
    """Logs once that the version in use has a deprecation date."""

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
