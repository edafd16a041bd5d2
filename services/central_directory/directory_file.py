"""Read and write the directory's JSON file. The service reads it at start, and each change replaces the whole file."""

import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import orjson
from marshmallow import ValidationError

from central_directory.content import Dfsp, DirectoryContent, Resource, default_name
from chassis.run import StartError
from chassis.settings import base_url
from chassis.text_file import TextFileError, read_text
from quoting.schemas import RECEIVER

WRITE_TEST: Final = b" " * 4_096


class ResourceEntry(msgspec.Struct):
    identifierType: str  # noqa: N815 - the source's names
    identifier: str
    spspReceiver: str  # noqa: N815
    primary: bool
    dfsp: str = ""


class DfspEntry(msgspec.Struct):
    key: str
    hash: str


class DirectoryDocument(msgspec.Struct):
    types: dict[str, str]
    resources: list[ResourceEntry]
    dfsps: dict[str, DfspEntry] = {}


def read(path: Path) -> DirectoryContent:
    """Return the content of a directory file. Raises StartError, which names the file and the position of the fault."""
    try:
        document = msgspec.convert(orjson.loads(read_text(path)), DirectoryDocument)
        content = DirectoryContent(
            types=document.types,
            dfsps={name: Dfsp(entry.key, entry.hash) for name, entry in document.dfsps.items()},
        )
        for number, entry in enumerate(document.resources):
            _check(entry, f"resources[{number}]")
            url = entry.spspReceiver.rstrip("/")
            resource = Resource(entry.dfsp or default_name(url), url, entry.primary)
            content.put(entry.identifierType, entry.identifier, resource)
    except TextFileError as error:
        raise StartError(f"The directory file {error}") from error
    except ValueError as error:
        raise StartError(f"{path} is not a directory file: {error}") from error
    return content


def _check(entry: ResourceEntry, place: str) -> None:
    """Raise ValueError, which names `place`, if no look-up could find the entry or if its URL cannot be used."""
    try:
        RECEIVER.load({"identifierType": entry.identifierType, "identifier": entry.identifier})
    except ValidationError as error:
        field, messages = next(iter(error.normalized_messages().items()))  # type: ignore[no-untyped-call]
        raise ValueError(f"{place}.{field} {messages[0]}") from None
    try:
        base_url(entry.spspReceiver)
    except ValueError as error:
        raise ValueError(f"{place}.spspReceiver {error}") from None


def write(path: Path, content: DirectoryContent) -> None:
    """Replace the file; the new content is on disk when this returns. If it raises OSError, the file is unchanged."""
    document = DirectoryDocument(
        types=content.types,
        resources=[
            ResourceEntry(identifier_type, identifier, each.url, each.is_primary, each.dfsp)
            for (identifier_type, identifier), found in content.resources.items()
            for each in found
        ],
        dfsps={name: DfspEntry(each.key, each.secret_hash) for name, each in content.dfsps.items()},
    )
    temporary = _write_temporary(path, msgspec.json.format(msgspec.json.encode(document), indent=2))
    try:
        _sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    _sync(path.parent)


def check_writable(path: Path) -> None:
    """Raise OSError if the directory file cannot be written now. Tests it with a small file in the same folder."""
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder")
    _write_temporary(path, WRITE_TEST).unlink()


def _write_temporary(path: Path, content: bytes) -> Path:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except OSError:
        Path(name).unlink()
        raise
    return Path(name)


def _sync(path: Path) -> None:
    """Wait until a file's content is on disk. For a folder, wait until its list of files is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
