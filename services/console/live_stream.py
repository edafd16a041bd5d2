"""`/live`: a stream of server-sent events, one after each look at the services. After each event a page fetches its new content."""

import asyncio
from typing import Final

from aiohttp import hdrs, web

from chassis.app import EXCHANGE, SERVICE
from chassis.auth import CALLER
from chassis.errors import TooManyRequestsError
from chassis.http.adapter import AiohttpConnection
from chassis.tracing import TRACE_HEADER
from console.collectors.fleet import Fleet

PATH: Final = "/live"
MAX_STREAMS: Final = 64
MAX_STREAMS_OF_USER: Final = 32
"""Maximum number of open streams of one user, so that one user cannot use up the streams of all others."""
IDLE_SECONDS: Final = 5.0


class LiveStream:
    """The open streams, of which there are at most MAX_STREAMS, and MAX_STREAMS_OF_USER of one user."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._open: list[web.Request] = []

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Send one event after each look at the services. Raises TooManyRequestsError if too many streams are open."""
        users = [each[CALLER] for each in self._open if not _has_gone(each)]
        if len(users) >= MAX_STREAMS or users.count(request[CALLER]) >= MAX_STREAMS_OF_USER:
            raise TooManyRequestsError(
                "Too many pages are open. Close one, or load this page again by hand.", retry_after=10
            )
        self._open.append(request)
        try:
            return await self._send(request)
        finally:
            self._open.remove(request)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        service = request.app[SERVICE]
        response = web.StreamResponse(
            headers={
                hdrs.CONTENT_TYPE: "text/event-stream",
                hdrs.CACHE_CONTROL: "no-store",
                # without this, a proxy that collects whole responses would delay the events
                "X-Accel-Buffering": "no",
                TRACE_HEADER: request[EXCHANGE].trace_id,
                hdrs.SERVER: service.name,
            }
        )
        await response.prepare(request)
        while not (service.is_leaving or service.is_closed or _has_gone(request)):
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._fleet.ticked()
                event = b"data: new figures\n\n"
            except TimeoutError:
                event = b": no news\n\n"
            try:
                await response.write(event)
            except ConnectionResetError:  # the client has closed its connection
                break
        return response


def _has_gone(request: web.Request) -> bool:
    return isinstance(request.protocol, AiohttpConnection) and request.protocol.is_ending
