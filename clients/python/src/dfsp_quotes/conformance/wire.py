"""Requests and responses as the kit keeps them, and their rendering for reports."""

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import StreamReader, hdrs
from multidict import CIMultiDict

from dfsp_quotes.conformance.options import Credentials
from dfsp_quotes.conformance.result import cut

MAX_BODY: Final = 262_144
"""Limit for the bytes of a body that the kit reads."""
MAX_HEADERS: Final = 24

TRACE: Final = "L1p-Trace-Id"
KEY: Final = "Idempotency-Key"
TIMEOUT_MS: Final = "X-Request-Timeout-Ms"
LIFETIME_MS: Final = "X-Quote-Lifetime-Ms"

_NOT_SHOWN: Final = frozenset({"host", "user-agent", "date", "server", "connection", "accept-encoding"})
_MASKED: Final = frozenset({"authorization", "cookie", "set-cookie", "proxy-authorization"})


@dataclass(frozen=True)
class Message:
    """The part that requests and responses share."""

    headers: CIMultiDict[str]
    body: bytes

    @property
    def content_type(self) -> str:
        return self.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()

    @property
    def json(self) -> object:
        """The body as JSON; None if it is not JSON in UTF-8."""
        try:
            return json.loads(self.body.decode())
        except (ValueError, RecursionError):
            return None

    @property
    def object(self) -> dict[str, Any]:
        """The body as a JSON object; empty if it is none."""
        found = self.json
        return found if isinstance(found, dict) else {}

    def _text(self, first_line: str) -> str:
        shown = [(name, value) for name, value in self.headers.items() if name.lower() not in _NOT_SHOWN]
        lines = [cut(first_line)]
        for name, value in shown[:MAX_HEADERS]:
            lines.append(f"{cut(name, 100)}: {'***' if name.lower() in _MASKED else cut(value, 300)}")
        body = cut(self.body.decode("utf-8", "replace"))
        return "\n".join([*lines, "", body] if body else lines)


@dataclass(frozen=True)
class Request(Message):
    """A request: `target` is the path and the query as they were written."""

    method: str
    target: str

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def text(self) -> str:
        return self._text(f"{self.method} {self.target}")


@dataclass(frozen=True)
class Response(Message):
    status: int

    @property
    def error_id(self) -> str | None:
        """The id of an error object (wire.md §4); None if the body is none."""
        found = self.object.get("id")
        return found if isinstance(found, str) else None

    @property
    def outcome(self) -> str:
        """The status, and the id of the error, for messages."""
        return cut(f"{self.status} {self.error_id or ''}".strip(), 80)

    @property
    def faulty_fields(self) -> set[str]:
        """The fields that an error object names in `validationErrors`."""
        faults = self.object.get("validationErrors")
        found = set()
        for fault in faults if isinstance(faults, list) else []:
            params = fault.get("params") if isinstance(fault, dict) else None
            key = params.get("key") if isinstance(params, dict) else None
            if isinstance(key, str):
                found.add(key)
        return found

    @property
    def text(self) -> str:
        return self._text(str(self.status))


def basic(credentials: Credentials) -> str:
    """Return the value of `Authorization` for HTTP Basic in UTF-8."""
    return "Basic " + b64encode(f"{credentials.name}:{credentials.password}".encode()).decode()


def encode(content: Mapping[str, object] | bytes | None) -> bytes:
    """Return a body: JSON of a mapping, bytes as they are."""
    if content is None:
        return b""
    return content if isinstance(content, bytes) else json.dumps(content).encode()


async def read_body(stream: StreamReader) -> bytes:
    """Return a body, at most MAX_BODY bytes of it."""
    parts, size = [], 0
    while size < MAX_BODY and (part := await stream.read(MAX_BODY - size)):
        parts.append(part)
        size += len(part)
    return b"".join(parts)
