"""The lines of a batch (wire.md §8). Each line is one request or one answer, as JSON."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec

MEDIA_TYPE: Final = "application/x-ndjson"
BATCH_PATH: Final = "/v1/batch"
BATCH_HEADER: Final = "Quote-Batch"

MAX_ID_CHARACTERS: Final = 1_024
MAX_LINES: Final = 256
"""Default for the maximum number of requests in one batch.

Measured with 512 connections: a maximum of 64 cost a tenth more processor time, a maximum of 512 saved nothing.
"""
MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_ANSWER_BYTES: Final = 512 * 1024
"""Enough for the headers and for a body of 64 KiB in which every byte is escaped."""


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One request. `path` includes the query. `body` is the text of the request's body, unchanged."""

    id: int | Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARACTERS)]
    method: str
    path: str
    headers: dict[str, str]
    body: str | None = None


class AnswerLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One answer. If the request could not be read, `id` is null and `line` is its line number, from 1."""

    id: int | str | None
    status: int
    headers: dict[str, str]
    body: str | None
    line: int | None = None


# msgspec also raises these: for text that is not UTF-8, and for text that is nested too deeply
LINE_ERRORS: Final = (msgspec.MsgspecError, UnicodeError, RecursionError)

_encode: Final = msgspec.json.Encoder().encode
read_request: Final = msgspec.json.Decoder(RequestLine).decode
"""Return the request in a line. Raises one of LINE_ERRORS."""
read_answer: Final = msgspec.json.Decoder(AnswerLine).decode
"""Return the answer in a line. Raises one of LINE_ERRORS."""


def request_line(
    number: int, method: str, target: str, headers: dict[str, str], body: bytes | None
) -> bytes | None:
    """Return a request as a line with its newline.

    Return None if the request is not valid UTF-8 and therefore cannot be a line of a batch.
    """
    try:
        text = None if body is None else body.decode()
        return _encode(RequestLine(number, method, target, headers, text)) + b"\n"
    except UnicodeError:
        return None


def answer_line(answer: AnswerLine) -> bytes:
    """Return an answer as a line with its newline."""
    return _encode(answer) + b"\n"


def split(data: bytes) -> Sequence[bytes]:
    """Return the lines of a whole batch. A newline at the end of the batch does not begin another line."""
    lines = data.split(b"\n")
    return lines[:-1] if not lines[-1] else lines


class Splitter:
    """Splits a response, which arrives in chunks, into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterable[bytes]:
        """Return the lines that `chunk` completes. Raises ValueError if a line is too long."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > MAX_ANSWER_BYTES:
            raise ValueError(f"a line is longer than {MAX_ANSWER_BYTES} bytes")
        return whole
