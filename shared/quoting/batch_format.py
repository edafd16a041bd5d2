"""The lines of a batch (wire.md §8): one request or one answer each, as JSON."""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

MEDIA_TYPE: Final = "application/x-ndjson"
BATCH_PATH: Final = "/v1/batch"
BATCH_HEADER: Final = "Quote-Batch"

MAX_LINES: Final = 256
"""Measured with 512 connections: 64 cost a tenth more processor time, 512 gained nothing."""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024
"""A body of 64 KiB of which each byte is escaped, and its headers."""


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One request. `path` includes its query; `body` is the text as it was written."""

    id: int | str
    method: str
    path: str
    headers: dict[str, str]
    body: str | None = None


class AnswerLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One answer. Where the request could not be read, `id` is null and `line` is its number, from 1."""

    id: int | str | None
    status: int
    headers: dict[str, str]
    body: str | None
    line: int | None = None


# msgspec also raises these: for text that is not UTF-8, and for text that is nested too deeply
LINE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

_encode: Final = msgspec.json.Encoder().encode
read_request: Final = msgspec.json.Decoder(RequestLine).decode
"""Read a line of a request. Raises LINE_ERRORS."""
read_answer: Final = msgspec.json.Decoder(AnswerLine).decode
"""Read a line of a response. Raises LINE_ERRORS."""


def request_line(
    number: int, method: str, target: str, headers: dict[str, str], body: bytes | None
) -> bytes | None:
    """A request as a line with its newline; None for a request that UTF-8 cannot hold, which must go alone."""
    try:
        text = None if body is None else body.decode()
        return _encode(RequestLine(number, method, target, headers, text)) + b"\n"
    except UnicodeError:
        return None


def answer_line(answer: AnswerLine) -> bytes:
    """An answer as a line, with its newline."""
    return _encode(answer) + b"\n"


def split(data: bytes) -> Sequence[bytes]:
    """The lines of a whole batch; a newline at its end does not begin another line."""
    lines = data.split(b"\n")
    return lines[:-1] if not lines[-1] else lines


class Splitter:
    """Lines from chunks of a response."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """The lines that `chunk` completes. Raises ValueError where a line is too long."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_ANSWER_BYTES:
            raise ValueError(f"a line is longer than {MAX_ANSWER_BYTES} bytes")
        return whole
