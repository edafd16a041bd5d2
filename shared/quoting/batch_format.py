"""The lines of a batch (wire.md §8): one request or one answer each, as JSON."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

MEDIA_TYPE: Final = "application/x-ndjson"
BATCH_PATH: Final = "/v1/batch"
BATCH_HEADER: Final = "Quote-Batch"

MAX_LINES: Final = 256
"""64 cost a tenth more processor time with 512 connections, 512 gained nothing (measured)."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024
"""A body of 64 KiB of which each byte is escaped, and its headers."""


class RequestLine(msgspec.Struct, frozen=True):
    """One request. ``path`` has its query with it; ``body`` is the text as it was written."""

    id: int | str
    method: str
    path: str
    headers: dict[str, str]
    body: str | None = None


class AnswerLine(msgspec.Struct, frozen=True):
    """One answer. Where the request could not be read, ``id`` is null and ``line`` says which it was, from 1."""

    id: int | str | None
    status: int
    headers: dict[str, str]
    body: str | None = None
    line: int | msgspec.UnsetType | None = msgspec.UNSET


class PlainHeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a service of ours sends with a call, and nothing else; empty where it is not there."""

    authorization: str = msgspec.field(name="Authorization")
    trace_id: str = msgspec.field(name="L1p-Trace-Id")
    timeout_ms: str = msgspec.field(name="X-Request-Timeout-Ms")
    key: str = msgspec.field(name="Idempotency-Key", default="")
    traceparent: str = ""


class PlainLine(msgspec.Struct, frozen=True):
    """A request as a service of ours writes it where nothing is out of the ordinary."""

    id: int
    method: str
    path: str
    headers: PlainHeaders
    body: str


class PlainAnswerHeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a service of ours sends with an answer in JSON, and nothing else; empty where it is not there."""

    content_type: str = msgspec.field(name="Content-Type")
    trace_id: str = msgspec.field(name="L1p-Trace-Id")
    key: str = msgspec.field(name="Idempotency-Key", default="")


class PlainAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An answer as a service of ours writes it where nothing is out of the ordinary."""

    id: int
    status: int
    headers: PlainAnswerHeaders
    body: str


# beyond its own errors msgspec lets these out: for text that is no UTF-8, and for what is nested without end
LINE_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_encode: Final = msgspec.json.Encoder().encode
_request: Final = msgspec.json.Decoder(RequestLine)
_plain: Final = msgspec.json.Decoder(PlainLine)
_answer: Final = msgspec.json.Decoder(AnswerLine)
_plain_answer: Final = msgspec.json.Decoder(PlainAnswer)


def request_line(
    number: int, method: str, target: str, headers: dict[str, str], body: bytes | None
) -> bytes | None:
    """A request as a line, with its newline; None for what JSON in UTF-8 cannot hold, and must go alone."""
    try:
        text = None if body is None else body.decode()
        return _encode(RequestLine(number, method, target, headers, text)) + b"\n"
    except UnicodeError:
        return None


def read_request(line: bytes) -> RequestLine:
    """Raises LINE_ERRORS."""
    return _request.decode(line)


def read_plain(line: bytes) -> PlainLine | None:
    """A request as a service of ours writes it, of which no value has been looked at; None: look closer."""
    try:
        return _plain.decode(line)
    except LINE_ERRORS:
        return None


def answer_line(answer: AnswerLine | PlainAnswer) -> bytes:
    return _encode(answer) + b"\n"


def read_answer(line: bytes) -> AnswerLine:
    """Raises LINE_ERRORS."""
    return _answer.decode(line)


def read_plain_answer(line: bytes) -> PlainAnswer | None:
    """An answer as a service of ours writes it, of which no value has been looked at; None: look closer."""
    try:
        return _plain_answer.decode(line)
    except LINE_ERRORS:
        return None


def split(data: bytes) -> Sequence[bytes]:
    """The lines of a whole batch; a newline at its end begins no further one."""
    lines = data.split(b"\n")
    return lines[:-1] if not lines[-1] else lines


class Splitter:
    """Lines out of chunks, as they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """The lines that ``chunk`` completes. Raises ValueError where one goes on without end."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_ANSWER_BYTES:
            raise ValueError("a line without end")
        return whole
