"""Accepts connections on a listening socket, with the newest TLS files.

uvloop accepts one connection in each iteration of its loop. If an iteration takes long, the kernel's queue of new
connections fills, and the kernel drops further callers. They try again only after one, three and seven seconds. To
prevent that, this module accepts many connections in each iteration.
"""

import asyncio
import contextlib
import os
import select
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from chassis.http.connection_limit import ConnectionLimit
from chassis.logs import Logs
from chassis.tls import Tls

MAX_AT_ONCE: Final = 128
"""Maximum number of connections that one iteration accepts, so that the open connections are served in between."""
PAUSE_SECONDS: Final = 0.1
SHORT_PAUSE_SECONDS: Final = 0.01
LOG_EVERY_SECONDS: Final = 1.0
HANDSHAKE_SECONDS: Final = 10.0


class Acceptor:
    """Accepts connections and makes a protocol for each.

    When no file descriptor is free, idle connections are closed. If there are none, waiting callers are refused: a
    descriptor that is kept in reserve is enough to accept a connection and close it at once. `limit` counts connections,
    makes room for new ones, and says which to refuse.
    """

    def __init__(
        self,
        protocol_for: Callable[[socket.socket], asyncio.Protocol],
        listener: socket.socket,
        tls: Tls,
        logs: Logs,
        limit: ConnectionLimit,
    ) -> None:
        self._protocol_for = protocol_for
        self._listener = listener
        self._tls = tls
        self._logs = logs
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._reserve = [os.open(os.devnull, os.O_RDONLY)]
        self._refused = 0
        self._logged = float("-inf")
        self._waiting = select.poll()
        self._waiting.register(listener.fileno(), select.POLLIN)
        listener.setblocking(False)

    def open(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more connections. Connections that are open stay open."""
        self._loop.remove_reader(self._listener.fileno())
        if self._pause is not None:
            self._pause.cancel()
        for task in self._handshakes:
            task.cancel()
        self._release_reserve()

    def _accept(self) -> None:
        for _ in range(MAX_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:  # the caller has left
                continue
            except OSError as error:
                # without a free descriptor the kernel does not even look if a caller is waiting
                if self._waiting.poll(0):
                    self._out_of_descriptors(error)
                return
            refusal = self._limit.take(connection, address[0])
            if refusal is not None:
                connection.close()
                self._refused += 1
                self._log_refused(refusal)
                continue
            task = self._loop.create_task(self._serve(connection))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    def _out_of_descriptors(self, error: OSError) -> None:
        # connections that were accepted in this iteration are known to the server only in the next one
        is_soon_free = self._limit.close_idle() or (self._handshakes and self._tls.server is None)
        if not is_soon_free:
            self._refuse_waiting()
        self._log_refused(str(error))
        if self._pause is None:
            self._loop.remove_reader(self._listener.fileno())
            seconds = SHORT_PAUSE_SECONDS if is_soon_free else PAUSE_SECONDS
            self._pause = self._loop.call_later(seconds, self.open)

    def _log_refused(self, cause: str) -> None:
        if time.monotonic() - self._logged >= LOG_EVERY_SECONDS:
            self._logged = time.monotonic()
            self._logs.error("connections cannot be accepted", cause=cause, refused=self._refused)
            self._refused = 0

    def _refuse_waiting(self) -> None:
        """Accept and close the connections of the callers that wait, so that they can try another replica."""
        with contextlib.suppress(OSError):  # no caller is waiting, or another thread has taken the descriptor
            for _ in range(MAX_AT_ONCE):
                self._release_reserve()
                self._listener.accept()[0].close()
                self._refused += 1
                self._limit.count_refused("descriptors")
                self._reserve.append(os.open(os.devnull, os.O_RDONLY))
        if not self._reserve:
            with contextlib.suppress(OSError):
                self._reserve.append(os.open(os.devnull, os.O_RDONLY))

    def _release_reserve(self) -> None:
        while self._reserve:
            os.close(self._reserve.pop())

    async def _serve(self, connection: socket.socket) -> None:
        context = self._tls.server
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            # asyncio's own loop sets this only for sockets whose protocol number is that of TCP
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(
                partial(self._protocol_for, connection),
                connection,
                ssl=context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if context is not None else None,
            )
        except (TimeoutError, OSError):  # the handshake failed, or the caller has left
            self._limit.release(connection)
            connection.close()
