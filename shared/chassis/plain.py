"""HTTP requests that are plainly right, read in a few microseconds.

What is written in a less common way, is not well-formed, or says that more than a body comes with it, is left to
aiohttp, which takes it after all or says what is wrong with it. A property test holds the two together.

A caller writes most of its head the same way each time: that is looked at once.
"""

import re
from typing import Final

import msgspec
from aiohttp import hdrs
from multidict import CIMultiDict

from chassis.messages import Headers

MAX_HEAD_BYTES: Final = 4_096
MAX_REMEMBERED: Final = 256

_LINE: Final = re.compile(
    r"(GET|POST|PUT|DELETE) ((?:/[A-Za-z0-9_-]+)+)(?:\?([A-Za-z0-9._~%=&+:@/-]*))? HTTP/1\.1\Z"
)
_FIELDS: Final = re.compile(r"(?:\r\n[A-Za-z0-9-]+: [!-~](?:[ -~]*[!-~])?)+\Z")
_FIELD: Final = re.compile(r"\r\n([A-Za-z0-9-]+): ([ -~]+)").findall
_OWN: Final = re.compile(
    rb"\r\n([Aa]uthorization|[Ii]dempotency-[Kk]ey|[Ll]1[Pp]-[Tt]race-[Ii][Dd]|[Tt]raceparent): "
    rb"([!-~]+(?: [!-~]+)*)(?=\r\n|\Z)"
).split
"""Fields that are others with each request, and what may not be remembered."""
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
_HARMLESS: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
        "x-request-timeout-ms",
    }
)
"""What may be remembered for as long as the process lives: no secret is in there."""

_remembered: dict[bytes, "Common"] = {}
"""As each was written."""


class Common(msgspec.Struct, frozen=True):
    """Fields of which a caller writes the same with most of its requests."""

    headers: CIMultiDict[str]
    """Not to be changed."""
    names: set[str]
    """In lower case."""
    length: int
    """Of the body, in bytes."""
    is_last: bool


class Plain(msgspec.Struct, frozen=True):
    """A request's lines, and as much of its body as has come."""

    method: str
    path: str
    query: str
    common: Common
    own: dict[str, str]
    """By lower-case name, those fields that are this request's own."""
    body: bytes
    missing: int
    """How many bytes of the body are still to come."""

    def header(self, name: str) -> str | None:
        """The value of one; ``name`` is in lower case."""
        return self.own.get(name) or self.common.headers.get(name)

    @property
    def headers(self) -> Headers:
        headers = self.common.headers.copy()
        headers.update(self.own)
        return headers

    @property
    def is_last(self) -> bool:
        """Whether the caller wants the connection closed after the response."""
        return self.common.is_last


def plain(data: bytes) -> Plain | None:
    """The request that ``data`` is, or begins; None where this is not plain."""
    end, begin = data.find(b"\r\n\r\n"), data.find(b"\r\n")
    line = _line(data[:begin]) if 0 < end <= MAX_HEAD_BYTES else None
    if line is None:
        return None
    parts = _OWN(data[begin:end])
    written = b"".join(parts[::3])
    common = _remembered.get(written) or _common(written)
    if common is None:
        return None
    own = {}
    for at in range(1, len(parts), 3):
        name = parts[at].decode().lower()
        if name in own or name in common.names:
            return None
        own[name] = parts[at + 1].decode()
    body = data[end + 4 :]
    missing = common.length - len(body)
    if missing < 0:  # another request has begun
        return None
    return Plain(*line, common, own, body, missing)


def _line(line: bytes) -> tuple[str, str, str] | None:
    """Method, path and query."""
    match = _LINE.match(line.decode("latin-1"))
    return None if match is None else (match[1], match[2], match[3] or "")


def _common(written: bytes) -> Common | None:
    lines = written.decode("latin-1")
    if not _FIELDS.match(lines):
        return None
    headers = CIMultiDict(_FIELD(lines))
    names = {name.lower() for name in headers}
    if len(names) != len(headers) or "host" not in names or not _NOT_PLAIN.isdisjoint(names):
        return None
    connection = headers.get(hdrs.CONNECTION, "keep-alive").lower()
    length = headers.get(hdrs.CONTENT_LENGTH, "0")
    if connection not in {"keep-alive", "close"} or not _LENGTH.match(length):
        return None
    common = Common(headers, names, int(length), connection == "close")
    if names <= _HARMLESS:
        if len(_remembered) >= MAX_REMEMBERED:
            _remembered.clear()
        _remembered[written] = common
    return common
