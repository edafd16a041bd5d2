"""Connections to webhooks that read the status line of each response before aiohttp parses the response.

The status line decides whether an event was delivered, even if aiohttp cannot parse the bytes after it. The connections
also record whether a response has begun, because a request may only be repeated before that. aiohttp does not always
report it when a connection ends.

A connection on which bytes come unasked is closed: aiohttp would take them for the response to the next request.
"""

import functools
import re
import select
from contextvars import ContextVar
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

MAX_START_BYTES: Final = 64 * 1024
"""Maximum number of bytes up to the end of the final status line, including interim responses before it."""

_STATUS_LINE: Final = re.compile(rb"(?:\r?\n)*HTTP/\d\.\d (\d{3})(?: [^\n]*)?\r?\n")
_END_OF_HEAD: Final = re.compile(rb"\r?\n\r?\n")
_SWITCHING_PROTOCOLS: Final = 101
_FINAL_FROM: Final = 200


class ResponseStart:
    """The first bytes of a response. `status` is None until the final status line has arrived."""

    def __init__(self) -> None:
        self.has_begun = False
        self.status: int | None = None
        self._bytes = b""

    def feed(self, data: bytes) -> None:
        self.has_begun = True
        if self.status is None and len(self._bytes) < MAX_START_BYTES:
            self._bytes += data
            self._read_status()

    def _read_status(self) -> None:
        while (line := _STATUS_LINE.match(self._bytes)) is not None:
            status = int(line[1])
            if status >= _FINAL_FROM or status == _SWITCHING_PROTOCOLS:
                self.status = status
                self._bytes = b""
                return
            end = _END_OF_HEAD.search(self._bytes)
            if end is None:
                return
            self._bytes = self._bytes[end.end() :]


RESPONSE_START: Final[ContextVar[ResponseStart]] = ContextVar("response_start")
"""The ResponseStart of the request that the current task sends. The connection passes the response's bytes to it."""


class WebhookConnection(ResponseHandler):
    """Feeds the sender's ResponseStart. Closes when bytes come that no request has asked for."""

    _start: ResponseStart | None = None

    @property
    def has_unread_bytes(self) -> bool:
        """Whether bytes, or the end of the connection, wait in the socket."""
        if self.transport is None:
            return False
        waiting = select.poll()
        waiting.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def set_response_params(self, **params: object) -> None:
        # aiohttp calls this in the task that sends the request, before the request
        self._start = RESPONSE_START.get(None)
        self._payload = None  # that of the response before
        super().set_response_params(**params)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        if data and self._is_answered():  # aiohttp calls this without data, too
            self.close()
            return
        if self._start is not None:
            self._start.feed(data)
        super().data_received(data)

    def _is_answered(self) -> bool:
        """Whether the response to the latest request has arrived completely."""
        has_status = self._start is not None and self._start.status is not None
        return has_status and self._payload is not None and self._payload.is_eof()


class WebhookConnector(aiohttp.TCPConnector):
    """Makes WebhookConnections."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._factory = functools.partial(WebhookConnection, loop=self._loop)  # type: ignore[assignment]

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """Return a kept connection, but none on which something has come since its last response."""
        while (kept := await super()._get(key, traces)) is not None:
            if not (isinstance(kept.protocol, WebhookConnection) and kept.protocol.has_unread_bytes):
                return kept
            kept.close()
        return None
