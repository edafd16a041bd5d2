"""One request: read by the protocol class, read by aiohttp, or a line of a batch."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

Headers = dict[str, str]
"""By lower-case name. The values of a repeated header are joined by a comma and a space (RFC 9110 §5.3)."""

NO_HEADERS: Final[Headers] = {}

Read = Callable[[int], Awaitable[bytes]]
"""Reads a body of at most so many bytes.

Raises PayloadTooLargeError, ExpectationFailedError, RequestTimeoutError, InvalidBodyError.
"""


class Request(msgspec.Struct, gc=False):
    """One request. `path` and `query` are percent-encoded, as they arrived."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    received: float
    """When its bytes reached this machine, on the monotonic clock, as far as is known."""
    address: str
    """IP address of the peer."""
    scheme: str = "http"
    was_queued: bool = False
    """Whether it waited in the admission queue."""
    is_excess: bool = False
    """Whether the admission queue had no room for it."""
    read: Read | None = None
    """Reads the body, where it has not been read yet."""

    @property
    def origin(self) -> str:
        """Scheme and host that the request was sent to."""
        return f"{self.scheme}://{self.headers.get('host', '')}"


def joined(given: Mapping[str, str]) -> Headers:
    """Headers by lower-case name, from names in any case."""
    headers = {name.lower(): value for name, value in given.items()}
    if len(headers) < len(given):
        headers.clear()
        for name, value in given.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
    return headers
