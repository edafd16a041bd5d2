"""Verifies an export of the audit log, without a network or a database (docs/audit.md)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO, Final

import orjson

from dfsp_api.audit.checkpoint import Checkpoint, open_checkpoint
from dfsp_api.audit.entry import differences
from dfsp_api.audit.export_format import (
    ABSENT,
    FORMAT,
    MAX_ROW_BYTES,
    SAME,
    STUB,
    CheckpointRow,
    EndRow,
    HeaderRow,
    LeafRow,
    Row,
    RowError,
    UnloggedRow,
    decode_row,
)
from dfsp_api.audit.merkle import CompactTree, leaf_hash
from dfsp_api.audit.note import NoteError, VerifierKey

MAX_FINDINGS: Final = 100
MAX_FINDING_CHARACTERS: Final = 500


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, and the line where it is."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}"


@dataclass
class Verdict:
    """The result of a verification."""

    leaves: int = 0
    checkpoints: int = 0
    without_content: int = 0
    """Leaves of which only the hash is kept."""
    findings: list[Finding] = field(default_factory=list)
    """The first MAX_FINDINGS ones, in the order of the file."""
    more: int = 0
    """Number of further findings."""

    @property
    def is_good(self) -> bool:
        return not self.findings


def verify_export(file: BinaryIO, keys: Sequence[VerifierKey], kept: Sequence[Checkpoint] = ()) -> Verdict:
    """Verify an export.

    Each checkpoint in it must be signed by one of ``keys``. ``kept`` are checkpoints from outside of the export, whose
    signatures were verified: the leaves must lead to them, too.
    """
    verification = _Verification(keys, kept)
    for number, line in enumerate(_lines(file), 1):
        verification.line = number
        verification.read(line)
    return verification.end()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield each line; of one that is too long for a row, the first MAX_ROW_BYTES."""
    while line := file.readline(MAX_ROW_BYTES):
        yield line
        while len(line) == MAX_ROW_BYTES and not line.endswith(b"\n"):
            line = file.readline(MAX_ROW_BYTES)


