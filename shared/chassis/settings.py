"""Settings: read from the environment, checked when a service starts, and never changed.

A service adds fields to :class:`Settings` with ``environ.var``. A class that renames an environment variable lists the
old name in its ``aliases``. A test compares the table in docs/configuration.md with these classes.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import attrs
import environ

from chassis.text_file import TextFileError, read_text
from chassis.users import fault_of_name, normal

PREFIX: Final = "QUOTES"
FILE_ENDING: Final = "_FILE"

# RFC 3986: urlsplit accepts white space, and drops tabs and line ends
_URL_CHARACTERS: Final = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+\Z")

N = TypeVar("N", int, float)


class SettingsError(Exception):
    """Settings are missing or invalid. The message names all of them."""


class Secret(str):
    """Text whose repr is ``***``, so that a log line that shows settings reveals no secret."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def whole(minimum: int, maximum: int) -> Callable[[str | int], int]:
    """Return a converter to an integer from ``minimum`` to ``maximum``."""
    return _between(int, "a whole number", minimum, maximum)


def number(minimum: float, maximum: float) -> Callable[[str | float], float]:
    """Return a converter to a number from ``minimum`` to ``maximum``."""
    return _between(float, "a number", minimum, maximum)


def _between(kind: Callable[[Any], N], name: str, minimum: N, maximum: N) -> Callable[[Any], N]:
    def convert(value: object) -> N:
        try:
            result = kind(value)
        except ValueError:
            raise ValueError(f"must be {name} from {minimum} to {maximum}") from None
        if not minimum <= result <= maximum:
            raise ValueError(f"must be from {minimum} to {maximum}")
        return result

    return convert


