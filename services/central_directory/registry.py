"""Who is where: identifiers, the DFSPs that have an account for them, and DFSPs' own keys.

Kept in memory and in one JSON file, which is replaced as a whole, and on disk, before a change is answered.
"""

import asyncio
import os
import secrets
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from chassis.errors import AlreadyExistsError
from chassis.run import StartError
from chassis.users import HASHER

MAX_DFSPS_A_PERSON: Final = 100


@dataclass(frozen=True, slots=True)
class Resource:
    """One DFSP at which one person has an account."""

    dfsp: str
    url: str
    is_primary: bool


@dataclass(slots=True)
class Registry:
    """The directory's content."""

    path: Path
    types: dict[str, str] = field(default_factory=dict)
    resources: dict[tuple[str, str], list[Resource]] = field(default_factory=dict)
    dfsps: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name to key and hash of the secret."""
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def load(cls, path: Path, seed: Path | None = None) -> "Registry":
        """What the file holds; where there is none, what the seed holds, or nothing. Raises StartError."""
        registry = cls(path)
        if not path.exists():
            if seed is None:
                return registry
            path = seed
        try:
            content = orjson.loads(path.read_bytes())
            registry.types = dict(content["types"])
            registry.dfsps = dict(content.get("dfsps", {}))
            for entry in content["resources"]:
                registry._put(
                    entry["identifierType"],
                    entry["identifier"],
                    Resource(
                        entry.get("dfsp") or name_of(entry["spspReceiver"]),
                        entry["spspReceiver"],
                        bool(entry["primary"]),
                    ),
                )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StartError(f"{path} is no directory file: {error!r}") from error
        return registry

    def find(self, identifier_type: str, identifier: str) -> list[Resource]:
        """All DFSPs of a person; empty where nobody is known."""
        return self.resources.get((identifier_type, identifier), [])

    def hash_of(self, key: str) -> str | None:
        """Hash of the secret of the DFSP with this key."""
        return next((dfsp["hash"] for dfsp in self.dfsps.values() if dfsp["key"] == key), None)

    async def add(self, identifier_type: str, identifier: str, url: str, *, is_primary: bool) -> Resource:
        """Adds a person's account at a DFSP, or changes which is the primary one."""
        async with self._writing:
            self.types.setdefault(identifier_type, identifier_type)
            resource = Resource(name_of(url), url, is_primary)
            self._put(identifier_type, identifier, resource)
            await asyncio.to_thread(self._write, self._content())
            return resource

    async def register(self, name: str) -> tuple[str, str]:
        """Key and secret of a new DFSP; the secret is told this once. Raises AlreadyExistsError."""
        async with self._writing:
            if name in self.dfsps:
                raise AlreadyExistsError(f"A DFSP named {name} is registered already.")
            key, secret = secrets.token_hex(16), secrets.token_urlsafe(32)
            hashed = await asyncio.to_thread(HASHER.hash, secret)
            self.dfsps[name] = {"key": key, "hash": hashed}
            await asyncio.to_thread(self._write, self._content())
            return key, secret

    def _put(self, identifier_type: str, identifier: str, resource: Resource) -> None:
        """At most one of a person's DFSPs is the primary one."""
        others = [
            Resource(each.dfsp, each.url, each.is_primary and not resource.is_primary)
            for each in self.resources.get((identifier_type, identifier), [])
            if each.url != resource.url
        ]
        self.resources[identifier_type, identifier] = [*others, resource][-MAX_DFSPS_A_PERSON:]

    def _content(self) -> dict[str, Any]:
        return {
            "types": self.types,
            "resources": [
                {
                    "identifierType": identifier_type,
                    "identifier": identifier,
                    "dfsp": each.dfsp,
                    "spspReceiver": each.url,
                    "primary": each.is_primary,
                }
                for (identifier_type, identifier), found in self.resources.items()
                for each in found
            ],
            "dfsps": self.dfsps,
        }

    def _write(self, content: dict[str, Any]) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(self.path)


def name_of(url: str) -> str:
    """What a DFSP is called that nobody has named: its host."""
    return urlsplit(url).netloc
