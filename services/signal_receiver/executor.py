"""Executes events in batches: one statement reads the accounts of a batch, another one writes the result.

Inbox, positions, funds and trades change together or not at all. So an event that was answered has been executed once,
however often it was sent, and an event without an answer can be sent again. Accounts are not locked between the two
statements, which saves a round trip. If another process has changed an account in between, nothing is written for it,
and its events are executed again with the account locked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import asyncpg

from chassis.batching import Batcher, FutureItem, Items
from chassis.database import Connection, Database
from chassis.errors import InvalidBodyError
from chassis.http.request import Headers
from signal_receiver import event_repository
from signal_receiver.credentials import ID_HEADER, sender_fault
from signal_receiver.event_errors import EventError
from signal_receiver.event_repository import Account, EventQuery, Fetch, InboxEntry, Snapshot
from signal_receiver.events import TradeSignal
from signal_receiver.instruments import InstrumentsFile
from signal_receiver.trading import Market

RETENTION: Final = timedelta(minutes=10)
"""Time for which the inbox stores an outcome that is not final."""
WINDOW: Final = 2
"""Batches that normally run at once. With two, Postgres has work while Python computes, and later batches grow."""
MAX_BATCHES: Final = 8
"""Maximum of batches in flight. It is larger than WINDOW, because a batch may wait for a locked account."""


@dataclass(frozen=True, slots=True)
class ReceivedEvent:
    """One request to a webhook. If its body has a fault, only a sender that the account accepts may see the fault."""

    token_digest: bytes
    headers: Headers
    body: bytes
    content: TradeSignal | InvalidBodyError | None
    """None for an event that does not trade."""


@dataclass(frozen=True, slots=True)
class EventResult:
    """Result of one event.

    ``account`` is None if no account has the token, or if the account does not accept the sender.
    """

    account: str | None
    error: EventError | None
    body_error: InvalidBodyError | None = None
    cause: str | None = None
    """More about the error, for the log."""


@dataclass(frozen=True, slots=True)
class AcceptedSignal:
    """A signal whose sender was accepted, with its account and its key in the inbox."""

    account: Account
    key: bytes
    signal: TradeSignal


class EventExecutor:
    def __init__(self, database: Database, instruments: InstrumentsFile) -> None:
        self._database = database
        self._instruments = instruments
        # one batch in flight per account: two would find that the other has changed the account
        self._batcher = Batcher[ReceivedEvent, EventResult](
            self._send, window=WINDOW, max_in_flight=MAX_BATCHES, key=lambda event: event.token_digest
        )

    async def execute(self, event: ReceivedEvent, deadline: float) -> EventResult:
        """Execute an event and return its result. ``deadline`` is a monotonic time.

        Raises UnavailableError or UpstreamTimeoutError if the result is unknown. The event may then be sent again.
        """
        item = FutureItem[ReceivedEvent, EventResult](event, deadline)
        self._batcher.add(item)
        return await item.result

    async def close(self) -> None:
        await self._batcher.close()

    async def _send(self, items: Items[ReceivedEvent, EventResult], _release: object) -> None:
        """Execute a batch.

        If a statement fails, execute each event alone, so that one bad event does not fail the others.
        """
        try:
            results = await self._execute(
                [item.value for item in items], max(item.deadline for item in items)
            )
        except asyncpg.PostgresError as error:
            if len(items) == 1:
                items[0].fail(error)
                return
            for item in items:
                await self._send([item], _release)
            return
        for item, result in zip(items, results, strict=True):
            item.settle(result)

    async def _execute(self, events: Sequence[ReceivedEvent], deadline: float) -> Sequence[EventResult]:
        fetch = partial(self._database.fetch, deadline=deadline)
        results = await self._read_and_write(fetch, events)
        outdated = [event for event, result in zip(events, results, strict=True) if result is None]
        repeated = iter(await self._execute_locked(outdated, deadline) if outdated else ())
        return [result or next(repeated) for result in results]

    async def _execute_locked(
        self, events: Sequence[ReceivedEvent], deadline: float
    ) -> Sequence[EventResult]:
        async def work(connection: Connection) -> Sequence[EventResult | None]:
            await event_repository.lock(connection, (event.token_digest for event in events))
            return await self._read_and_write(connection.fetch, events)

        results = await self._database.transaction(work, deadline=deadline)
        found = [result for result in results if result is not None]
        assert len(found) == len(events)  # noqa: S101 - the lock keeps others from changing the accounts
        return found

    async def _read_and_write(
        self, fetch: Fetch, events: Sequence[ReceivedEvent]
    ) -> Sequence[EventResult | None]:
        """Read the accounts, execute the events, write the changes; return the result of each event.

        The result is None, and nothing was written, if another process changed the event's account in between.
        """
        queries = [_query(event) for event in events]
        snapshot = await event_repository.read(fetch, queries)
        accepted: list[AcceptedSignal] = []
        results: list[EventResult | None] = []
        for event, account, query in zip(events, snapshot.accounts, queries, strict=True):
            fault = (
                sender_fault(account, event.headers, event.body) if account else "no account has this token"
            )
            if account is None or fault is not None:
                results.append(EventResult(None, EventError.INVALID_CREDENTIALS, cause=fault))
            elif query.signal is None or query.key is None:
                body_error = event.content if isinstance(event.content, InvalidBodyError) else None
                results.append(EventResult(account.id, None, body_error))
            else:
                accepted.append(AcceptedSignal(account, query.key, query.signal))
                results.append(None)
        outcomes = iter(await self._trade(fetch, accepted, snapshot))
        return [result or next(outcomes) for result in results]

    async def _trade(
        self, fetch: Fetch, accepted: Sequence[AcceptedSignal], snapshot: Snapshot
    ) -> Sequence[EventResult | None]:
        market = Market(self._instruments.catalogue, snapshot.prices, snapshot.at)
        outcomes = dict(snapshot.outcomes)
        entries: dict[tuple[str, bytes], InboxEntry] = {}
        changed: dict[str, Account] = {}
        for each in accepted:
            event = each.account.id, each.key
            if event not in outcomes:
                outcomes[event] = each.account.book.execute(each.signal, market)
                entries[event] = InboxEntry(*event, outcomes[event])
                changed[each.account.id] = each.account
        written = (
            await event_repository.write(
                fetch, list(changed.values()), list(entries.values()), snapshot.at, RETENTION
            )
            if entries
            else set()
        )
        outdated = changed.keys() - written
        return [
            None
            if each.account.id in outdated
            else EventResult(each.account.id, outcomes[each.account.id, each.key].error)
            for each in accepted
        ]


def _query(event: ReceivedEvent) -> EventQuery:
    signal = event.content if isinstance(event.content, TradeSignal) else None
    key = signal.key(event.headers.get(ID_HEADER) or None) if signal is not None else None
    return EventQuery(event.token_digest, key, signal)
