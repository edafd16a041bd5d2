"""Files with keys of the audit log, and the command `python -m dfsp_api audit-key`, which makes one."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from chassis.text_file import TextFileError, read_text
from dfsp_api.audit.keys import AuditKeys, audit_keys
from dfsp_api.audit.note import NoteError, SigningKey, VerifierKey, verifier_key

DEFAULT_NAME: Final = "dfsp-quotes.example"
_MODE: Final = 0o600


class KeyFileError(Exception):
    """A file with keys cannot be written or used. The message says why."""


def create_key_file(path: Path, name: str) -> AuditKeys:
    """Write a file with a new key, which only its owner can read. Raises KeyFileError, also if the file exists."""
    try:
        key = SigningKey.generate(name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
    except NoteError as error:
        raise KeyFileError(f"{name!a:.80} cannot be the name of a log: {error}") from None
    except FileExistsError:
        raise KeyFileError(f"{path} exists, and a key is never overwritten") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{key.secret_text}\n")
        file.flush()
        os.fsync(file.fileno())
    return audit_keys(key.secret_text)


def read_key_file(path: Path) -> AuditKeys:
    """Return the keys of a file. Raises KeyFileError."""
    try:
        return audit_keys(read_text(path))
    except (TextFileError, NoteError) as error:
        raise KeyFileError(f"{path}: {error}") from None


def verifiers_of(text: str) -> list[VerifierKey]:
    """Return public keys. ``text`` is a public key or the path of a file.

    The file has public keys or signing keys, one a line. Raises KeyFileError.
    """
    path = Path(text)
    try:
        if "+" in text and not path.is_file():
            return [verifier_key(text)]
    except NoteError as error:  # the text may be a secret
        raise KeyFileError(f"the key cannot be used: {error}") from None
    try:
        lines = read_text(path).split()
        if lines and not lines[0].startswith("PRIVATE+"):
            return [verifier_key(line) for line in lines]
    except (TextFileError, NoteError) as error:
        raise KeyFileError(f"{path}: {error}") from None
    return list(read_key_file(path).verifiers)


def main(arguments: Sequence[str]) -> int:
    """Make a key file unless it exists; print its public keys. Return 0, or 2 if that is not possible."""
    parser = argparse.ArgumentParser(
        prog="python -m dfsp_api audit-key",
        description="Make a file with a key for the audit log, unless it exists, and print its public key.",
    )
    parser.add_argument("file", type=Path, help="the file, for QUOTES_AUDIT_KEY_FILE")
    parser.add_argument("--name", default=DEFAULT_NAME, help="name of the log, such as example.com/quotes")
    chosen = parser.parse_args(arguments)
    try:
        keys = (
            read_key_file(chosen.file) if chosen.file.exists() else create_key_file(chosen.file, chosen.name)
        )
    except KeyFileError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    for key in keys.verifiers:
        print(key)  # noqa: T201
    return 0