class _Verification:
    """State of the verification after the rows up to the current line."""

    def __init__(self, keys: Sequence[VerifierKey], kept: Sequence[Checkpoint]) -> None:
        self.line = 0
        self._verdict = Verdict()
        self._keys = keys
        self._kept: dict[int, list[Checkpoint]] = {}
        for each in kept:
            self._kept.setdefault(each.size, []).append(each)
        self._tree = CompactTree()
        self._is_tree_known = True
        """Whether every leaf so far was readable, so that the root can be compared with checkpoints."""
        self._last_row = 0
        self._position = 0
        """The position of the next leaf."""
        self._signed = -1
        """The size of the last checkpoint that fits the leaves."""
        self._last_size = -1
        self._header: HeaderRow | None = None
        self._is_ended = False
        self._check_kept()

    def read(self, line: bytes) -> None:
        try:
            row = decode_row(line)
        except RowError as error:
            self._report(str(error))
            self._last_row += 1
            # it may have been a leaf
            self._is_tree_known = False
            return
        self._check_number(row)
        if self._is_ended:
            self._report("a row follows the end of the export")
        self._check(row)

    def end(self) -> Verdict:
        self.line += 1
        if not self._is_ended:
            self._report("the end of the export is missing")
        if self._header is not None and self._header.size != self._position:
            self._report(f"the header says {self._header.size} leaves, but there are {self._position}")
        if self._last_size < 0:
            self._report("there is no checkpoint")
        elif self._last_size != self._position:
            self._report(f"no checkpoint signs the leaves from {self._last_size} on")
        for size in sorted(self._kept):
            self._report(f"the export has fewer leaves than the kept checkpoint of size {size}")
        return self._verdict

    def _report(self, text: str) -> None:
        if len(self._verdict.findings) < MAX_FINDINGS:
            # the text can have parts of the file
            self._verdict.findings.append(Finding(self.line, text[:MAX_FINDING_CHARACTERS]))
        else:
            self._verdict.more += 1

    def _check_number(self, row: Row) -> None:
        expected, self._last_row = self._last_row + 1, row.row
        if row.row != expected:
            self._report(
                f"row {row.row} is in the place of row {expected}: rows are missing, inserted or swapped"
            )

    def _check(self, row: Row) -> None:
        if isinstance(row, HeaderRow):
            self._header_row(row)
        elif self._header is None and self.line == 1:
            self._report("the header is missing")
        if isinstance(row, LeafRow):
            self._leaf_row(row)
        elif isinstance(row, CheckpointRow):
            self._checkpoint_row(row)
        elif isinstance(row, UnloggedRow):
            self._report(f"the log has no leaf for {_described(row.content)}, which is in the table")
        elif isinstance(row, EndRow):
            self._is_ended = True

    def _header_row(self, row: HeaderRow) -> None:
        if self.line != 1:
            self._report("a header row is in the place of another row")
            return
        self._header = row
        if row.format != FORMAT:
            self._report(f"the format is {row.format[:64]}, but this version verifies {FORMAT}")
        if not any(key.name == row.origin for key in self._keys):
            self._report(f"the log is {row.origin[:128]}, but no trusted key has this name")

    def _leaf_row(self, row: LeafRow) -> None:
        if row.position != self._position:
            missing = row.position - self._position
            names = (
                f"leaf {self._position}" if missing == 1 else f"leaves {self._position} to {row.position - 1}"
            )
            self._report(
                f"{names} missing before leaf {row.position}"
                if missing > 0
                else f"leaf {row.position} is inserted or out of order: leaf {self._position} belongs here"
            )
            self._is_tree_known = False
        self._position = max(self._position, row.position + 1)
        self._verdict.leaves += 1
        self._check_content(row)
        self._tree.add(bytes.fromhex(row.hash))
        self._check_kept()

    def _check_content(self, row: LeafRow) -> None:
        name = f"leaf {row.position}"
        if row.content is None:
            # contents are removed from the first leaf on
            if self._verdict.without_content < self._verdict.leaves - 1:
                self._report(f"{name} has no content, but an earlier leaf has: it was removed by hand")
            self._verdict.without_content += 1
            return
        if leaf_hash(row.content.encode()).hex() != row.hash:
            self._report(
                f"{name} ({_described(row.content)}) was changed: its hash does not match its content"
            )
            self._is_tree_known = False
        if row.table == ABSENT:
            self._report(f"{name} ({_described(row.content)}): the quote is no longer in the table")
        elif row.table is None:
            self._report(f"{name}: the row does not say what is in the table")
        elif row.table not in {SAME, STUB}:
            names = ", ".join(_differences(row.content, row.table))
            self._report(f"{name} ({_described(row.content)}): the table has another {names}")

    def _checkpoint_row(self, row: CheckpointRow) -> None:
        self._verdict.checkpoints += 1
        try:
            checkpoint = open_checkpoint(row.note, self._keys)
        except NoteError as error:
            self._report(f"the checkpoint after {self._position} leaves: {error}")
            return
        if self._header is not None and checkpoint.origin != self._header.origin:
            self._report(f"a checkpoint of another log: {checkpoint.origin}")
        if checkpoint.size <= self._last_size:
            self._report(f"the checkpoint of size {checkpoint.size} is inserted or out of order")
        self._last_size = max(checkpoint.size, self._last_size)
        if checkpoint.size != self._position:
            self._report(f"the checkpoint of size {checkpoint.size} is after {self._position} leaves")
            return
        self._compare(checkpoint)

    def _check_kept(self) -> None:
        for checkpoint in self._kept.pop(self._position, ()):
            self._compare(checkpoint)

    def _compare(self, checkpoint: Checkpoint) -> None:
        """Compare the root of the leaves so far. Only the first difference is reported: all later roots differ, too."""
        if not self._is_tree_known:
            return
        if self._tree.root == checkpoint.root:
            self._signed = checkpoint.size
            return
        first = max(self._signed, 0)
        where = (
            f"leaf {first} is"
            if checkpoint.size - first == 1
            else f"one of the leaves {first} to {checkpoint.size - 1} is"
        )
        self._report(
            f"the history was rewritten: {where} not what the checkpoint of size {checkpoint.size} has signed"
        )
        self._is_tree_known = False


def _described(content: str) -> str:
    """Return a text that names the event and the quote of a leaf. The content may be malformed."""
    parsed = _parsed(content)
    return f"{str(parsed.get('event'))[:16]} of quote {str(parsed.get('uuid'))[:36]}"


def _differences(logged: str, table: str) -> list[str]:
    if not (_parsed(logged) and _parsed(table)):
        return ["content"]
    try:
        return differences(logged, table) or ["content"]
    except RecursionError:  # somebody has made both, nested deeply
        return ["content"]


def _parsed(content: str) -> Mapping[str, object]:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
