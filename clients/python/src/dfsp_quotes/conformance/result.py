"""Results: what was sent, what came, and what would be right."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from dfsp_quotes.conformance.options import Part, Role

MAX_TEXT: Final = 2_000
"""Limit for the characters of each text from a peer that a report contains."""
MAX_EXCHANGES: Final = 24
"""Limit for the requests that one check reports."""

EXIT_OK: Final = 0
EXIT_SOURCE: Final = 1
EXIT_USAGE: Final = 2
EXIT_PROMISES: Final = 3
EXIT_NOT_RUN: Final = 4


class Fault(Exception):  # noqa: N818 - a fault of the implementation, not of the kit
    """The implementation did something else than the check expects; the message says what."""


class Skip(Exception):  # noqa: N818 - likewise
    """The check cannot be made here; the message says why, and what to change."""


class NotRunError(Exception):
    """The kit could not run at all; the message says why."""


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Exchange:
    """One request and its response, as text. Credentials are masked and long texts cut."""

    way: str
    """Sender and receiver, such as "kit → spsp-client"."""
    request: str
    response: str


@dataclass(frozen=True)
class Result:
    """The outcome of one check."""

    id: str
    part: Part
    section: str
    """The place in the source, or in wire.md, that the check is made from."""
    right: str
    """The right behaviour, in one or two sentences."""
    outcome: Outcome
    message: str
    """The fault, or the reason why the check was skipped; empty for a check that passed."""
    exchanges: tuple[Exchange, ...]
    """The requests of the check, in their order, at most `MAX_EXCHANGES`."""
    more_exchanges: int
    """The number of requests that are left out."""
    seconds: float


@dataclass(frozen=True)
class Report:
    """All results of one run."""

    url: str
    role: Role
    began: datetime
    results: Sequence[Result]

    def count(self, outcome: Outcome, part: Part | None = None) -> int:
        return Counter(each.outcome for each in self.results if part is None or each.part is part)[outcome]

    @property
    def failed(self) -> frozenset[str]:
        """The ids of the checks that failed."""
        return frozenset(each.id for each in self.results if each.outcome is Outcome.FAILED)

    @property
    def exit_code(self) -> int:
        """0: nothing failed. 1: a check of the source failed. 3: only stronger promises failed."""
        if self.count(Outcome.FAILED, Part.SOURCE):
            return EXIT_SOURCE
        return EXIT_PROMISES if self.failed else EXIT_OK


def cut(text: str, limit: int = MAX_TEXT) -> str:
    """Return the text, shortened to `limit` characters, with a note if it was longer."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
