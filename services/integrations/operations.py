"""Operations of partners and users on integrations. The JSON API and the user's page both call them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

from chassis.database import Connection, Database
from chassis.errors import ConflictError, Fault, InvalidBodyError, NotFoundError, TooManyRequestsError
from chassis.users import key_of
from integrations import notification_texts, repository
from integrations.delivery import outbox
from integrations.delivery.dispatcher import Dispatcher
from integrations.delivery.retry_policy import LIFETIME_SECONDS
from integrations.encryption import Encryption
from integrations.events import SIGNALS, EventType, StrategyData, signal_data, strategy_data
from integrations.notifications import Notification, insert_notifications
from integrations.timestamps import iso
from integrations.webhook.signing import new_signing_secret
from integrations.webhook.ssrf_guard import SsrfGuard

MAX_PENDING: Final = 20
MAX_LIVE: Final = 100
MAX_LISTED: Final = 200
MAX_REPLAYS: Final = 10
SECRET_OVERLAP_SECONDS: Final = 86_400.0
PENDING_RETRY_SECONDS: Final = 3_600
LIVE_STATES: Final = ("APPROVED", "PAUSED")
NOT_ENDED_STATES: Final = ("PENDING", *LIVE_STATES)


@dataclass(frozen=True, slots=True)
class CreatedIntegration:
    """A newly requested integration, and its signing secret. No later response contains the secret again."""

    id: UUID
    signing_secret: str


@dataclass(frozen=True, slots=True)
class DeliveryQuery:
    """Filter for the attempt log. None matches every event. `before` is the last event of the previous page."""

    state: str | None = None
    type: str | None = None
    strategy_id: str | None = None
    before: UUID | None = None
    event: UUID | None = None
    limit: int = 50


@dataclass(slots=True)
class Operations:
    """Each operation runs in one transaction. `user` is the user's e-mail address.

    Operations do not find integrations of other users. All raise UnavailableError while the database is away.
    """

    database: Database
    encryption: Encryption
    guard: SsrfGuard
    dispatcher: Dispatcher

    async def request(self, body: Mapping[str, Any]) -> CreatedIntegration:
        """Store a partner's request for an integration, which the user has to approve (guide, Creating an Integration).

        Raises InvalidBodyError if the webhook's URL is not allowed. Raises TooManyRequestsError if MAX_PENDING requests
        for this e-mail address already wait for approval, even if no user has this address.
        """
        url = body["webhook"]["url"]
        fault = self.guard.url_fault(url)
        if fault is not None:
            raise InvalidBodyError(faults=[Fault("webhook.url", fault, url)])
        created = CreatedIntegration(uuid4(), new_signing_secret())
        email = key_of(body["userEmail"])

        async def work(connection: Connection) -> None:
            await connection.execute(repository.LOCK_USER, email)
            if await connection.fetchval(repository.COUNT_BY_STATE, email, ["PENDING"]) >= MAX_PENDING:
                raise TooManyRequestsError(
                    f"{MAX_PENDING} requests already wait for approval by this userEmail. Ask the user to answer them.",
                    retry_after=PENDING_RETRY_SECONDS,
                )
            await connection.execute(
                repository.INSERT_INTEGRATION,
                created.id,
                email,
                body["name"],
                body["description"],
                body["imageUrl"],
                url,
                self.encryption.encrypt_headers(body["webhook"]["headers"]),
                self.encryption.encrypt(created.signing_secret),
            )

        await self.database.transaction(work)
        return created

    async def integrations(self, user: str, only: UUID | None = None) -> list[dict[str, Any]]:
        """Return the user's integrations, the newest first. Header values are left out.

        Rejected and deleted integrations come last, because the list has at most MAX_LISTED entries.
        """
        rows = await self.database.fetch(
            repository.INTEGRATIONS, key_of(user), only, MAX_LISTED, NOT_ENDED_STATES
        )
        return [self._integration(row) for row in rows]

    async def integration(self, user: str, id_: UUID) -> dict[str, Any]:
        """Raises NotFoundError."""
        found = await self.integrations(user, id_)
        if not found:
            raise _no_integration()
        return found[0]

    async def strategies(self, user: str) -> list[dict[str, Any]]:
        rows = await self.database.fetch(repository.STRATEGIES, key_of(user), MAX_LISTED)
        return [
            {
                "id": row["id"],
                "name": row["name"],
                "integrations": [str(each) for each in row["integrations"]],
            }
            for row in rows
        ]

    async def approve(self, user: str, id_: UUID) -> None:
        """Approve an integration.

        Raises NotFoundError; ConflictError if it is not PENDING or the user has MAX_LIVE already.
        """

        async def work(connection: Connection) -> None:
            await connection.execute(repository.LOCK_USER, key_of(user))
            count = await connection.fetchval(repository.COUNT_BY_STATE, key_of(user), LIVE_STATES)
            if count >= MAX_LIVE:
                raise ConflictError(
                    f"You have {MAX_LIVE} integrations, the maximum. Delete one before you approve another."
                )
            await _set_state(connection, user, id_, ("PENDING",), "APPROVED")
            await outbox.append(connection, id_, EventType.INTEGRATION_APPROVED)

        await self.commit(id_, work)

    async def reject(self, user: str, id_: UUID) -> None:
        """Reject an integration. Raises NotFoundError; ConflictError if it is not PENDING."""

        async def work(connection: Connection) -> None:
            await _set_state(connection, user, id_, ("PENDING",), "REJECTED")
            await outbox.append(connection, id_, EventType.INTEGRATION_REJECTED)

        await self.commit(id_, work)

    async def resume(self, user: str | None, id_: UUID) -> None:
        """Resume a paused integration. Its strategies stay disabled until the user enables them.

        `user` is None for an operator, who may resume the integrations of all users. Raises NotFoundError; ConflictError
        if the integration is not PAUSED.
        """

        async def work(connection: Connection) -> None:
            await _set_state(connection, user, id_, ("PAUSED",), "APPROVED")

        await self.commit(id_, work)

    async def delete(self, user: str, id_: UUID) -> None:
        """Delete an integration, cancel its waiting events, and notify the user of positions that may still be open.

        Raises NotFoundError; ConflictError if the integration is neither APPROVED nor PAUSED.
        """

        async def work(connection: Connection) -> None:
            row = await _set_state(connection, user, id_, LIVE_STATES, "DELETED")
            positions = await outbox.delete(connection, id_)
            if positions:
                text = notification_texts.may_stay_open(row["name"], row["description"], positions)
                await insert_notifications(connection, [Notification(id_, None, "Deleted", text)])

        await self.commit(id_, work)

    async def revision(self, user: str, id_: UUID) -> int:
        """Return the number of the current signing secret, which grows with each new one. Raises NotFoundError."""
        rows = await self.database.fetch(repository.REVISION, id_, key_of(user))
        if not rows:
            raise _no_integration()
        revision: int = rows[0]["revision"]
        return revision

    async def rotate_secret(self, user: str, id_: UUID, revision: int | None = None) -> str:
        """Create and return a new signing secret. For one day, events are also signed with the previous secret.

        With `revision`, this succeeds only if it is the number of the current secret: a form that is sent twice must
        not create two secrets. Raises NotFoundError; ConflictError if the number differs, or the integration was
        rejected or deleted.
        """
        secret = new_signing_secret()

        async def work(connection: Connection) -> None:
            await _lock(connection, user, id_, NOT_ENDED_STATES)
            encrypted = self.encryption.encrypt(secret)
            rotated = await connection.fetchrow(
                repository.ROTATE, id_, encrypted, SECRET_OVERLAP_SECONDS, revision
            )
            if rotated is None:
                raise ConflictError("A new signing secret has been made already. Load the page again.")
            await outbox.renew_secrets(connection, id_)

        await self.commit(id_, work)
        return secret

    async def enable(self, user: str, id_: UUID, strategy_id: str) -> None:
        """Enable the integration for a strategy, so that it gets the signals. Does nothing if it is enabled already.

        Raises NotFoundError; ConflictError if the integration is not APPROVED.
        """

        async def work(connection: Connection) -> None:
            strategy = await _strategy(connection, user, strategy_id)
            await _lock(connection, user, id_, ("APPROVED",))
            await outbox.enable(connection, id_, strategy)

        await self.commit(id_, work, invalidates=False)

    async def disable(self, user: str, id_: UUID, strategy_id: str) -> None:
        """Disable the integration for a strategy: it gets no more signals. Does nothing if it is disabled already.

        Raises NotFoundError; ConflictError if the integration is not APPROVED.
        """

        async def work(connection: Connection) -> None:
            await _strategy(connection, user, strategy_id)
            await _lock(connection, user, id_, ("APPROVED",))
            await outbox.disable(connection, id_, strategy_id)

        await self.commit(id_, work)

    async def deliveries(self, user: str, id_: UUID, query: DeliveryQuery) -> list[dict[str, Any]]:
        """Return the events that match the query, each with its attempts, the newest event first.

        Raises NotFoundError.
        """
        return [_delivery(row) for row in await self._deliveries(user, id_, query)]

    async def deliveries_for_page(self, user: str, id_: UUID, query: DeliveryQuery) -> list[dict[str, Any]]:
        """Return the events that match the query, with their attempts and the fields `summary` and `canReplay`.

        Raises NotFoundError.
        """
        return [
            {**_delivery(row), "summary": summary(row), "canReplay": replay_fault(row, row) is None}
            for row in await self._deliveries(user, id_, query)
        ]

    async def _deliveries(self, user: str, id_: UUID, query: DeliveryQuery) -> Sequence[asyncpg.Record]:
        await self.revision(user, id_)
        return await self.database.fetch(
            repository.DELIVERIES,
            id_,
            query.state,
            query.type,
            query.strategy_id,
            query.before,
            query.limit,
            list(SIGNALS),
            query.event,
        )

    async def replay(self, user: str | None, id_: UUID, event_id: UUID) -> None:
        """Send an event again, with the same webhook-id and a new lifetime.

        `user` is None for an operator, who may replay the events of all users. Raises NotFoundError. Raises
        ConflictError if the event is still being sent, if a later signal of its lane was sent or waits, if the strategy
        is disabled, or if the event was sent again MAX_REPLAYS times already.
        """

        async def work(connection: Connection) -> None:
            await _lock(connection, user, id_, None)
            lane = await connection.fetchrow(repository.LOCK_LANE_OF_EVENT, event_id, id_)
            if lane is None:
                raise NotFoundError("There is no such event.")
            event = await connection.fetchrow(repository.EVENT, event_id, list(SIGNALS))
            assert event is not None  # noqa: S101 - its lane is locked
            fault = replay_fault(lane, event)
            if fault is not None:
                raise ConflictError(fault)
            await connection.execute(repository.REPLAY, [event_id], [LIFETIME_SECONDS[event["type"]]])

        await self.commit(id_, work, invalidates=False)

    async def commit(
        self, id_: UUID, work: Callable[[Connection], Awaitable[None]], *, invalidates: bool = True
    ) -> None:
        """Run `work` in a transaction, then wake the workers.

        If `invalidates`, the workers also read their waiting events again, because `work` may have cancelled some.
        """

        async def with_notification(connection: Connection) -> None:
            await work(connection)
            if not self.dispatcher.has_room:
                await outbox.notify_work_ready(connection)

        await self.database.transaction(with_notification)
        if invalidates:
            self.dispatcher.invalidate(id_)
        self.dispatcher.wake()

    def _integration(self, row: asyncpg.Record) -> dict[str, Any]:
        headers = self.encryption.decrypt_headers(row["headers"])
        return {
            "id": str(row["id"]),
            "status": row["state"],
            "name": row["name"],
            "description": row["description"],
            "imageUrl": row["image_url"],
            "webhook": {"url": row["url"], "headerNames": list(headers)},
            "created": iso(row["created"]),
            "strategies": list(row["strategies"]),
        }


def _no_integration() -> NotFoundError:
    return NotFoundError("There is no such integration.")


async def _lock(
    connection: Connection, user: str | None, id_: UUID, states: Sequence[str] | None
) -> asyncpg.Record:
    """Lock the integration's row and return it. It must belong to `user`, unless that is None.

    Raises NotFoundError; ConflictError if the integration's state is not in `states`.
    """
    row = await connection.fetchrow(repository.LOCK_INTEGRATION, id_, user and key_of(user))
    if row is None:
        raise _no_integration()
    if states is not None and row["state"] not in states:
        raise ConflictError(
            f"The integration is {row['state']}, and this needs an integration that is {' or '.join(states)}."
        )
    return row


async def _set_state(
    connection: Connection, user: str | None, id_: UUID, states: Sequence[str], state: str
) -> asyncpg.Record:
    """Set the state of an integration and return its row.

    Raises NotFoundError; ConflictError if its state is not in `states`.
    """
    row = await _lock(connection, user, id_, states)
    await connection.execute(repository.SET_STATE, id_, state)
    return row


async def _strategy(connection: Connection, user: str, strategy_id: str) -> StrategyData:
    row = await connection.fetchrow(repository.STRATEGY, strategy_id, key_of(user))
    if row is None:
        raise NotFoundError("There is no such strategy.")
    return StrategyData(row["id"], row["name"])


def replay_fault(lane: asyncpg.Record, event: asyncpg.Record) -> str | None:
    """Return the reason why an event cannot be sent again; None if it can."""
    if lane["strategy_id"] and not lane["is_enabled"]:
        return "The integration is disabled for this strategy. Enable it first."
    if event["state"] == "WAITING":
        return "The event is still being sent."
    if event["is_overtaken"]:
        return "A later event was sent, or waits to be sent. This one would arrive out of order."
    if event["replays"] >= MAX_REPLAYS:
        return f"The event was sent again {MAX_REPLAYS} times, the maximum."
    return None


def summary(row: asyncpg.Record) -> str:
    """Return a short text that names the event's signal or strategy."""
    if row["data"] is None:
        return ""
    if not row["type"].startswith("SIGNAL_"):
        return strategy_data(row["data"]).name
    signal = signal_data(row["data"])
    quantity = bytes(signal.quantity).decode()
    return f"{signal.direction} {quantity} {signal.ticker} for {signal.strategy.name}"


def _delivery(row: asyncpg.Record) -> dict[str, Any]:
    return {
        "eventId": str(row["id"]),
        "type": row["type"],
        "strategyId": row["strategy_id"] or None,
        "timestamp": row["timestamp_ms"],
        "data": None if row["data"] is None else orjson.Fragment(row["data"]),
        "state": row["state"],
        "created": iso(row["created"]),
        "expires": iso(row["expires"]),
        "attempts": [
            {name: value for name, value in each.items() if name != "response"}
            for each in orjson.loads(row["log"])
        ],
    }
