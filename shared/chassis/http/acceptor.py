"""Accepts connections: many that wait, each time, with the TLS files in force.

uvloop accepts one connection in each turn of its loop. When a turn takes long because there is much to do, callers
are then turned away by the kernel and come again only after one, three and seven seconds.
"""

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Final

from chassis.tls import Tls

LOOK_AT_FILES_SECONDS: Final = 1.0
MAX_AT_ONCE: Final = 128
"""The rest in the next turn: what is under way has its turn in between."""
REST_SECONDS: Final = 0.1
"""After there was no file descriptor left for a further connection."""
HANDSHAKE_SECONDS: Final = 10.0


class Acceptor:
    """What accepts on a listening socket."""

    def __init__(
        self,
        make: Callable[[socket.socket], asyncio.Protocol],
        listener: socket.socket,
        tls: Tls,
    ) -> None:
        """``make`` makes what serves one connection, whose socket it gets to look at."""
        self._make = make
        self._listener = listener
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._accepting: set[asyncio.Task[None]] = set()
        self._rest: asyncio.TimerHandle | None = None
        listener.setblocking(False)

    def open(self) -> None:
        self._rest = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accepts no more; connections that are there stay."""
        self._loop.remove_reader(self._listener.fileno())
        if self._rest is not None:
            self._rest.cancel()
        for task in self._accepting:
            task.cancel()

    async def keep_current(self) -> None:
        """Takes over TLS files that change, for connections to come."""
        while self._tls.is_used:
            await asyncio.sleep(LOOK_AT_FILES_SECONDS)
            self._tls.reload_if_changed()

    def _accept(self) -> None:
        for _ in range(MAX_AT_ONCE):
            try:
                connection, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # it has gone again
                continue
            except OSError:
                self._pause()
                return
            task = self._loop.create_task(self._serve(connection))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._rest = self._loop.call_later(REST_SECONDS, self.open)

    async def _serve(self, connection: socket.socket) -> None:
        context = self._tls.server
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            # asyncio's own loop does so only for sockets that were made as ones of TCP by number
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                partial(self._make, connection),
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context is not None else None,
            )
        except (TimeoutError, OSError):  # no handshake that can be finished, or gone already
            connection.close()
