"""What partners and users do with integrations. The JSON API and the page both call this, and nothing else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import asyncpg
import orjson

from chassis.database import Connection, Database
from chassis.errors import ConflictError, Fault, InvalidBodyError, NotFoundError, TooManyRequestsError
from integrations.delivery import outbox
from integrations.delivery.dispatcher import Dispatcher
from integrations.encryption import Encryption, new_secret
from integrations.events import LIVES_SECONDS, SIGNALS, EventType, StrategyData
from integrations.notification_texts import Notification, may_stay_open, tell
from integrations.timestamps import iso
from integrations.webhook.ssrf_guard import SsrfGuard

MAX_PENDING: Final = 20
MAX_LIVE: Final = 100
MAX_LISTED: Final = 200
MAX_REPLAYS: Final = 10
OVERLAP_SECONDS: Final = 86_400.0
LIVE: Final = ("APPROVED", "PAUSED")

T = TypeVar("T")

CREATE: Final = """
INSERT INTO integration (id, user_email, name, description, image_url, url, headers, secret)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

COUNT: Final = (
    "SELECT count(*) FROM integration WHERE lower(user_email) = lower($1) AND state = ANY($2::text[])"
)

ONE_AT_A_TIME: Final = "SELECT pg_advisory_xact_lock(hashtext('integrations.user'), hashtext(lower($1)))"

LOCK: Final = """
SELECT id, name, description, state FROM integration WHERE id = $1 AND lower(user_email) = lower($2)
FOR NO KEY UPDATE
"""

SET_STATE: Final = """
UPDATE integration SET state = $2, changed = clock_timestamp(), failures = 0, failing_since = NULL WHERE id = $1
"""

LIST: Final = """
SELECT i.id, i.state, i.name, i.description, i.image_url, i.url, i.headers, i.created,
    coalesce((
        SELECT array_agg(strategy_id ORDER BY strategy_id) FROM lane
        WHERE integration_id = i.id AND is_enabled
    ), '{}') AS strategies
FROM integration i WHERE lower(i.user_email) = lower($1) AND ($2::uuid IS NULL OR i.id = $2)
ORDER BY i.state = ANY($4::text[]) DESC, i.created DESC, i.id DESC LIMIT $3
"""

STRATEGIES: Final = """
SELECT s.id, s.name,
    coalesce((
        SELECT array_agg(l.integration_id ORDER BY l.id) FROM lane l
        WHERE l.strategy_id = s.id AND l.is_enabled
    ), '{}') AS integrations
FROM strategy s WHERE lower(s.user_email) = lower($1) ORDER BY s.id LIMIT $2
"""

STRATEGY: Final = "SELECT id, name FROM strategy WHERE id = $1 AND lower(user_email) = lower($2)"

ROTATE: Final = """
UPDATE integration SET previous_secret = secret, secret = $2, revision = revision + 1,
    previous_until = clock_timestamp() + make_interval(secs => $3)
WHERE id = $1 AND ($4::integer IS NULL OR revision = $4)
RETURNING id
"""

OWNED: Final = "SELECT revision FROM integration WHERE id = $1 AND lower(user_email) = lower($2)"

DELIVERIES: Final = """
SELECT e.id, e.type, e.timestamp_ms, e.data, e.state, e.created, e.expires, e.log, l.strategy_id
FROM event e JOIN lane l ON l.id = e.lane_id
WHERE e.integration_id = $1
    AND ($2::text IS NULL OR e.state = $2) AND ($3::text IS NULL OR e.type = $3)
    AND ($4::text IS NULL OR l.strategy_id = $4)
    AND ($5::uuid IS NULL OR (e.created, e.id) < (SELECT b.created, b.id FROM event b WHERE b.id = $5))
ORDER BY e.created DESC, e.id DESC LIMIT $6
"""

