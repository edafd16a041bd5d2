"""Receives messages of other processes about new work, changed events and notifications (LISTEN in Postgres)."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg

CONNECT_SECONDS: Final = 5.0
RECONNECT_SECONDS: Final = 1.0
# a dead connection that reports no error is replaced within the sum of both times
HEARTBEAT_SECONDS: Final = 4.0
HEARTBEAT_TIMEOUT_SECONDS: Final = 3.0


class PgNotifyListener:
    """Keeps one database connection open that listens to one channel, and calls `on_message` for each message.

    Messages are lost while there is no connection, so each new connection calls `on_connected`.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        on_message: Callable[[str], object],
        on_connected: Callable[[], object],
    ) -> None:
        self._url = url
        self._channel = channel
        self._on_message = on_message
        self._on_connected = on_connected
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.create_task(self._reconnect_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _reconnect_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
        try:
            await connection.add_listener(self._channel, self._received)
            self._on_connected()
            while True:  # a regular statement shows whether the server still exists
                await asyncio.sleep(HEARTBEAT_SECONDS)
                await connection.execute("SELECT", timeout=HEARTBEAT_TIMEOUT_SECONDS)
        finally:
            connection.terminate()

    def _received(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:  # noqa: ANN401
        self._on_message(str(payload))
