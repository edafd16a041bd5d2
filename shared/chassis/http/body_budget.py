"""A limit for the bytes of bodies that have not arrived completely."""

from typing import Final

from chassis.addresses import network_of

SHARE: Final = 0.5
"""Share of the budget that one network of callers may use."""


class BodyBudget:
    """Bytes that incomplete bodies may take in one service. A body is counted with its announced length."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._taken: dict[str, int] = {}
        self._total = 0

    def take(self, address: str, length: int) -> bool:
        """Whether there is room for a body of this length; it then counts until `give_back`."""
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