def one_of(*allowed: str) -> Callable[[str], str]:
    """Return a converter that accepts only these words."""

    def convert(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value

    return convert


def yes_or_no(value: str | bool) -> bool:
    """Convert true/false, yes/no and 1/0. Any other word is an error, because a mistyped word must not mean "no"."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower()
    if word not in {"true", "yes", "1", "false", "no", "0"}:
        raise ValueError("must be true or false")
    return word in {"true", "yes", "1"}


def base_url(value: str) -> str:
    """Convert to an absolute http(s) URL without trailing slash. A user, query or fragment is an error."""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not _URL_CHARACTERS.match(value):
        raise ValueError("must be an absolute http or https URL")
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in value or "#" in value:
        raise ValueError("must have no user, query or fragment")
    _ = parts.port  # raises ValueError where it is invalid
    return value.rstrip("/")


def base_urls(value: str | Iterable[str]) -> tuple[str, ...]:
    """Convert a comma-separated list of absolute http(s) URLs to a tuple."""
    items = value.split(",") if isinstance(value, str) else value
    return tuple(base_url(item.strip()) for item in items if item.strip())


def user_names(value: str | Iterable[str]) -> tuple[str, ...]:
    """Convert a comma-separated list of user names to a tuple of names in Unicode form NFC."""
    items = value.split(",") if isinstance(value, str) else value
    names = tuple(normal(item.strip()) for item in items if item.strip())
    for name in names:
        fault = fault_of_name(name)
        if fault is not None:
            raise ValueError(f"must be user names, separated by commas: {fault}")
    return names


def optional_url(value: str | None) -> str | None:
    """Convert to an absolute http(s) URL; None and empty text become None."""
    return base_url(value) if value else None


def optional_path(value: str | Path | None) -> Path | None:
    """Convert to a path; None and empty text become None."""
    return Path(value) if value else None


@environ.config(prefix=PREFIX, frozen=True)
class Listening:
    """Settings of every process that listens."""

    host: str = environ.var("127.0.0.1", help="address to listen on")
    port: int = environ.var(0, converter=whole(0, 65_535), help="port to listen on")
    tls_certificate: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of this service's certificate chain: serves HTTPS"
    )
    tls_key: Path | None = environ.var(
        None, converter=optional_path, help="PEM file of the certificate's key"
    )
    tls_client_ca: Path | None = environ.var(
        None,
        converter=optional_path,
        help="PEM file of the CA that must have signed each client's certificate",
    )
    tls_ca: Path | None = environ.var(
        None,
        converter=optional_path,
        help="PEM file of the CA that signed the certificates of called services; default: the system's CAs",
    )


@environ.config(prefix=PREFIX, frozen=True)
class Settings(Listening):
    """Settings of every service."""

    aliases: ClassVar[Mapping[str, str]] = {
        "QUOTES_MOST_IN_HAND": "QUOTES_MAX_IN_FLIGHT",
        "QUOTES_MOST_WAIT_SECONDS": "QUOTES_MAX_WAIT_SECONDS",
        "QUOTES_LOG_MOST_BYTES": "QUOTES_LOG_MAX_BYTES",
    }

    users_file: Path = environ.var(converter=Path, help="file of names and password hashes")
    operators: tuple[str, ...] = environ.var(
        "",
        converter=user_names,
        help="names of the users who may use the operations for operators, separated by commas",
    )
    allow_sample_credentials: bool = environ.var(
        default=False,
        converter=yes_or_no,
        help="start with the sample users on an address that is not loopback",
    )
    stop_grace_seconds: float = environ.var(
        5.0,
        converter=number(0, 8),
        help="how long to serve after SIGTERM with readiness at 503, so that load balancers notice",
    )
    http: str = environ.var(
        "protocol",
        converter=one_of("protocol", "aiohttp"),
        help="protocol: the fast protocol class serves plain requests; aiohttp: aiohttp serves all requests",
    )
    max_in_flight: int = environ.var(
        2_048,
        converter=whole(1, 1_000_000),
        help="maximum number of requests in flight; further ones get 503",
    )
    max_connections: int = environ.var(
        12_000,
        converter=whole(4, 1_000_000),
        help="maximum number of connections; three quarters of them from one network of callers",
    )
    max_unread_bytes: int = environ.var(
        33_554_432,
        converter=whole(4_194_304, 1 << 40),
        help="maximum size of all bodies that have not arrived completely; half of it for one network of callers",
    )
    max_wait_seconds: float = environ.var(
        0.5,
        converter=number(0.1, 60),
        help="maximum response time under overload; a request that would take longer gets 503 at once",
    )
    metrics_callers: int = environ.var(
        100,
        converter=whole(0, 1_000),
        help="maximum number of callers that /metrics lists by name; the others are counted together",
    )
    log_file: Path | None = environ.var(
        None, converter=optional_path, help="file to which stdout and stderr are written, rotated by size"
    )
    log_max_bytes: int = environ.var(
        67_108_864, converter=whole(65_536, 1 << 40), help="size at which the log file is rotated"
    )
    traces_url: str | None = environ.var(
        None,
        converter=optional_url,
        help="URL to which spans are sent by OTLP over HTTP, with its path, such as /v1/traces; default: no spans",
    )
    traces_ratio: float = environ.var(
        0.01,
        converter=number(0, 1),
        help="part of all requests, from 0 to 1, that get a span without a flag of the caller",
    )
    traces_slow_seconds: float = environ.var(
        1.0,
        converter=number(0, 3_600),
        help="a request that takes this long or longer gets a span, as an error does",
    )
    traces_per_second: int = environ.var(
        25,
        converter=whole(1, 100_000),
        help="maximum number of spans per second, on average, of each kind; the ratio gives at most a fifth of it",
    )


S = TypeVar("S", bound=Listening)


def variables(settings: type[Listening]) -> Iterator[tuple[str, "attrs.Attribute[object]"]]:
    """Yield the name of each environment variable of a settings class, with its attrs field."""
    for field in attrs.fields(cast("type[attrs.AttrsInstance]", settings)):
        yield f"{PREFIX}_{field.name.upper()}", field


def old_names(settings: type[Listening]) -> dict[str, str]:
    """Return the new name for each old name in the ``aliases`` of a settings class and its bases."""
    return {old: new for cls in settings.__mro__ for old, new in vars(cls).get("aliases", {}).items()}


def deprecations(settings: type[Listening], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning for each environment variable that is set under its old name."""
    return [
        f"{old}{ending} is deprecated. Set {new}{ending} instead."
        for old, new in old_names(settings).items()
        for ending in ("", FILE_ENDING)
        if f"{old}{ending}" in environment
    ]


class Source(NamedTuple):
    """An environment variable that is set. Either it has the value, or it names a file that has the value."""

    variable: str
    is_file: bool


def sources_of(
    name: str, settings: type[Listening], environment: Mapping[str, str] = os.environ
) -> list[Source]:
    """Return the variables that are set for a setting: its own, one with an old name, or one that names a file."""
    names = [name, *(old for old, new in old_names(settings).items() if new == name)]
    return [
        Source(each + ending, bool(ending))
        for each in names
        for ending in ("", FILE_ENDING)
        if each + ending in environment
    ]


def load(settings: type[S], environment: Mapping[str, str] = os.environ) -> S:
    """Return the settings from the environment. Raises SettingsError, which names every fault.

    Instead of a variable, ``<variable>_FILE`` may name a file that holds the value, such as a secret of a container.
    """
    values: dict[str, str] = {}
    faults: list[str] = []
    for name, field in variables(settings):
        sources = sources_of(name, settings, environment)
        if not sources:
            continue
        values[name] = ""
        if len(sources) > 1:
            faults.append(
                f"{' and '.join(each.variable for each in sources)} are both set: remove one of them"
            )
            continue
        source, is_file = sources[0]
        try:
            values[name] = _file_content(Path(environment[source])) if is_file else environment[source]
            if field.converter is not None:
                field.converter(values[name])  # type: ignore[operator]
        except ValueError as error:
            faults.append(f"{source} {error}")
    try:
        result = environ.to_config(settings, values)
    except environ.MissingEnvValueError as error:
        faults += [f"{name} is not set" for name in sorted(error.args)]
    except ValueError as error:
        if not faults:  # two settings that do not fit together: no single converter finds that
            faults.append(str(error))
    if faults:
        raise SettingsError("; ".join(faults))
    return result


def _file_content(path: Path) -> str:
    """Return the text of a file without a byte-order mark or white space around it. Raises ValueError."""
    try:
        text = read_text(path).strip()
    except TextFileError as error:
        raise ValueError(f"names a file that cannot be used: {error}") from None
    if not text:
        # empty text would switch off what the setting is for
        raise ValueError(f"names {path}, which is empty")
    for number, line in enumerate(text.split("\n"), 1):
        if not line.isprintable():
            raise ValueError(f"names {path}, but its line {number} has a control or invisible character")
    return text
