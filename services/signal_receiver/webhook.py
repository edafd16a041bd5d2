"""``POST /webhook/{accountToken}``: an event comes in, the guide's answer goes out."""

import asyncio
from typing import Final
from urllib.parse import unquote

from prometheus_client import CollectorRegistry, Counter

from chassis.csrf import refuse_foreign
from chassis.errors import InvalidBodyError, UnavailableError
from chassis.logs import Logs
from chassis.messages import Message, Reply
from signal_receiver.desk import Answer, Delivery, Desk, digest
from signal_receiver.events import OTHER_TYPES, SIGNALS, Event, read
from signal_receiver.refusals import ERROR_HEADER, Refusal

ANSWER_SECONDS: Final = 8.0
"""The provider waits ten; what is late is answered to the same event when it comes again."""
MAX_DEPRECATIONS: Final = 100

CARRIED_OUT: Final = Reply(200, b"")
REFUSED: Final = {
    refusal: Reply(
        refusal.status,
        refusal.body,
        ((ERROR_HEADER, "1"),),
        error_id=refusal.type,
        cause=refusal.message,
    )
    for refusal in Refusal
}


class Webhook:
    """The route. Its caller, for the log, is the account."""

    pattern = "/webhook/{accountToken}"
    is_open = True

    def __init__(self, desk: Desk, logs: Logs, registry: CollectorRegistry) -> None:
        self._desk = desk
        self._counter = Counter("events", "Events answered", ["type", "outcome"], registry=registry)
        self._deprecations = _Deprecations(logs)

    def begin(self, message: Message) -> None:
        refuse_foreign(message.method, message.headers)

    async def answer(self, message: Message) -> Reply:
        body = await message.body()
        event, error = _read(body)
        token = digest(unquote(message.path.rpartition("/")[2]))
        answer = await self._take(Delivery(token, message.headers, body, event.signal if event else error))
        message.caller = answer.account
        if answer.error is not None:
            raise answer.error
        if event is not None:
            self._count(event, answer.refusal)
            if answer.account is not None:
                self._deprecations.look_at(event)
        return CARRIED_OUT if answer.refusal is None else REFUSED[answer.refusal]

    async def _take(self, delivery: Delivery) -> Answer:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._desk.take(delivery)
        except TimeoutError:
            raise UnavailableError("There was no time to carry this out.") from None

    def _count(self, event: Event, refusal: Refusal | None) -> None:
        is_known = event.type in SIGNALS or event.type in OTHER_TYPES
        self._counter.labels(event.type if is_known else "other", refusal.type if refusal else "ok").inc()


def _read(body: bytes) -> tuple[Event | None, InvalidBodyError | None]:
    """The event, or what is wrong with the body: told only to who may send here at all."""
    try:
        return read(body), None
    except InvalidBodyError as error:
        return None, error


class _Deprecations:
    """Says once in the log when the version that is read here has got a date from which it is not sent."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs
        self._said: set[tuple[str, str]] = set()

    def look_at(self, event: Event) -> None:
        if event.deprecation is None or (event.version, event.deprecation) in self._said:
            return
        if len(self._said) < MAX_DEPRECATIONS:
            self._said.add((event.version, event.deprecation))
            self._logs.warning("deprecated", version=event.version, deprecation=event.deprecation[:64])
