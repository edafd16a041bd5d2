"""Responses as they are written.

What aiohttp's own response does for compression, cookies and HTTP/1.0 costs a third of what the first hop spends on a
request; a response that is there in whole needs none of it, and goes out in one write.
"""

import http
import time
from email.utils import formatdate
from functools import lru_cache
from typing import Final

from aiohttp import HttpVersion11, hdrs, web

from chassis.asked import Response

LAST_CHUNK: Final = b"0\r\n\r\n"

_PHRASES: Final = {status.value: status.phrase for status in http.HTTPStatus}


def begun(response: Response, *, is_last: bool) -> bytes:
    """A response of HTTP/1.1 up to where its body goes on, if it does; ``is_last`` on this connection."""
    status, body = response.status, response.body
    fields = "".join([f"{name}: {value}\r\n" for name, value in response.headers.items()])
    length = f"Content-Length: {len(body)}" if response.rest is None else "Transfer-Encoding: chunked"
    date, close = _date(int(time.time())), "\r\nConnection: close" if is_last else ""
    head = f"HTTP/1.1 {status} {_PHRASES.get(status, '')}\r\n{fields}{length}\r\nDate: {date}{close}\r\n\r\n"
    return head.encode() + (body if response.rest is None else chunk(body))


def chunk(data: bytes) -> bytes:
    """A piece of a body whose length nobody knows yet."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class Written:
    """As much of a `web.StreamResponse` as aiohttp's connections ask for, for requests of HTTP/1.1."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.keep_alive = False
        self.body_length = len(response.body)
        self._response = response
        self._is_last = False

    def force_close(self) -> None:
        self._is_last = True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Raises ConnectionResetError where nobody is there any more."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller has gone")
        self.keep_alive = bool(request.keep_alive) and not self._is_last
        transport.write(begun(self._response, is_last=not self.keep_alive))
        await request.writer.drain()

    async def write_eof(self) -> None:
        """All is written."""


async def written(request: web.BaseRequest, response: Response, *, is_last: bool) -> web.StreamResponse:
    """The response to a request that aiohttp has read, in the least costly form that this request takes."""
    made: web.StreamResponse
    if response.rest is not None:
        made = web.StreamResponse(status=response.status, headers=response.headers)
    elif (
        request.version == HttpVersion11
        and request.method != hdrs.METH_HEAD
        and hdrs.UPGRADE not in request.headers
    ):
        made = Written(response)  # type: ignore[assignment]
    else:
        made = whole(response)
    if is_last:
        made.force_close()
    if response.rest is not None:
        await made.prepare(request)
        await made.write(response.body)
        async for more in response.rest:
            await made.write(more)
        await made.write_eof()
    return made


def whole(response: Response) -> web.Response:
    """Aiohttp's own form of a response without a rest."""
    return web.Response(status=response.status, headers=response.headers, body=response.body)


@lru_cache(maxsize=2)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)
