"""Settings of the services under test: what is said for the whole test run holds for each that says nothing else."""

from collections.abc import Mapping
from typing import Final, TypeVar

from chassis import settings
from chassis.settings import Settings

BATCH_LINES: Final = "QUOTES_BATCH_LINES"
DEFAULTS: Final[dict[str, str]] = {}
"""Variables of every service, in the tests' own process and as processes."""

S = TypeVar("S", bound=Settings)


def load(kind: type[S], environment: Mapping[str, str]) -> S:
    return settings.load(kind, {**DEFAULTS, **environment})
