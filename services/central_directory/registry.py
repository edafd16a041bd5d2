"""The directory's content in memory and in its file. A change takes effect only after it is written to the file."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from central_directory import directory_file
from central_directory.content import Dfsp, DirectoryContent, Resource, default_name
from chassis.configuration import MAX_ROWS, ConfigurationTable
from chassis.errors import AlreadyExistsError, UnavailableError
from chassis.users import HASHER


class Registry:
    on_fault: Callable[..., object] | None = None
    """Function for the log: called with a message and ``cause=`` when the directory file can no longer be written."""

    on_written: Callable[[], object] = staticmethod(lambda: None)
    """Function that is called after the registry itself has written the directory file."""

    def __init__(self, path: Path, content: DirectoryContent, seed: Path | None = None) -> None:
        self._path = path
        self._seed = seed
        self._set_content(content)
        self._is_writable = True
        self._writing = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    @classmethod
    def load(cls, path: Path, seed: Path | None = None) -> "Registry":
        """Return the directory in the file `path`, or, if there is no such file, in the seed file.

        Without a seed file, the directory is empty. Raises StartError if the file that is read is not valid.
        """
        source = path if path.exists() else seed
        return cls(path, DirectoryContent() if source is None else directory_file.read(source), seed)

    async def reload(self) -> Mapping[str, object]:
        """Read the file again, which a person may have changed (`chassis.watched_files.Reload`). Raises StartError."""
        async with self._writing:
            source = self._path if self._path.exists() or self._seed is None else self._seed
            self._set_content(await asyncio.to_thread(directory_file.read, source))
        return {"identifiers": len(self._content.resources)}

    @property
    def types(self) -> dict[str, str]:
        """Description of each identifier type."""
        return self._content.types

    def find(self, identifier_type: str, identifier: str) -> Sequence[Resource]:
        """Return a person's accounts; an empty sequence if the person is unknown."""
        return self._content.resources.get((identifier_type, identifier), ())

    def table(self) -> ConfigurationTable:
        """Return the accounts in the directory, for operators."""
        columns = ("type", "identifier", "DFSP", "URL", "primary")
        rows = (
            (kind, identifier, each.dfsp, each.url, "yes" if each.is_primary else "no")
            for (kind, identifier), resources in self._content.resources.items()
            for each in resources
        )
        total = sum(map(len, self._content.resources.values()))
        return ConfigurationTable("Directory", columns, list(islice(rows, MAX_ROWS)), total)

    def hash_of(self, key: str) -> str | None:
        """Return the hash of the secret that belongs to this DFSP key; None if the key is unknown."""
        return self._hashes.get(key)

    async def add(self, identifier_type: str, identifier: str, url: str, *, is_primary: bool) -> Resource:
        """Store that a person has an account at the DFSP with this URL. Replaces an earlier account at this DFSP.

        Raises UnavailableError.
        """
        resource = Resource(default_name(url), url, is_primary)

        def change(content: DirectoryContent) -> None:
            content.types.setdefault(identifier_type, identifier_type)
            content.put(identifier_type, identifier, resource)

        await self._commit(change)
        return resource

    async def register(self, name: str) -> tuple[str, str]:
        """Register a DFSP; return its new key and secret. Only a hash of the secret is stored.

        Raises AlreadyExistsError if the name is taken, UnavailableError if the file cannot be written.
        """
        self._require_new(name, self._content)
        key, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
        dfsp = Dfsp(key, await asyncio.to_thread(HASHER.hash, secret))

        def change(content: DirectoryContent) -> None:
            self._require_new(name, content)
            content.dfsps[name] = dfsp

        await self._commit(change)
        return key, secret

    def _require_new(self, name: str, content: DirectoryContent) -> None:
        if name in content.dfsps:
            raise AlreadyExistsError(f"A DFSP named {name} is registered already.")

    async def _commit(self, change: Callable[[DirectoryContent], None]) -> None:
        """Apply a change to a copy of the content, write the copy to the file, then use it in memory.

        If the caller is cancelled, the change still runs to its end: otherwise file and memory could differ.
        """
        task = asyncio.create_task(self._write(change))
        self._changes.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        if not task.cancelled():
            task.exception()  # asyncio logs an exception that is not retrieved

    async def _write(self, change: Callable[[DirectoryContent], None]) -> None:
        async with self._writing:
            content = self._content.copy()
            change(content)
            try:
                await asyncio.to_thread(directory_file.write, self._path, content)
            except OSError as error:
                self._set_writable(error)
                raise UnavailableError(
                    "The directory cannot be stored at present, so nothing was changed. Try again later.",
                    cause=f"{self._path}: {error}",
                ) from error
            self._set_content(content)
            self.on_written()

    def _set_content(self, content: DirectoryContent) -> None:
        self._content = content
        self._hashes = {dfsp.key: dfsp.secret_hash for dfsp in content.dfsps.values()}

    async def missing(self) -> list[str]:
        """Return a list of faults that keep the directory from storing changes; empty if it is ready (wire.md §6)."""
        try:
            await asyncio.to_thread(directory_file.check_writable, self._path)
        except OSError as error:
            self._set_writable(error)
            return ["a writable directory file"]
        self._set_writable(None)
        return []

    def _set_writable(self, error: OSError | None) -> None:
        if error is not None and self._is_writable and self.on_fault is not None:
            self.on_fault("the directory file cannot be written", cause=f"{self._path}: {error}")
        self._is_writable = error is None
