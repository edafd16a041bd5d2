"""Operations of operators, who see the deliveries of all users' integrations and repair them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from yarl import URL

from chassis.database import Connection, Database
from chassis.errors import NotFoundError
from integrations import operator_repository as sql
from integrations import repository
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.encryption import DecryptionError, Encryption
from integrations.events import CanonicalEvent, IntegrationData, WebhookData, render
from integrations.operations import MAX_REPLAYS, Operations, replay_fault, summary
from integrations.replays import FailedEvent, ReplayLimit, plan
from integrations.timestamps import iso
from integrations.webhook.client import USER_AGENT, WebhookClient
from integrations.webhook.response_excerpt import HIDDEN

MAX_LANES: Final = 10_000
MAX_LANE_EVENTS: Final = 1_000
MAX_WAITING: Final = 100_000
"""Maximum number of waiting events that are counted."""
MAX_IN_TROUBLE: Final = 50
MAX_LANES_SHOWN: Final = 200
MAX_EXAMINED: Final = 10_000
"""Maximum number of an integration's events that one call looks at."""
MAX_EXAMINED_FOR_FAILURE: Final = 50
FAILED_STATES: Final = ("FAILED", "EXPIRED")
_REPLACED: Final = "A CLOSE of the earlier position was sent in its place."


@dataclass(frozen=True, slots=True)
class Place:
    """Place of a row in a list that is sorted by a time and an id, the newest first."""

    at: datetime
    id: UUID


@dataclass(frozen=True, slots=True)
class IntegrationQuery:
    """Filter for integrations. None matches all. `after` is the last row of the page before."""

    state: str | None
    user_email: str | None
    after: Place | None
    limit: int


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Filter for an integration's events. None matches all. `after` is the last event of the page before."""

    state: str | None
    type: str | None
    strategy_id: str | None
    since: datetime | None
    after: Place | None
    limit: int


@dataclass(frozen=True, slots=True)
class FailedQuery:
    """The failed events that are to be sent again: those in `states` that were created at or after `since`.

    Events that were created or sent again after `until` are left out, so a repeated call with the same `until` sends no
    event a second time. None means the present.
    """

    since: datetime
    until: datetime | None
    states: Sequence[str]


