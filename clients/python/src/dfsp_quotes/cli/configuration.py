"""The configuration: options, then environment variables, then the configuration file."""

import getpass
import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dfsp_quotes.cli.failures import BadInputError

DEFAULT_FILE: Final = Path("~/.config/dfsp-quotes.toml")
PASSWORD_VARIABLE: Final = "QUOTES_PASSWORD"  # noqa: S105 - the name of the variable
MAX_FILE_BYTES: Final = 1_048_576
_TEXT_KEYS: Final = frozenset(
    {
        "url",
        "user",
        "password_file",
        "account",
        "transfer_type",
        "directory_url",
        "integrations_url",
        "payee_url",
    }
)
_SERVICES: Final = "services"


@dataclass(frozen=True)
class Configuration:
    """The content of the configuration file."""

    path: Path
    texts: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    """Base URLs by the names of the services."""

    def text(self, option: str, value: str | None, key: str, variable: str | None = None) -> str:
        """Return the option's value, or that of the file. Raises BadInputError if there is none.

        `variable` is the environment variable that sets the option, too.
        """
        found = value or self.texts.get(key)
        if not found:
            others = f"{variable}, or {key}" if variable else key
            raise BadInputError(f"{option} is missing; set it, or {others} in {self.path}.")
        return found


@dataclass(frozen=True)
class Access:
    """A service and the credentials for it."""

    url: str
    user: str
    password: str = field(repr=False)


def load(path: Path | None) -> Configuration:
    """Read a configuration file. The default one may be missing. Raises BadInputError."""
    used = (path or DEFAULT_FILE).expanduser()
    if path is None and not used.exists():
        return Configuration(used)
    try:
        content = tomllib.loads(read_text(used))
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(f"{used} is not TOML: {error}.") from None
    services = content.pop(_SERVICES, {})
    if unknown := sorted(content.keys() - _TEXT_KEYS):
        known = ", ".join(sorted({*_TEXT_KEYS, _SERVICES}))
        raise BadInputError(f"{used}: {unknown[0]!a:.40} is not a setting; the settings are {known}.")
    for key, value in content.items():
        if not isinstance(value, str):
            raise BadInputError(f"{used}: {key} must be a string.")
    if not isinstance(services, dict) or not all(isinstance(url, str) for url in services.values()):
        raise BadInputError(f"{used}: {_SERVICES} must be a table of base URLs by name.")
    return Configuration(used, content, services)


def access(
    configuration: Configuration,
    *,
    url: str | None,
    user: str | None,
    password_file: Path | None,
    url_key: str = "url",
    url_option: str = "--url",
) -> Access:
    """Return the service and the credentials. Asks for the password on a terminal. Raises BadInputError."""
    address = configuration.text(url_option, url, url_key, f"QUOTES_{url_key.upper()}")
    name = configuration.text("--user", user, "user", "QUOTES_USER")
    if ":" in name:
        raise BadInputError("The name of a user has no colon.")
    password = _password(configuration, name, password_file)
    if not is_utf8(password):
        raise BadInputError("The password is not UTF-8.")
    return Access(address, name, password)


def is_utf8(text: str) -> bool:
    """Whether UTF-8 can represent a text: one that came from the system as other bytes has lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _password(configuration: Configuration, name: str, password_file: Path | None) -> str:
    if password_file is not None:
        return read_password(password_file)
    if (password := os.environ.get(PASSWORD_VARIABLE)) is not None:
        return password
    if "password_file" in configuration.texts:
        return read_password(Path(configuration.texts["password_file"]))
    if not sys.stdin.isatty():
        raise BadInputError(
            f"The password is missing: set --password-file, {PASSWORD_VARIABLE}, or password_file in"
            f" {configuration.path}."
        )
    return getpass.getpass(f"Password of {name}: ")


def read_password(path: Path) -> str:
    """Return the first line of a file. Raises BadInputError."""
    lines = read_text(path.expanduser()).removeprefix("\ufeff").splitlines()
    if not lines or any(lines[1:]):
        raise BadInputError(f"{path} must hold the password in its one line.")
    return lines[0]


def read_text(path: Path) -> str:
    """Return the text of a file. Raises BadInputError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise BadInputError(f"{path} is longer than {MAX_FILE_BYTES:,} bytes.")
        return content.decode()
    except UnicodeDecodeError:
        raise BadInputError(f"{path} is not UTF-8.") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}.") from None
