"""The audit log's keys, exports and their verification, with the errors of the command line."""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import asyncpg

from chassis.database import CONNECT_SECONDS
from chassis.errors import cause_of
from dfsp_api.audit.checkpoint import Checkpoint, open_checkpoint
from dfsp_api.audit.entry import is_event_of
from dfsp_api.audit.export import NoAuditLogError, export_rows
from dfsp_api.audit.export_format import encode_row
from dfsp_api.audit.key_file import KeyFileError, create_key_file, read_key_file, verifiers_of
from dfsp_api.audit.merkle import is_consistent, leaf_hash, root_of_inclusion
from dfsp_api.audit.note import NoteError, VerifierKey
from dfsp_api.audit.verify import Verdict, verify_export
from dfsp_quotes import AuditProof
from dfsp_quotes.cli.configuration import read_text
from dfsp_quotes.cli.failures import BadInputError, CommandError, NoAnswerError

_STATEMENT_SECONDS: Final = 600


def create_key(path: Path, name: str) -> list[str]:
    """Write a new key file; return its public keys. Raises BadInputError."""
    with _as_bad_input():
        return [str(key) for key in create_key_file(path, name).verifiers]


def verifier_keys(path: Path) -> list[str]:
    """Return the public keys of a key file. Raises BadInputError."""
    with _as_bad_input():
        return [str(key) for key in read_key_file(path).verifiers]


def export(database_url: str, out: Path | None) -> int:
    """Write an export to a new file, or to stdout. Return the number of rows. Raises CommandError."""
    try:
        with _opened(out) as file:
            return asyncio.run(_export(database_url, file))
    except NoAuditLogError as error:
        raise CommandError(f"{str(error).capitalize()}.") from None
    except asyncpg.UndefinedTableError:
        raise CommandError("The database has no audit log.") from None
    except (ValueError, asyncpg.exceptions.ClientConfigurationError):
        raise BadInputError("The URL of the database cannot be used.") from None
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NoAnswerError(f"The export failed: {type(error).__name__}: {cause_of(error)}.") from None


async def _export(database_url: str, file: BinaryIO) -> int:
    connection = await asyncpg.connect(
        database_url, timeout=CONNECT_SECONDS, command_timeout=_STATEMENT_SECONDS
    )
    try:
        rows = 0
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in export_rows(connection):
                file.write(encode_row(row))
                rows += 1
        file.flush()
        return rows
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


@contextmanager
def _opened(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
        return
    try:
        # an export has the callers' data, so only its owner may read it
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise BadInputError(f"{out} cannot be written: {error.strerror}.") from None
    with os.fdopen(descriptor, "wb") as file:
        yield file


def verify(path: Path, keys: Sequence[str], checkpoints: Sequence[Path]) -> Verdict:
    """Verify an export. `checkpoints` are files with checkpoints that were kept. Raises BadInputError."""
    verifiers = _verifiers(keys)
    kept = [_kept(each, verifiers) for each in checkpoints]
    try:
        with path.open("rb") as file:
            return verify_export(file, verifiers, kept)
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}.") from None


def verify_proof(proof: AuditProof, keys: Sequence[str]) -> None:
    """Raises CommandError if a leaf is not in a tree that one of the keys has signed, or is one of another event.

    So it does if the proof has no leaf, or one without content: it proves nothing about the quote.
    """
    if not proof.leaves:
        raise CommandError("No event of the quote is in the audit log yet. Retry after 1 s.")
    checkpoint = _checkpoint(proof.checkpoint, _verifiers(keys))
    for leaf in proof.leaves:
        if leaf.content is None:
            raise CommandError(
                f"Leaf {leaf.position} cannot be verified: the payee has removed its content after its time."
            )
        is_same = leaf_hash(leaf.content.encode()) == leaf.hash and is_event_of(
            leaf.content, str(proof.uuid), leaf.event
        )
        root = root_of_inclusion(leaf.hash, leaf.position, checkpoint.size, leaf.proof)
        if not is_same or root != checkpoint.root:
            raise CommandError(f"The proof of leaf {leaf.position}, {leaf.event!a:.20}, is wrong.")


def size_of(path: Path, keys: Sequence[str]) -> int:
    """Return the size in a file with a checkpoint. Raises BadInputError."""
    return _kept(path, _verifiers(keys)).size


def signed_size(note: str, keys: Sequence[str]) -> int:
    """Return the size of a checkpoint. Raises CommandError if no key has signed it."""
    return _checkpoint(note, _verifiers(keys)).size


def verify_consistency(path: Path, note: str, proof: Sequence[bytes], keys: Sequence[str]) -> None:
    """Raises CommandError if the tree of `note` does not begin with the tree of the checkpoint in a file."""
    verifiers = _verifiers(keys)
    first, second = _kept(path, verifiers), _checkpoint(note, verifiers)
    if first.origin != second.origin or not is_consistent(
        first.size, second.size, first.root, second.root, proof
    ):
        raise CommandError(
            f"The history was rewritten: the log of size {second.size} does not begin with the one of size {first.size}."
        )


def _verifiers(keys: Sequence[str]) -> list[VerifierKey]:
    with _as_bad_input():
        return [verifier for key in keys for verifier in verifiers_of(key)]


def _kept(path: Path, keys: Sequence[VerifierKey]) -> Checkpoint:
    try:
        return open_checkpoint(read_text(path), keys)
    except NoteError as error:
        raise BadInputError(f"{path}: {error}.") from None


def _checkpoint(note: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    try:
        return open_checkpoint(note, keys)
    except NoteError as error:
        raise CommandError(f"The checkpoint cannot be trusted: {error}.") from None


@contextmanager
def _as_bad_input() -> Iterator[None]:
    try:
        yield
    except KeyFileError as error:
        raise BadInputError(f"{error}.") from None
