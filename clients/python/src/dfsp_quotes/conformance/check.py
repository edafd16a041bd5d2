"""A check: what would be right, where that is written, and the function that finds out."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from dfsp_quotes.conformance.implementation import Implementation
from dfsp_quotes.conformance.options import RECEIVES, SENDS, Part, Role

CheckFunction = Callable[[Implementation], Awaitable[None]]
"""Returns if the implementation is right; raises Fault if it is wrong and Skip if that cannot be found out."""


@dataclass(frozen=True)
class Check:
    id: str
    part: Part
    section: str
    right: str
    roles: frozenset[Role]
    needs: tuple[str, ...]
    """Ids of checks that must have passed: without them this one would only report their fault again."""
    function: CheckFunction

    def section_for(self, role: Role) -> str:
        """Return the section with the numbers of the hops that this role receives and sends."""
        return self.section.format(receives=RECEIVES[role], sends=SENDS.get(role, ""))


class Checks(list[Check]):
    """The checks of one module, which share a part and the roles that they are for."""

    def __init__(self, part: Part, roles: Iterable[Role]) -> None:
        super().__init__()
        self._part = part
        self._roles = frozenset(roles)

    def add(
        self, id_: str, section: str, *, needs: Iterable[str] = (), roles: Iterable[Role] | None = None
    ) -> Callable[[CheckFunction], CheckFunction]:
        """Return a decorator that adds a function as a check. Its docstring says what would be right."""

        def decorate(function: CheckFunction) -> CheckFunction:
            right = " ".join((function.__doc__ or "").split())
            allowed = self._roles if roles is None else frozenset(roles)
            self.append(Check(id_, self._part, section, right, allowed, tuple(needs), function))
            return function

        return decorate
