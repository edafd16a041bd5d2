"""Settings of the services under test: a test's own, and the defaults of the test run."""

from collections.abc import Mapping
from typing import Final, TypeVar

from chassis import settings
from chassis.settings import Settings, variables

BATCH_LINES: Final = "QUOTES_BATCH_LINES"
DEFAULTS: Final[dict[str, str]] = {}
"""Variables of every service, in the tests' own process and in processes of their own."""

HTTP: Final = ("protocol", "aiohttp") if "QUOTES_HTTP" in dict(variables(Settings)) else ("protocol",)
"""The implementations of HTTP that a service can be set to."""

S = TypeVar("S", bound=Settings)


def load(kind: type[S], environment: Mapping[str, str]) -> S:
    return settings.load(kind, {**DEFAULTS, **environment})