LOCK_LANE: Final = """
SELECT l.id, l.strategy_id, l.is_enabled FROM lane l
WHERE l.id = (SELECT lane_id FROM event WHERE id = $1 AND integration_id = $2) FOR NO KEY UPDATE
"""

EVENT: Final = """
SELECT e.seq, e.type, e.state, e.replays,
    EXISTS (
        SELECT FROM event n WHERE n.lane_id = e.lane_id AND (n.seq, n.take) > (e.seq, e.take)
            AND (n.tries > 0 OR n.state = 'WAITING') AND (n.type = ANY($2::text[]) OR l.strategy_id = '')
    ) AS is_overtaken
FROM event e JOIN lane l ON l.id = e.lane_id WHERE e.id = $1
"""

# to the end of its lane: nothing that matters has come after it
REPLAY: Final = """
WITH l AS (UPDATE lane SET last_seq = last_seq + 1 WHERE id = $2 RETURNING last_seq)
UPDATE event SET seq = l.last_seq, take = 0, state = 'WAITING', tries = 0, first_try = NULL, is_told = false,
    replays = replays + 1, expires = clock_timestamp() + make_interval(secs => $3)
FROM l WHERE id = $1
"""


@dataclass(frozen=True, slots=True)
class CreatedIntegration:
    """A new request, and the secret its events will be signed with, which is told this once."""

    id: UUID
    signing_secret: str


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Which deliveries; None is any. `before` is the id of the last one of the page before."""

    state: str | None = None
    type: str | None = None
    strategy_id: str | None = None
    before: UUID | None = None
    limit: int = 50


@dataclass(slots=True)
class Operations:
    """Each is one transaction. Users are named by e-mail; what is another's is not found.

    All raise UnavailableError where the database is away.
    """

    database: Database
    vault: Encryption
    guard: SsrfGuard
    deliverer: Dispatcher

    async def request(self, body: Mapping[str, Any]) -> CreatedIntegration:
        """A partner's request, which the user has to approve (guide, Creating an Integration).

        Raises InvalidBodyError for a webhook that may not be, TooManyRequestsError where too many requests
        wait for this e-mail's user, whether there is one or not.
        """
        url = body["webhook"]["url"]
        fault = self.guard.fault(url)
        if fault is not None:
            raise InvalidBodyError(faults=[Fault("webhook.url", fault, url)])
        created = CreatedIntegration(uuid4(), new_secret())
        email = body["userEmail"]

        async def work(connection: Connection) -> None:
            await connection.execute(ONE_AT_A_TIME, email)
            if await connection.fetchval(COUNT, email, ["PENDING"]) >= MAX_PENDING:
                raise TooManyRequestsError("Too many requests wait for this userEmail.", retry_after=3_600)
            await connection.execute(
                CREATE,
                created.id,
                email,
                body["name"],
                body["description"],
                body["imageUrl"],
                url,
                self.vault.seal_headers(body["webhook"]["headers"]),
                self.vault.seal(created.signing_secret),
            )

        await self.database.transaction(work)
        return created

    async def integrations(self, user: str, only: UUID | None = None) -> list[dict[str, Any]]:
        """The user's integrations, the newest first; header values are in none of them.

        What has ended comes after all that has not: there may be more of it than are listed.
        """
        rows = await self.database.fetch(LIST, user, only, MAX_LISTED, ["PENDING", *LIVE])
        return [self._integration(row) for row in rows]

    async def integration(self, user: str, id_: UUID) -> dict[str, Any]:
        """Raises NotFoundError."""
        found = await self.integrations(user, id_)
        if not found:
            raise NotFoundError("There is no such integration.")
        return found[0]

    async def strategies(self, user: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(STRATEGIES, user, MAX_LISTED)
        return [
            {
                "id": row["id"],
                "name": row["name"],
                "integrations": [str(each) for each in row["integrations"]],
            }
            for row in rows
        ]

    async def approve(self, user: str, id_: UUID) -> None:
        """Raises NotFoundError; ConflictError unless PENDING, or where the user has as many as may be."""

        async def work(connection: Connection) -> None:
            await connection.execute(ONE_AT_A_TIME, user)
            if await connection.fetchval(COUNT, user, LIVE) >= MAX_LIVE:
                raise ConflictError(f"There are {MAX_LIVE} integrations already.")
            await _change(connection, user, id_, ("PENDING",), "APPROVED")
            await outbox.append(connection, id_, EventType.INTEGRATION_APPROVED)

        await self._change(id_, work)

    async def reject(self, user: str, id_: UUID) -> None:
        """Raises NotFoundError; ConflictError unless PENDING."""

        async def work(connection: Connection) -> None:
            await _change(connection, user, id_, ("PENDING",), "REJECTED")
            await outbox.append(connection, id_, EventType.INTEGRATION_REJECTED)

        await self._change(id_, work)

    async def resume(self, user: str, id_: UUID) -> None:
        """Raises NotFoundError; ConflictError unless PAUSED. Strategies stay disabled until they are enabled."""

        async def work(connection: Connection) -> None:
            await _change(connection, user, id_, ("PAUSED",), "APPROVED")

        await self._change(id_, work)

    async def delete(self, user: str, id_: UUID) -> None:
        """Cancels all that waits, and tells the user what may stay open at the other end.

        Raises NotFoundError; ConflictError unless APPROVED or PAUSED.
        """

        async def work(connection: Connection) -> None:
            row = await _change(connection, user, id_, LIVE, "DELETED")
            open_ones = await outbox.end(connection, id_)
            if open_ones:
                text = may_stay_open(row["name"], row["description"], open_ones)
                await tell(connection, [Notification(id_, None, "Deleted", text)])

        await self._change(id_, work)

    async def revision(self, user: str, id_: UUID) -> int:
        """Which signing secret is in force: another number for each. Raises NotFoundError."""
        rows = await self.database.fetch(OWNED, id_, user)
        if not rows:
            raise NotFoundError("There is no such integration.")
        revision: int = rows[0]["revision"]
        return revision

    async def rotate_secret(self, user: str, id_: UUID, revision: int | None = None) -> str:
        """A new signing secret; events are signed with the one before it, too, for a day.

        With a `revision` that one alone is replaced: twice would end the day of the one that is in use.
        Raises NotFoundError; ConflictError where no events may come any more, or another secret is in force.
        """
        secret = new_secret()

        async def work(connection: Connection) -> None:
            await _lock(connection, user, id_, ("PENDING", *LIVE))
            sealed = self.vault.seal(secret)
            if await connection.fetchrow(ROTATE, id_, sealed, OVERLAP_SECONDS, revision) is None:
                raise ConflictError("A new signing secret has been made already.")
            await outbox.renew(connection, id_)

        await self._change(id_, work)
        return secret

    async def enable(self, user: str, id_: UUID, strategy_id: str) -> None:
        """Signals of the strategy go to the integration; again changes nothing.

        Raises NotFoundError; ConflictError unless APPROVED.
        """

        async def work(connection: Connection) -> None:
            strategy = await _strategy(connection, user, strategy_id)
            await _lock(connection, user, id_, ("APPROVED",))
            await outbox.enable(connection, id_, strategy)

        await self._change(id_, work, is_alarm=False)

    async def disable(self, user: str, id_: UUID, strategy_id: str) -> None:
        """Signals of the strategy go there no more; again changes nothing.

        Raises NotFoundError; ConflictError unless APPROVED.
        """

        async def work(connection: Connection) -> None:
            await _strategy(connection, user, strategy_id)
            await _lock(connection, user, id_, ("APPROVED",))
            await outbox.disable(connection, id_, strategy_id)

        await self._change(id_, work)

    async def deliveries(self, user: str, id_: UUID, query: DeliveryQuery) -> list[dict[str, Any]]:
        """The attempt log, the newest event first. Raises NotFoundError."""
        if not await self.database.fetch(OWNED, id_, user):
            raise NotFoundError("There is no such integration.")
        rows = await self.database.fetch(
            DELIVERIES, id_, query.state, query.type, query.strategy_id, query.before, query.limit
        )
        return [_delivery(row) for row in rows]

    async def replay(self, user: str, id_: UUID, event_id: UUID) -> None:
        """Sends an event again, with the same webhook-id, and a life of its own.

        Raises NotFoundError; ConflictError where it is still under way, a later signal was sent or is to be
        sent, the strategy is disabled, or it was sent again often enough.
        """

        async def work(connection: Connection) -> None:
            await _lock(connection, user, id_, None)
            lane = await connection.fetchrow(LOCK_LANE, event_id, id_)
            if lane is None:
                raise NotFoundError("There is no such event.")
            if lane["strategy_id"] and not lane["is_enabled"]:
                raise ConflictError("The strategy is disabled.")
            event = await connection.fetchrow(EVENT, event_id, list(SIGNALS))
            assert event is not None  # noqa: S101 - its lane is locked
            if event["state"] == "WAITING":
                raise ConflictError("The event is still being sent.")
            if event["is_overtaken"]:
                raise ConflictError("A later signal has been sent, or is being sent.")
            if event["replays"] >= MAX_REPLAYS:
                raise ConflictError(f"The event has been sent again {MAX_REPLAYS} times.")
            await connection.execute(REPLAY, event_id, lane["id"], LIVES_SECONDS[event["type"]])

        await self._change(id_, work, is_alarm=False)

    async def _change(
        self, id_: UUID, work: Callable[[Connection], Awaitable[None]], *, is_alarm: bool = True
    ) -> None:
        """Does it, and has workers take it up."""

        async def and_tell(connection: Connection) -> None:
            await work(connection)
            if not self.deliverer.has_room:
                await outbox.ready(connection)

        await self.database.transaction(and_tell)
        if is_alarm:
            self.deliverer.changed(id_)
        self.deliverer.wake()

    def _integration(self, row: asyncpg.Record) -> dict[str, Any]:
        return {
            "id": str(row["id"]),
            "status": row["state"],
            "name": row["name"],
            "description": row["description"],
            "imageUrl": row["image_url"],
            "webhook": {"url": row["url"], "headerNames": list(self.vault.open_headers(row["headers"]))},
            "created": iso(row["created"]),
            "strategies": list(row["strategies"]),
        }


async def _lock(connection: Connection, user: str, id_: UUID, states: Sequence[str] | None) -> asyncpg.Record:
    """The integration's row, locked. Raises NotFoundError, ConflictError."""
    row = await connection.fetchrow(LOCK, id_, user)
    if row is None:
        raise NotFoundError("There is no such integration.")
    if states is not None and row["state"] not in states:
        raise ConflictError(f"The integration is {row['state']}.")
    return row


async def _change(
    connection: Connection, user: str, id_: UUID, states: Sequence[str], state: str
) -> asyncpg.Record:
    """Raises NotFoundError; ConflictError unless the integration is in one of these states."""
    row = await _lock(connection, user, id_, states)
    await connection.execute(SET_STATE, id_, state)
    return row


async def _strategy(connection: Connection, user: str, strategy_id: str) -> StrategyData:
    row = await connection.fetchrow(STRATEGY, strategy_id, user)
    if row is None:
        raise NotFoundError("There is no such strategy.")
    return StrategyData(row["id"], row["name"])


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    created: datetime = row["created"]
    return {
        "eventId": str(row["id"]),
        "type": row["type"],
        "strategyId": row["strategy_id"] or None,
        "timestamp": row["timestamp_ms"],
        "data": None if row["data"] is None else orjson.Fragment(row["data"]),
        "state": row["state"],
        "created": iso(created),
        "expires": iso(row["expires"]),
        "attempts": orjson.loads(row["log"]),
    }
