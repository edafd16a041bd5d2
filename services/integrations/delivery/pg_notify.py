"""What other processes say through Postgres: there is work, something was cancelled, somebody was told."""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg

CONNECT_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 10.0


class PgNotifyListener:
    """A connection of its own that listens on one channel, for as long as the app lives.

    Whatever was said while it was away is lost: `on_gap` is called whenever it is (again) there.
    """

    def __init__(
        self, url: str, channel: str, on_word: Callable[[str], object], on_gap: Callable[[], object]
    ) -> None:
        self._url = url
        self._channel = channel
        self._on_word = on_word
        self._on_gap = on_gap
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.create_task(self._listen_for_ever())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self) -> None:
        connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
        try:
            await connection.add_listener(self._channel, self._heard)
            self._on_gap()
            while True:  # a server that is gone without a word is noticed by asking
                await asyncio.sleep(ALIVE_SECONDS)
                await connection.execute("SELECT", timeout=CONNECT_SECONDS)
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:  # noqa: ANN401
        self._on_word(str(payload))
