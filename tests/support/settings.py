"""Load settings for services under test: those of the test, and defaults that apply to the whole test run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from argon2 import PasswordHasher

from chassis import settings
from chassis.settings import Settings, variables

CHEAP_HASHER: Final = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Hashes passwords for users files, so that tests do not wait for expensive hashes."""
BATCH_LINES: Final = "QUOTES_BATCH_LINES"
EXPOSURE_LIMITS: Final = Path(__file__).with_name("exposure_limits.toml")
"""The exposure limits of the chain that tests share."""
DEFAULTS: Final[dict[str, str]] = {}
"""Environment variables for every service in the tests, whether in the test's process or in a separate one."""

HTTP: Final = ("protocol", "aiohttp") if "QUOTES_HTTP" in dict(variables(Settings)) else ("protocol",)
"""The HTTP implementations that can be chosen with QUOTES_HTTP."""

S = TypeVar("S", bound=Settings)


def load(kind: type[S], environment: Mapping[str, str]) -> S:
    return settings.load(kind, {**DEFAULTS, **environment})