@dataclass(slots=True)
class OperatorOperations:
    """Operations for operators; the caller has checked that the user is one.

    All methods raise UnavailableError while the database is away.
    """

    database: Database
    encryption: Encryption
    client: WebhookClient
    operations: Operations
    limit: ReplayLimit

    async def backlog(self) -> dict[str, Any]:
        """Return how many events wait, and the integrations in trouble.

        An integration is in trouble if it is paused, fails, or has waiting events. The oldest waiting event comes
        first.
        """
        fetch = self.database.fetch
        rows = await fetch(sql.BACKLOG, MAX_LANES, MAX_LANE_EVENTS, MAX_WAITING, MAX_IN_TROUBLE)
        counts = (await fetch(sql.COUNT_IN_TROUBLE))[0]
        in_trouble = [row["id"] for row in await fetch(sql.IDS_IN_TROUBLE, MAX_IN_TROUBLE)]
        backlogs = {row["integration_id"]: row for row in rows}
        ids = list(dict.fromkeys([*backlogs, *in_trouble]))
        found = {row["id"]: row for row in await fetch(sql.INTEGRATIONS_BY_ID, ids)}
        now = (await fetch(sql.NOW))[0]["now"]
        first = rows[0] if rows else None
        is_complete = first is None or (
            first["total_waiting"] < MAX_WAITING and first["examined_lanes"] < MAX_LANES
        )
        failures = await self._last_failures(ids)
        return {
            "at": iso(now),
            "waiting": first["total_waiting"] if first else 0,
            "lanes": first["total_lanes"] if first else 0,
            "oldestWaiting": iso(first["oldest"]) if first else None,
            "paused": counts["paused"],
            "failing": counts["failing"],
            "isComplete": is_complete,
            "integrations": [
                _integration(found[each], failures.get(each), backlogs.get(each))
                for each in ids
                if each in found
            ],
        }

    async def integrations(self, query: IntegrationQuery) -> dict[str, Any]:
        """Return a page of integrations, the one whose state changed last first."""
        place = (query.after.at, query.after.id) if query.after else (None, None)
        more: tuple[str | None, ...] = ()
        if query.user_email is not None:
            statement, more = sql.INTEGRATIONS_BY_USER, (query.user_email, query.state)
        elif query.state is not None:
            statement, more = sql.INTEGRATIONS_BY_STATE, (query.state,)
        else:
            statement = sql.INTEGRATIONS
        rows = await self.database.fetch(statement, *place, query.limit + 1, *more)
        page = rows[: query.limit]
        failures = await self._last_failures([row["id"] for row in page])
        return {
            "integrations": [_integration(row, failures.get(row["id"])) for row in page],
            "next": Place(page[-1]["changed"], page[-1]["id"]) if len(rows) > query.limit else None,
        }

    async def integration(self, id_: UUID) -> dict[str, Any]:
        """Return one integration with its lanes. Raises NotFoundError."""
        rows = await self.database.fetch(sql.INTEGRATIONS_BY_ID, [id_])
        if not rows:
            raise _no_integration()
        lanes = await self.database.fetch(sql.LANES, id_, MAX_LANE_EVENTS, MAX_LANES_SHOWN)
        backlog = _sum(lanes)
        failures = await self._last_failures([id_])
        return {**_integration(rows[0], failures.get(id_), backlog), "lanes": [_lane(row) for row in lanes]}

    async def deliveries(self, id_: UUID, query: DeliveryFilter) -> dict[str, Any]:
        """Return a page of an integration's events with requests and responses, the newest first.

        One call examines at most MAX_EXAMINED events. So a page may have fewer events than the limit, or none, and yet
        not be the last one. Raises NotFoundError.
        """
        endpoint = await self._endpoint(id_)
        place = (query.after.at, query.after.id) if query.after else (None, None)
        examined = (id_, query.since, *place, MAX_EXAMINED)
        rows = await self.database.fetch(
            sql.DELIVERIES, *examined, query.state, query.type, query.strategy_id, query.limit + 1
        )
        page = rows[: query.limit]
        last = page[-1:] if len(rows) > len(page) else await self.database.fetch(sql.LAST_EXAMINED, *examined)
        return {
            "deliveries": [self._delivery(row, endpoint) for row in page],
            "next": Place(last[0]["created"], last[0]["id"]) if last else None,
        }

    async def delivery(self, id_: UUID, event_id: UUID) -> dict[str, Any]:
        """Return one event of an integration. Raises NotFoundError."""
        endpoint = await self._endpoint(id_)
        rows = await self.database.fetch(sql.DELIVERY, event_id, id_)
        if not rows:
            raise NotFoundError("There is no such event.")
        return self._delivery(rows[0], endpoint)

    async def resume(self, id_: UUID) -> None:
        """Resume a paused integration. Raises NotFoundError, ConflictError."""
        await self.operations.resume(None, id_)

    async def retry_now(self, id_: UUID) -> int:
        """Attempt at once the events that wait for their next attempt; return the number of their lanes.

        Raises NotFoundError, TooManyRequestsError.
        """
        self.limit.take(1)
        lanes: list[int] = []

        async def work(connection: Connection) -> None:
            if await connection.fetchrow(sql.LOCK_INTEGRATION, id_) is None:
                raise _no_integration()
            lanes[:] = [row["id"] for row in await connection.fetch(sql.RETRY_NOW, id_)]

        await self.operations.commit(id_, work, invalidates=False)
        return len(lanes)

    async def replay(self, id_: UUID, event_id: UUID) -> None:
        """Send an event again. Raises NotFoundError, ConflictError, TooManyRequestsError."""
        self.limit.take(1)
        try:
            await self.operations.replay(None, id_, event_id)
        except BaseException:
            self.limit.give_back(1)
            raise

    async def failed(self, id_: UUID, query: FailedQuery) -> dict[str, Any]:
        """Return the numbers of events that `replay_failed` would send now, and would not. Raises NotFoundError."""
        await self._endpoint(id_)

        async def work(connection: Connection) -> dict[str, Any]:
            return await self._plan(connection, id_, query, self.limit.left, is_locked=False)

        return _without_plan(await self.database.transaction(work))

    async def replay_failed(self, id_: UUID, query: FailedQuery) -> dict[str, Any]:
        """Send all failed events again that can be sent in the order of their lanes, up to the limit.

        Raises NotFoundError, TooManyRequestsError.
        """
        room = max(self.limit.left, 1)
        self.limit.take(room)
        used = 0
        done: dict[str, Any] = {}

        async def work(connection: Connection) -> None:
            if await connection.fetchrow(sql.LOCK_INTEGRATION, id_) is None:
                raise _no_integration()
            done.update(await self._plan(connection, id_, query, room, is_locked=True))
            events = done["plan"].events
            if events:
                lifetimes = [LIFETIME_SECONDS[each.type] for each in events]
                await connection.execute(repository.REPLAY, [each.id for each in events], lifetimes)

        try:
            await self.operations.commit(id_, work, invalidates=False)
            used = len(done["plan"].events)
        finally:
            self.limit.give_back(room - used)
        return _without_plan(done)

    async def _plan(
        self, connection: Connection, id_: UUID, query: FailedQuery, room: int, *, is_locked: bool
    ) -> dict[str, Any]:
        now = await connection.fetchval(sql.NOW)
        oldest = await connection.fetchrow(sql.LAST_EXAMINED, id_, query.since, None, None, MAX_EXAMINED)
        since = query.since if oldest is None else oldest["created"]
        until = min(query.until or now, now)
        failed = (since, until, list(query.states))
        lanes = [row["lane_id"] for row in await connection.fetch(sql.LANES_WITH_FAILED, *failed, id_)]
        if is_locked:
            await connection.execute(sql.LOCK_LANES, lanes)
        rows = await connection.fetch(sql.FAILED, *failed, id_, lanes, MAX_REPLAYS)
        chosen = plan([_failed_event(row) for row in rows], room, self.limit.max_at_once)
        return {
            "plan": chosen,
            "since": iso(since),
            "until": iso(until),
            "failed": len(rows),
            "replayed": len(chosen.events),
            "left": chosen.left,
            "retryAfterSeconds": self.limit.seconds if chosen.left else None,
            "skipped": [
                {"reason": reason, "events": count} for reason, count in chosen.skipped.most_common()
            ],
            "isComplete": oldest is None,
        }

    async def _last_failures(self, ids: Sequence[UUID]) -> dict[UUID, asyncpg.Record]:
        rows = await self.database.fetch(sql.LAST_FAILURES, ids, MAX_EXAMINED_FOR_FAILURE)
        return {row["integration_id"]: row for row in rows}

    async def _endpoint(self, id_: UUID) -> IntegrationData:
        """Return the integration as its requests show it, with hidden values. Raises NotFoundError."""
        rows = await self.database.fetch(sql.ENDPOINT, id_)
        if not rows:
            raise _no_integration()
        row = rows[0]
        try:
            names = list(self.encryption.decrypt_headers(row["headers"]))
        except DecryptionError:
            names = []  # its deliveries fail, and the log has the reason
        webhook = WebhookData(_shown_url(row["url"]), dict.fromkeys(names, HIDDEN))
        return IntegrationData(row["name"], row["description"], row["image_url"], webhook)

    def _delivery(self, row: asyncpg.Record, endpoint: IntegrationData) -> dict[str, Any]:
        attempts = [{"response": None, **each} for each in orjson.loads(row["log"])]
        for each in attempts:
            if each["response"] is not None:
                headers = each["response"]["headers"]
                each["response"]["headers"] = [{"name": name, "value": value} for name, value in headers]
        return {
            "eventId": str(row["id"]),
            "integrationId": str(row["integration_id"]),
            "type": row["type"],
            "strategyId": row["strategy_id"] or None,
            "summary": summary(row),
            "state": row["state"],
            "created": iso(row["created"]),
            "expires": iso(row["expires"]),
            "replays": row["replays"],
            "replayFault": replay_fault(row, row),
            "request": self._request(row, endpoint, attempts[-1]["at"] if attempts else None),
            "attempts": attempts,
        }

    def _request(
        self, row: asyncpg.Record, endpoint: IntegrationData, attempted: str | None
    ) -> dict[str, Any]:
        """Return the latest request, made again from the event; before the first attempt, the one that will be sent."""
        at = self.client.now() if attempted is None else datetime.fromisoformat(attempted)
        event = CanonicalEvent(str(row["id"]), row["type"], row["timestamp_ms"], row["data"])
        return {
            "method": "POST",
            "url": endpoint.webhook.url,
            "headers": [
                *({"name": name, "value": value} for name, value in endpoint.webhook.headers.items()),
                {"name": "webhook-id", "value": event.id},
                {"name": "webhook-timestamp", "value": str(int(at.timestamp())) if attempted else None},
                {"name": "webhook-signature", "value": HIDDEN},
                {"name": "Content-Type", "value": "application/json"},
                {"name": "User-Agent", "value": USER_AGENT},
            ],
            "body": render(self.client.versions, event, endpoint, at).decode(),
        }


