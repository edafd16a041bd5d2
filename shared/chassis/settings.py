"""Settings come from the environment, are checked at once and never change.

A service adds fields to :class:`Settings` with ``environ.var``; the README's table is checked against these
classes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

import attrs
import environ

PREFIX: Final = "QUOTES"

N = TypeVar("N", int, float)


class SettingsError(Exception):
    """What is missing or wrong in the environment, all of it at once."""


class Secret(str):
    """Text that does not show in a repr: a log line with settings in it gives nothing away."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def whole(least: int, most: int) -> Callable[[str | int], int]:
    """Converts to an integer from ``least`` to ``most``."""
    return _between(int, "a whole number", least, most)


def number(least: float, most: float) -> Callable[[str | float], float]:
    """Converts to a number from ``least`` to ``most``."""
    return _between(float, "a number", least, most)


def _between(kind: Callable[[Any], N], what: str, least: N, most: N) -> Callable[[Any], N]:
    def convert(value: object) -> N:
        try:
            result = kind(value)
        except ValueError:
            raise ValueError(f"must be {what} from {least} to {most}") from None
        if not least <= result <= most:
            raise ValueError(f"must be from {least} to {most}")
        return result

    return convert


def one_of(*allowed: str) -> Callable[[str], str]:
    """Converts to one of the words given."""

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return convert


def yes_or_no(value: str | bool) -> bool:
    """Converts true/false, yes/no, 1/0: a word that is neither is refused, never taken for no."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower()
    if word not in {"true", "yes", "1", "false", "no", "0"}:
        raise ValueError("must be true or false")
    return word in {"true", "yes", "1"}


def base_url(value: str) -> str:
    """Converts to an absolute http(s) URL without user, query, fragment or trailing slash."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an absolute http or https URL")
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("must have no user, query or fragment")
    _ = parts.port  # raises ValueError where it is none
    return value.rstrip("/")


def base_urls(value: str | Iterable[str]) -> tuple[str, ...]:
    """Converts a list, separated by commas, of absolute http(s) URLs."""
    items = value.split(",") if isinstance(value, str) else value
    return tuple(base_url(item.strip()) for item in items if item.strip())


def optional_path(value: str | Path | None) -> Path | None:
    """Converts to a path; nothing stays nothing."""
    return Path(value) if value else None


@environ.config(prefix=PREFIX, frozen=True)
class Listening:
    """What everything that listens can be told."""

    host: str = environ.var("127.0.0.1", help="address to listen on")
    port: int = environ.var(0, converter=whole(0, 65_535), help="port to listen on")
    tls_certificate: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of this service's certificate chain: serves HTTPS"
    )
    tls_key: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of the certificate's key"
    )
    tls_client_ca: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of the CA whose client certificates alone are let in"
    )
    tls_ca: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of the CA of the services called, else the system's"
    )


@environ.config(prefix=PREFIX, frozen=True)
class Settings(Listening):
    """What every service can be told."""

    users_file: Path = environ.var(converter=Path, help="file of names and password hashes")
    allow_sample_credentials: bool = environ.var(
        default=False,
        converter=yes_or_no,
        help="start with the sample users on an address that is not loopback",
    )
    stop_grace_seconds: float = environ.var(
        5.0,
        converter=number(0, 8),
        help="how long to serve on after SIGTERM with readiness at 503, so that balancers notice",
    )
    max_in_flight: int = environ.var(
        2_048, converter=whole(1, 1_000_000), help="requests in hand at once; more are answered 503"
    )
    max_wait_seconds: float = environ.var(
        0.5,
        converter=number(0.1, 60),
        help="how long an answer may take under overload; what would take longer is then answered 503 at once",
    )
    log_file: Path | None = environ.var(
        None, converter=optional_path, help="file that stdout and stderr go to, rotated by size"
    )
    log_max_bytes: int = environ.var(
        67_108_864, converter=whole(65_536, 1 << 40), help="size at which the log file is rotated"
    )


S = TypeVar("S", bound=Listening)


def variables(settings: type[Listening]) -> Iterator[tuple[str, "attrs.Attribute[object]"]]:
    """Each environment variable of a settings class with its attrs field."""
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", settings)):
        yield f"{PREFIX}_{field.name.upper()}", field


def _with_files(
    settings: type[Listening], environment: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The environment with what files hold, and what was wrong with the files."""
    known = dict(variables(settings))
    filled, faults = dict(environment), []
    for name in known:
        file = environment.get(f"{name}_FILE")
        if file is None or f"{name}_FILE" in known:
            continue
        if name in environment:
            faults.append(f"{name} and {name}_FILE are both set")
            continue
        try:
            filled[name] = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{name}_FILE cannot be read: {error}")
    return filled, faults


def load(settings: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """The settings in the environment. Raises SettingsError that names every fault at once.

    A setting may stand in a file that ``<variable>_FILE`` names, as secrets do in containers.
    """
    environment, faults = _with_files(settings, environment)
    for name, field in variables(settings):
        if name in environment and field.converter is not None:
            try:
                field.converter(environment[name])  # type: ignore[operator]
            except ValueError as error:
                faults.append(f"{name} {error}")
    try:
        result = environ.to_config(settings, environment)
    except environ.MissingEnvValueError as error:
        faults += [f"{name} is not set" for name in sorted(error.args)]
    except ValueError as error:
        if not faults:  # what is wrong with two settings together has no converter of its own
            faults.append(str(error))
    if faults:
        raise SettingsError("; ".join(faults))
    return result
