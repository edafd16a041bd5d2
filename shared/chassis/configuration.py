"""`GET /v1/configuration`: the settings of a running service as they are in force, for operators. Secrets are not in it."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from chassis.settings import Listening, Secret, sources_of, variables

PATH: Final = "/v1/configuration"
MAX_ROWS: Final = 500
SET, NOT_SET = "set", "not set"
_DATABASE_SCHEMES: Final = ("postgresql://", "postgres://")
_SERVER: Final = r"(?:[\w.%-]*|\[[\w:.%]*\])(?::[0-9]*)?"
_SERVERS: Final = re.compile(rf"{_SERVER}(?:,{_SERVER})*\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class ConfigurationTable:
    """The content of a configuration file in force, such as a fee schedule, as a table of texts.

    `rows` has the first rows, at most MAX_ROWS; `total` is the number of all rows.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    total: int

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows[:MAX_ROWS]],
            "total": self.total,
        }


Table = Callable[[], ConfigurationTable]


def describe(settings: Listening, environment: Mapping[str, str] = os.environ) -> list[dict[str, Any]]:
    """Return each setting with its value as text, and whether that is the default, from the environment or a file."""
    described = []
    for name, field in variables(type(settings)):
        sources = sources_of(name, type(settings), environment)
        value = getattr(settings, field.name)
        described.append(
            {
                "name": name,
                "value": shown(value),
                "source": "default" if not sources else "file" if sources[0].is_file else "environment",
                "variable": sources[0].variable if sources else None,
                "isSecret": _is_secret(value),
            }
        )
    return described


def shown(value: object) -> str | None:
    """Return a value as text; None if it is not set. For a secret it is only `set`, or the URL without its password."""
    if value is None or value == ():
        return None
    if _is_secret(value):
        return _without_password(value) if isinstance(value, Secret) else SET
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(shown(each) or "" for each in value)
    return str(value)


def _is_secret(value: object) -> bool:
    return isinstance(value, Secret) or (isinstance(value, tuple) and any(map(_is_secret, value)))


def _without_password(secret: Secret) -> str:
    """Return the user, host and path if the secret is the URL of a Postgres.

    The query may hold a password, so it is left out. Of a URL in which a part of the password could be taken for
    another part, because it has an unescaped `/`, `?`, `#` or `@`, nothing is shown.
    """
    if not secret.startswith(_DATABASE_SCHEMES):
        return SET if secret else NOT_SET
    try:
        parts = urlsplit(secret)
    except ValueError:
        return SET
    user, at, servers = parts.netloc.rpartition("@")
    if not _SERVERS.match(servers) or parts.fragment or "@" in parts.path + parts.query:
        return SET
    name, colon, _ = user.partition(":")
    return f"{parts.scheme}://{name}{':***' if colon else ''}{at}{servers}{parts.path}"
