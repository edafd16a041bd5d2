"""Checkpoints of the tree, as in C2SP's tlog-checkpoint: origin, size and root, as a signed note. Pure: no I/O."""

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dfsp_api.audit.merkle import HASH_BYTES
from dfsp_api.audit.note import NoteError, SigningKey, VerifierKey, open_note

_TEXT: Final = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,18})\n([A-Za-z0-9+/]{43}=)\n\Z")


@dataclass(frozen=True)
class Checkpoint:
    """The tree at one size."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(key: SigningKey, size: int, root: bytes) -> str:
    """Return the signed checkpoint. Its origin is the name of the key."""
    return key.sign(Checkpoint(key.verifier.name, size, root).text)


def open_checkpoint(note: str, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return a checkpoint that is signed by one of the keys. Raises NoteError."""
    return _checkpoint(open_note(note, keys))


def _checkpoint(text: str) -> Checkpoint:
    found = _TEXT.match(text)
    if found is None:
        raise NoteError("a checkpoint must have three lines: origin, size and root in base64")
    try:
        root = base64.b64decode(found[3], validate=True)
    except binascii.Error:
        root = b""
    if len(root) != HASH_BYTES:
        raise NoteError("the root of a checkpoint must have 32 bytes")
    checkpoint = Checkpoint(found[1], int(found[2]), root)
    if checkpoint.text != text:
        raise NoteError("the root of a checkpoint is malformed base64")
    return checkpoint
