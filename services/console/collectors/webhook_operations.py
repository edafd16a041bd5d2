"""The operations for operators of `integrations`: its backlog, the deliveries to webhooks, and replay."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from chassis.errors import (
    ConflictError,
    InvalidBodyError,
    InvalidQueryParameterError,
    NotFoundError,
    QuotingError,
    TooManyRequestsError,
    UnavailableError,
)
from console.collectors.service_client import ServiceClient, ServiceReply

SERVICE: Final = "integrations"
ROOT: Final = "/v1/operations"
PERSON_HEADER: Final = "Quotes-Operator"
"""Header with the name of the console's user; `integrations` logs it."""
FRESH_SECONDS: Final = 1.5
SUCCESS_BELOW: Final = 300
REJECTED: Final = (401, 403)

_ERRORS: Final[Mapping[int, type[QuotingError]]] = {
    400: InvalidQueryParameterError,
    404: NotFoundError,
    409: ConflictError,
}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Backlog:
    """The last backlog that was read, or None, and the problem if it could not be read again.

    `age_seconds` counts from the time when it was read.
    """

    figures: Json | None
    age_seconds: float
    problem: str | None


class WebhookOperations:
    """Calls `integrations` with the console's credentials; ids are UUIDs. All methods raise UnavailableError if there is no response.

    They also raise the errors of `integrations`: NotFoundError, ConflictError, TooManyRequestsError, and
    InvalidQueryParameterError for a query that the user typed.
    """

    def __init__(self, client: ServiceClient) -> None:
        self._client = client
        self._figures: Json | None = None
        self._problem: str | None = None
        self._read_at = 0.0
        self._tried_at = -FRESH_SECONDS
        self._reading = asyncio.Lock()

    async def backlog(self) -> Backlog:
        """Return the backlog, which is read at most once in FRESH_SECONDS however many pages show it. Raises nothing."""
        async with self._reading:
            if time.monotonic() - self._tried_at >= FRESH_SECONDS:
                await self._read_backlog()
        return Backlog(self._figures, time.monotonic() - self._read_at, self._problem)

    async def _read_backlog(self) -> None:
        try:
            self._figures = await self._call("GET", "/backlog")
        except QuotingError as error:
            self._problem = error.message
        else:
            self._problem = None
            self._read_at = time.monotonic()
        self._tried_at = time.monotonic()

    async def integrations(self, query: Mapping[str, str]) -> Json:
        return await self._call("GET", "/integrations", query=query)

    async def integration(self, id_: str) -> Json:
        return await self._call("GET", _path(id_))

    async def deliveries(self, id_: str, query: Mapping[str, str]) -> Json:
        return await self._call("GET", f"{_path(id_)}/deliveries", query=query)

    async def delivery(self, id_: str, event_id: str) -> Json:
        return await self._call("GET", f"{_path(id_)}/deliveries/{event_id}")

    async def failed(self, id_: str, query: Mapping[str, str]) -> Json:
        """Return the events that `replay_failed` would send now, and those that it would not."""
        return await self._call("GET", f"{_path(id_)}/replays", query=query)

    async def resume(self, id_: str, person: str) -> None:
        await self._call("POST", f"{_path(id_)}/resume", person=person)

    async def retry_now(self, id_: str, person: str) -> None:
        await self._call("POST", f"{_path(id_)}/retry", person=person)

    async def replay(self, id_: str, event_id: str, person: str) -> None:
        await self._call("POST", f"{_path(id_)}/deliveries/{event_id}/replay", person=person)

    async def replay_failed(self, id_: str, body: Mapping[str, str], person: str) -> Json:
        return await self._call("POST", f"{_path(id_)}/replays", body=body, person=person)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
        person: str | None = None,
    ) -> Json:
        headers = None if person is None else {PERSON_HEADER: quote(person)}
        reply = await self._client.request(
            SERVICE, method, ROOT + path, query=query, body=body, headers=headers
        )
        if reply.status >= SUCCESS_BELOW:
            raise _error(reply, has_body=body is not None)
        found = reply.json()
        if not isinstance(found, dict):
            raise UnavailableError(f"{SERVICE} sent a response that is not a JSON object.")
        return found


def _path(id_: str) -> str:
    return f"/integrations/{id_}"


def _error(reply: ServiceReply, *, has_body: bool) -> QuotingError:
    """Return the error of `integrations` as one of the console's."""
    if reply.status in REJECTED:
        return UnavailableError(
            f"{SERVICE} rejects the console's credentials. Name the console's user in QUOTES_OPERATORS of {SERVICE}."
        )
    found = reply.json()
    message = found.get("message") if isinstance(found, dict) else None
    text = message if isinstance(message, str) else f"{SERVICE} answered with the status {reply.status}."
    if reply.status == TooManyRequestsError.status:
        return TooManyRequestsError(text)
    kind = _ERRORS.get(reply.status, UnavailableError)
    return InvalidBodyError(text) if has_body and kind is InvalidQueryParameterError else kind(text)
