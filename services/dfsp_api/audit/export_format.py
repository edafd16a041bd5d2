"""The rows of an export of the audit log, one JSON object a line (docs/audit.md). Pure: no I/O.

Each row has its number, and ends with ``"sum"``: the first 16 hex digits of the SHA-256 of the row's text before it.
With this checksum, `verify` finds the damaged row. The checksum proves nothing: the hashes of the tree and the
signatures are the proof.
"""

import hashlib
from typing import Annotated, Final

import msgspec

FORMAT: Final = "dfsp-quotes-audit/1"
MAX_ROW_BYTES: Final = 262_144
MAX_NUMBER: Final = 2**63 - 1
"""Maximum of each number in a row: Postgres stores positions in 64 bits."""
_MAX_CAUSE_CHARACTERS: Final = 200

SAME: Final = "="
"""In `LeafRow.table`: the table says the same as the leaf."""
STUB: Final = "stub"
"""In `LeafRow.table`: retention has removed the terms, and the rest is the same."""
ABSENT: Final = "absent"
"""In `LeafRow.table`: the table has no such quote."""

_SUM: Final = b',"sum":"'
_SUM_DIGITS: Final = 16
_TAIL_BYTES: Final = len(_SUM) + _SUM_DIGITS + len(b'"}')


_Number = Annotated[int, msgspec.Meta(ge=0, le=MAX_NUMBER)]
_Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    row: _Number
    """Number of the row, from 1 on."""


class HeaderRow(_Row, frozen=True, tag="header"):
    """The first row."""

    format: str
    origin: str
    size: _Number
    """Number of leaves."""


class LeafRow(_Row, frozen=True, tag="leaf"):
    """One leaf. The rows of all leaves are in the order of their positions."""

    position: _Number
    hash: _Hash
    content: str | None
    """None if the content was removed because it was too old."""
    table: str | None
    """The state of the table of quotes: SAME, STUB, ABSENT, or the content that the leaf would have now; None if the
    content was removed.
    """


class CheckpointRow(_Row, frozen=True, tag="checkpoint"):
    """A signed checkpoint. It follows the last leaf that it signs."""

    note: str


class UnloggedRow(_Row, frozen=True, tag="unlogged"):
    """An event of a quote in the table that has no leaf."""

    content: str


class EndRow(_Row, frozen=True, tag="end"):
    """The last row."""


Row = HeaderRow | LeafRow | CheckpointRow | UnloggedRow | EndRow

_DECODER: Final = msgspec.json.Decoder(Row)


class RowError(Exception):
    """A line is not a row of an export. The message says why."""


def encode_row(row: Row) -> bytes:
    """Return the line of a row, with its newline."""
    text = msgspec.json.encode(row)[:-1]
    return text + _SUM + _sum(text) + b'"}\n'


def decode_row(line: bytes) -> Row:
    """Return the row of a line. Raises RowError, also if `encode_row` writes the row in another way."""
    text = line[: -_TAIL_BYTES - 1]
    if line[len(text) :] != _SUM + _sum(text) + b'"}\n':
        raise RowError("the row is damaged: its checksum is wrong")
    try:
        row: Row = _DECODER.decode(text + b"}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RowError(f"this is not a row of an export: {str(error)[:_MAX_CAUSE_CHARACTERS]}") from None
    if encode_row(row) != line:
        raise RowError("the row is not in the form of an export: it has spaces, or a key twice")
    return row


def _sum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_SUM_DIGITS].encode()
