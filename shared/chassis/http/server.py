"""The connections of one service, from the service's start until its last response has been sent."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiohttp import hdrs, web
from multidict import CIMultiDict

from chassis.http.adapter import (
    KEEPALIVE_SECONDS,
    AiohttpConnection,
    Application,
    refusal,
    smuggling_risk,
)
from chassis.http.body import EXPECTED
from chassis.http.protocol import HttpProtocol
from chassis.http.request import RequestReader
from chassis.tracing import TRACE_HEADER

LOOKS: Final = 15
"""Number of times that an idle connection is checked before it is closed after KEEPALIVE_SECONDS."""
SHUTDOWN_SECONDS: Final = 0.5
POLL_SECONDS: Final = 0.02


class Server:
    """The connections of one service. Called with an accepted socket, it returns the protocol that serves it."""

    def __init__(self, service: Application, aiohttp_server: web.Server, *, uses_protocol: bool) -> None:
        self.service = service
        self.aiohttp = aiohttp_server
        self.reader = RequestReader()
        self.all_open: dict[HttpProtocol, None] = {}
        """The connections that aiohttp does not serve."""
        self.is_closing = False
        self._uses_protocol = uses_protocol
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def __call__(self, connection: socket.socket | None = None) -> asyncio.Protocol:
        if self._uses_protocol:
            return HttpProtocol(self, connection)
        return AiohttpConnection(self.aiohttp, self.service, connection)

    def _look(self) -> None:
        """Close the connections that have had no request for too long, and schedule the next check."""
        self._timer = asyncio.get_running_loop().call_later(KEEPALIVE_SECONDS / LOOKS, self._look)
        since = time.monotonic() - KEEPALIVE_SECONDS
        for connection in list(self.all_open):
            connection.close_if_unused(since)

    def close_idle(self) -> None:
        """Close idle connections at once, and all other connections after their response. Close new connections too.

        A 503 response would be final for the caller. If the connection closes before a response begins, the caller
        instead repeats the request on another replica (wire.md §4).
        """
        self.is_closing = True
        for connection in list(self.all_open):
            connection.close()
        for handler in self.aiohttp.connections:
            handler.close()

    async def shutdown(self) -> None:
        """Close all connections. The requests being answered get half a second to finish."""
        self.close_idle()
        if self._timer is not None:
            self._timer.cancel()
        end = time.monotonic() + SHUTDOWN_SECONDS
        while self.all_open and time.monotonic() < end:
            await asyncio.sleep(POLL_SECONDS)
        await self.aiohttp.shutdown(SHUTDOWN_SECONDS)
        for connection in list(self.all_open):
            connection.abort()


class Runner(web.AppRunner):
    """Runs an aiohttp application with the `Server` of this module."""

    def __init__(self, app: web.Application, service: Application, *, uses_protocol: bool = True) -> None:
        super().__init__(app, shutdown_timeout=SHUTDOWN_SECONDS, access_log=None)
        self._service = service
        self._uses_protocol = uses_protocol
        self._connections: Server | None = None

    @property
    def server(self) -> Server | None:  # type: ignore[override]
        return self._connections

    async def setup(self) -> None:
        await super().setup()
        made = super().server
        assert made is not None  # noqa: S101 - set up above
        handler = _checked(made.request_handler, self._service)
        server = web.Server(handler, request_factory=made.request_factory)
        self._connections = Server(self._service, server, uses_protocol=self._uses_protocol)

    def close_idle(self) -> None:
        """Close idle connections at once, and all other connections after their response."""
        if self._connections is not None:
            self._connections.close_idle()

    async def cleanup(self) -> None:
        if self._connections is not None:
            await self._connections.shutdown()
        await super().cleanup()


def _checked(
    handle: Callable[[Any], Awaitable[web.StreamResponse]], service: Application
) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return a handler that refuses ambiguous requests.

    It moves the header Expect to `request[EXPECTED]`, where the code that reads the body finds it.
    """

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        error = smuggling_risk(request)
        if error is not None:
            return refusal(service, error, request.headers.get(TRACE_HEADER))
        expected = request.headers.getall(hdrs.EXPECT, ())
        if expected:
            headers = CIMultiDict(request.headers)
            headers.popall(hdrs.EXPECT)
            request = request.clone(headers=headers)
            request[EXPECTED] = tuple(expected)
        return await handle(request)

    return handler
