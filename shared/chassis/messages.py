"""What comes in and what goes out, however it travels: alone over HTTP, or as one line among others."""

import time
from typing import Final

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy

from chassis.tracing import TRACE_HEADER, trace_id_from

Headers = CIMultiDict[str] | CIMultiDictProxy[str]

JSON: Final = "application/json"


class Message:
    """One request on its way through this service."""

    __slots__ = (
        "began",
        "caller",
        "headers",
        "method",
        "path",
        "query",
        "reply_headers",
        "time_left",
        "trace_id",
        "waited",
    )

    def __init__(self, method: str, path: str, query: str, headers: Headers) -> None:
        """``path`` and ``query`` are as they came, percent-encoded."""
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.began = time.monotonic()
        self.trace_id = trace_id_from(headers.getall(TRACE_HEADER, ()))
        self.waited = 0.0
        """Seconds before it was read, as far as is known; ``began`` has them in."""
        self.time_left = float("inf")
        """Seconds that the caller gives, once its route has looked."""
        self.caller: str | None = None
        """Known once the credentials have been checked."""
        self.reply_headers: dict[str, str] = {}
        """What each reply to this carries, an error too."""

    @property
    def address(self) -> str:
        """Where it came from."""
        raise NotImplementedError

    @property
    def origin(self) -> str:
        """Scheme and host that it was sent to."""
        raise NotImplementedError

    async def body(self) -> bytes:
        """The whole body, checked for type and size. Raises as `chassis.content.read_json` does."""
        raise NotImplementedError


class Reply(msgspec.Struct, frozen=True):
    """One answer."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    """Beyond what every reply carries."""
    content_type: str = JSON
    error_id: str | None = None
    """The id in an error object, for the log."""
    cause: str | None = None
    """Likewise."""