def _no_integration() -> NotFoundError:
    return NotFoundError("There is no such integration.")


def _without_plan(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "plan"}


def _shown_url(url: str) -> str:
    """Return a webhook's URL without the values of its query, which may be secrets."""
    found = URL(url, encoded=True)
    return f"{found.with_query(None)}?{HIDDEN}" if found.raw_query_string else url


def _failed_event(row: asyncpg.Record) -> FailedEvent:
    fault = replay_fault(row, row) or (_REPLACED if row["is_replaced"] else None)
    return FailedEvent(row["id"], row["type"], row["lane_id"], fault)


def _sum(lanes: Sequence[asyncpg.Record]) -> dict[str, Any]:
    """Return the backlog of some lanes together."""
    waiting = [row for row in lanes if row["waiting"]]
    return {
        "waiting": sum(row["waiting"] for row in waiting),
        "lanes": len(waiting),
        "lanes_in_progress": sum(row["is_in_progress"] for row in waiting),
        "oldest": min((row["oldest"] for row in waiting), default=None),
        "next_attempt": min((row["next_attempt"] for row in waiting if row["next_attempt"]), default=None),
    }


def _integration(
    row: asyncpg.Record,
    failure: asyncpg.Record | None,
    backlog: Mapping[str, Any] | asyncpg.Record | None = None,
) -> dict[str, Any]:
    is_paused = row["state"] == "PAUSED"
    return {
        "id": str(row["id"]),
        "status": row["state"],
        "name": row["name"],
        "description": row["description"],
        "userEmail": row["user_email"],
        "url": _shown_url(row["url"]),
        "created": iso(row["created"]),
        "changed": iso(row["changed"]),
        "pausedSince": iso(row["changed"]) if is_paused else None,
        "pauseReason": row["pause_reason"] if is_paused else None,
        "failures": row["failures"],
        "failingSince": _iso_or_none(row["failing_since"]),
        "lastFailure": None if failure is None else _failure(failure),
        "backlog": None if backlog is None else _backlog(backlog),
    }


def _failure(row: asyncpg.Record) -> dict[str, Any]:
    attempt = orjson.loads(row["attempt"])
    attempt.pop("response", None)
    return {"eventId": str(row["id"]), "type": row["type"], **attempt}


def _backlog(row: Mapping[str, Any] | asyncpg.Record) -> dict[str, Any]:
    return {
        "waiting": row["waiting"],
        "lanes": row["lanes"],
        "lanesInProgress": row["lanes_in_progress"],
        "oldestWaiting": _iso_or_none(row["oldest"]),
        "nextAttempt": _iso_or_none(row["next_attempt"]),
    }


def _lane(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "strategyId": row["strategy_id"] or None,
        "enabled": row["is_enabled"],
        "waiting": row["waiting"],
        "inProgress": row["is_in_progress"],
        "oldestWaiting": _iso_or_none(row["oldest"]),
        "nextAttempt": _iso_or_none(row["next_attempt"]),
    }


def _iso_or_none(at: datetime | None) -> str | None:
    return None if at is None else iso(at)
