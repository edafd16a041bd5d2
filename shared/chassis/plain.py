"""HTTP requests that are plainly right, read in a few microseconds.

What is written in a less common way, is not well-formed, or says that more than a body comes with it, is left to
aiohttp, which takes it after all or says what is wrong with it. A property test holds the two together.
"""

import re
from typing import Final

import msgspec
from aiohttp import hdrs
from multidict import CIMultiDict

from chassis.messages import Headers

MOST_HEAD_BYTES: Final = 4_096

_HEAD: Final = re.compile(
    r"(GET|POST|PUT|DELETE) ((?:/[A-Za-z0-9_-]+)+)(?:\?([A-Za-z0-9._~%=&+:@/-]*))? HTTP/1\.1"
    r"((?:\r\n[A-Za-z0-9-]+: [!-~][ -~]*)+)\Z"
)
_FIELDS: Final = re.compile(r"\r\n([A-Za-z0-9-]+): ([!-~][ -~]*)").findall
_LENGTH: Final = re.compile(r"(0|[1-9][0-9]{0,8})\Z")

# what changes how the connection goes on, or what comes on it
_NOT_PLAIN: Final = frozenset(
    {
        "expect",
        "http2-settings",
        "proxy-connection",
        "sec-websocket-key",
        "sec-websocket-key1",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Plain(msgspec.Struct, frozen=True):
    """A request's lines, and as much of its body as has come."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    missing: int
    """How many bytes of the body are still to come."""
    is_last: bool
    """Whether the caller wants the connection closed after the response."""


def plain(data: bytes) -> Plain | None:
    """The request that ``data`` is, or begins; None where this is not plain."""
    end = data.find(b"\r\n\r\n")
    match = _HEAD.match(data[:end].decode("latin-1")) if 0 < end <= MOST_HEAD_BYTES else None
    if match is None:
        return None
    method, path, query, lines = match.groups()
    headers = _headers(lines)
    if headers is None:
        return None
    connection = headers.get(hdrs.CONNECTION, "keep-alive").lower()
    if connection not in {"keep-alive", "close"}:
        return None
    length = headers.get(hdrs.CONTENT_LENGTH, "0")
    if not _LENGTH.match(length):
        return None
    body = data[end + 4 :]
    missing = int(length) - len(body)
    if missing < 0:  # another request has begun
        return None
    return Plain(method, path, query or "", headers, body, missing, connection == "close")


def _headers(lines: str) -> CIMultiDict[str] | None:
    if " \r\n" in lines or lines[-1] == " ":
        return None
    fields = _FIELDS(lines)
    names = {name.lower() for name, _ in fields}
    if len(names) != len(fields) or "host" not in names or not _NOT_PLAIN.isdisjoint(names):
        return None
    return CIMultiDict(fields)
