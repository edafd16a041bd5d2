"""Stores the strategy engine's signals in batches. All signals that wait are stored in one transaction."""

from collections.abc import Callable
from typing import Final

from chassis.batching import Batcher, FutureItem, Items
from chassis.database import Connection, Database
from chassis.errors import ConflictError, QuotingError
from chassis.users import key_of
from integrations import signal_repository
from integrations.delivery import outbox
from integrations.delivery.dispatcher import Dispatcher
from integrations.delivery.queue import lane_contents
from integrations.engine_signal import EngineSignal
from integrations.signal_repository import PublishedBatch

MAX_SIGNALS: Final = 256


class SignalPublisher:
    """Strategies and their signals."""

    def __init__(self, database: Database, dispatcher: Dispatcher) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._batcher: Batcher[EngineSignal, int | QuotingError] = Batcher(
            self._publish, window=1, max_items=MAX_SIGNALS, max_in_flight=1
        )

    async def put_strategy(self, id_: str, name: str, user_email: str) -> None:
        """Create a strategy or change its name. Raises ConflictError if the strategy belongs to another user."""
        rows = await self._database.fetch(signal_repository.PUT_STRATEGY, id_, name, key_of(user_email))
        if not rows:
            raise ConflictError("The strategy belongs to another user.")

    async def send(self, signal: EngineSignal) -> int:
        """Store a signal and return the number of its events. For a repeated signal, return the same number again.

        Raises NotFoundError if the strategy is unknown, ConflictError if another signal had this signalId, and
        UnavailableError.
        """
        item: FutureItem[EngineSignal, int | QuotingError] = FutureItem(signal)
        self._batcher.add(item)
        result = await item.result
        if isinstance(result, QuotingError):
            raise result
        return result

    async def _publish(
        self, items: Items[EngineSignal, int | QuotingError], _release: Callable[[], None]
    ) -> None:
        dispatcher = self._dispatcher
        has_room = dispatcher.has_room
        before = dispatcher.read_point()
        signals = [item.value for item in items]

        async def work(connection: Connection) -> PublishedBatch:
            published = await signal_repository.publish(
                connection, signals, dispatcher.reserve_room, dispatcher.queue.identity.text
            )
            if not has_room:
                await outbox.notify_work_ready(connection)
            return published

        try:
            published = await self._database.transaction(work)
            await dispatcher.start_lanes(published.claimed, lane_contents(published.rows, before.at), before)
        finally:
            dispatcher.release_room()
        if len(published.claimed) < published.lanes:
            dispatcher.wake()
        for item, result in zip(items, published.results, strict=True):
            item.settle(result)

    async def close(self) -> None:
        await self._batcher.close()
