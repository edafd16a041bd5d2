"""The services that the console watches, as its settings name them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from chassis.settings import base_url

MAX_SERVICES: Final = 100
PAYEE: Final = "dfsp-api"
"""The name under which the console watches the payee."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class WatchedService:
    """A service: its name, and the base URL of its replicas."""

    name: str
    origin: str

    def __str__(self) -> str:
        return f"{self.name}={self.origin}"


def watched_services(value: str | Iterable[WatchedService]) -> tuple[WatchedService, ...]:
    """Convert ``name=origin`` pairs, separated by commas, in the order in which the console shows them.

    Raises ValueError.
    """
    if not isinstance(value, str):
        return tuple(value)
    pairs = [item.strip().partition("=") for item in value.split(",") if item.strip()]
    if len(pairs) > MAX_SERVICES:
        raise ValueError(f"must name at most {MAX_SERVICES} services")
    for name, _, origin in pairs:
        if not _NAME.match(name) or not origin:
            raise ValueError(
                f"must be pairs such as dfsp-api=http://127.0.0.1:8015, separated by commas, not {name!a:.80}"
            )
    names = [name for name, _, _ in pairs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"names {', '.join(repeated)} more than once")
    return tuple(WatchedService(name, base_url(origin)) for name, _, origin in pairs)
