"""Signed notes and their keys as in C2SP's signed-note, with Ed25519. Pure: no I/O.

The text forms of keys are those of Go's `golang.org/x/mod/sumdb/note`:
``name+key id+base64`` for the verifier's key and ``PRIVATE+KEY+name+key id+base64`` for the signer's.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_SIGNATURES: Final = 16
MAX_NOTE_CHARACTERS: Final = 16_384

_ED25519: Final = b"\x01"
_KEY_BYTES: Final = 32
_ID_BYTES: Final = 4
_PRIVATE: Final = "PRIVATE+KEY+"
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]{1,128}\Z")
_LINE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})\Z")


class NoteError(Exception):
    """A key or a note that cannot be used. The message says why, without a secret."""


class VerifierKey:
    """The public half of a key."""

    def __init__(self, name: str, public: bytes) -> None:
        """Raises NoteError for a name that no note can have."""
        if not _NAME.match(name):
            raise NoteError("the name of a key must be 1 to 128 characters without spaces and plus signs")
        self.name = name
        self.id = hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_BYTES]
        self._bytes = public
        self._public = Ed25519PublicKey.from_public_bytes(public)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_encode(_ED25519 + self._bytes)}"

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            self._public.verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """A key that signs notes. Its text form is a secret and not its `str`."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.verifier = VerifierKey(name, self._private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> "SigningKey":
        """Return a new random key. Raises NoteError for a name that no note can have."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def secret_text(self) -> str:
        verifier = self.verifier
        return f"{_PRIVATE}{verifier.name}+{verifier.id.hex()}+{_encode(_ED25519 + self._seed)}"

    def sign(self, text: str) -> str:
        """Return the signed note. ``text`` ends with a newline."""
        signature = self.verifier.id + self._private.sign(text.encode())
        return f"{text}\n— {self.verifier.name} {_encode(signature)}\n"


def signing_key(text: str) -> SigningKey:
    """Return the key with this text form. Raises NoteError."""
    if not text.startswith(_PRIVATE):
        raise NoteError(f"a signing key must begin with {_PRIVATE}")
    name, key_id, seed = _key_parts(text.removeprefix(_PRIVATE))
    key = SigningKey(name, seed)
    _require_id(key.verifier, key_id)
    return key


def verifier_key(text: str) -> VerifierKey:
    """Return the key with this text form, name+key id+base64. Raises NoteError."""
    if text.startswith(_PRIVATE):
        raise NoteError("this is a signing key; quotes audit key prints the public key")
    name, key_id, public = _key_parts(text)
    key = VerifierKey(name, public)
    _require_id(key, key_id)
    return key


def open_note(note: str, keys: Iterable[VerifierKey]) -> str:
    """Return the text of a note that is signed by one of the keys.

    Raises NoteError if no key has signed it, or if a signature of one of the keys is wrong.
    """
    text, blank, signatures = note.rpartition("\n\n")
    lines = signatures.removesuffix("\n").split("\n")
    if (
        len(note) > MAX_NOTE_CHARACTERS
        or not blank
        or not signatures.endswith("\n")
        or len(lines) > MAX_SIGNATURES
    ):
        raise NoteError("the note must be a text, an empty line and 1 to 16 lines with signatures")
    text += "\n"
    known = {(key.name, key.id): key for key in keys}
    is_signed = False
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            raise NoteError("a line after the empty line is no signature")
        signature = _decode(found[2])
        key = known.get((found[1], signature[:_ID_BYTES]))
        if key is None:
            continue
        if not key.verifies(text, signature[_ID_BYTES:]):
            raise NoteError(f"the signature of {key.name} is wrong")
        is_signed = True
    if not is_signed:
        raise NoteError("it has no signature of a key that is trusted")
    return text


def _key_parts(text: str) -> tuple[str, str, bytes]:
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    decoded = _decode(encoded)
    if len(decoded) != _KEY_BYTES + 1 or decoded[:1] != _ED25519:
        raise NoteError(
            "a key must be a name, 8 hex digits and an Ed25519 key in base64, with plus signs between"
        )
    return name, key_id, decoded[1:]


def _require_id(key: VerifierKey, key_id: str) -> None:
    if key.id.hex() != key_id:
        raise NoteError(
            f"the key id {key_id[:8]} does not belong to this name and key: it must be {key.id.hex()}"
        )


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    """Decode base64 as `_encode` writes it. Other encodings of the same bytes are refused."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data or _encode(data) != text:
        raise NoteError("malformed base64")
    return data
