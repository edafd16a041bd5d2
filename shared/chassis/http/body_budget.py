"""A limit for the total size of all bodies that have not arrived completely."""

from typing import Final

from chassis.addresses import network_of
from chassis.errors import UnavailableError

SHARE: Final = 0.5
"""Share of the budget that the callers of one network may use."""


class BodyBudget:
    """Limits the total size of a service's incomplete bodies. Each body counts with its announced length."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken: dict[str, int] = {}
        self._total = 0

    def take(self, address: str, length: int) -> bool:
        """Reserve room for a body until `give_back` is called. Returns False if there is no room."""
        network = network_of(address)
        taken = self._taken.get(network, 0) + length
        if taken > self._max_bytes * SHARE or self._total + length > self._max_bytes:
            return False
        self._taken[network] = taken
        self._total += length
        return True

    def give_back(self, address: str, length: int) -> None:
        network = network_of(address)
        self._total -= length
        self._taken[network] -= length
        if not self._taken[network]:
            del self._taken[network]


def no_room() -> UnavailableError:
    return UnavailableError("The limit for incomplete bodies is reached. Retry after 1 s.")
