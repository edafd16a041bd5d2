"""Connections to webhooks. Whether a reply has begun decides whether a request may be repeated.

aiohttp tells that only where a connection ends with a FIN after a whole status line; so it is seen here, where
the bytes come in.
"""

import functools

import aiohttp
from aiohttp.client_proto import ResponseHandler


class Connection(ResponseHandler):
    """Raises ClientPayloadError, and nothing that may be repeated, once a reply has begun."""

    _has_begun = False

    def set_response_params(self, **params: object) -> None:
        self._has_begun = False
        super().set_response_params(**params)  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self._has_begun = True
        super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        if self._has_begun and isinstance(exc, aiohttp.ClientConnectionError):
            exc = aiohttp.ClientPayloadError(f"the reply broke off: {exc!r}")
        super().set_exception(exc, *cause)


class WebhookConnector(aiohttp.TCPConnector):
    """Makes our connections instead of aiohttp's."""

    def __init__(self, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self._factory = functools.partial(Connection, loop=self._loop)  # type: ignore[assignment]
