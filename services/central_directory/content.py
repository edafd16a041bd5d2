"""The directory's content: the accounts of people at DFSPs, and the credentials of DFSPs. Pure: no I/O."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

MAX_DFSPS_PER_PERSON: Final = 100


@dataclass(frozen=True, slots=True)
class Resource:
    """An account of one person at one DFSP. ``url`` is the DFSP's base URL."""

    dfsp: str
    url: str
    is_primary: bool


@dataclass(frozen=True, slots=True)
class Dfsp:
    """A registered DFSP's credentials."""

    key: str
    secret_hash: str


@dataclass(slots=True)
class DirectoryContent:
    types: dict[str, str] = field(default_factory=dict)
    """Identifier type to description."""
    resources: dict[tuple[str, str], tuple[Resource, ...]] = field(default_factory=dict)
    """The accounts of each person, by identifier type and identifier."""
    dfsps: dict[str, Dfsp] = field(default_factory=dict)
    """By name."""

    def copy(self) -> "DirectoryContent":
        return DirectoryContent(dict(self.types), dict(self.resources), dict(self.dfsps))

    def put(self, identifier_type: str, identifier: str, resource: Resource) -> None:
        """Add a person's account at a DFSP, or replace it.

        If it is primary, the person's other accounts become secondary.
        """
        others = [
            Resource(each.dfsp, each.url, each.is_primary and not resource.is_primary)
            for each in self.resources.get((identifier_type, identifier), ())
            if each.url != resource.url
        ]
        self.resources[identifier_type, identifier] = (*others, resource)[-MAX_DFSPS_PER_PERSON:]


def default_name(url: str) -> str:
    """Return the name for a DFSP that has not registered a name: the host in its URL."""
    return urlsplit(url).netloc
