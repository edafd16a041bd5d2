"""The command line of a service's process: it takes no arguments but ``--help``."""

import sys
from collections.abc import Mapping
from typing import Final

import environ

from chassis.settings import Listening

HELP: Final = frozenset({"-h", "--help"})


def respond(
    arguments: list[str],
    settings: Mapping[str, type[Listening]],
    *,
    commands: Mapping[str, str] | None = None,
) -> int:
    """Respond to a command line that has arguments: print the help, or an error. Return the exit status.

    ``settings`` are the service's settings classes by their title, ``commands`` descriptions of its further commands.
    """
    package = next(iter(settings.values())).__module__.partition(".")[0]
    if not HELP & set(arguments):
        print(f"error: {arguments[0]!a:.80} is unknown; python -m {package} --help", file=sys.stderr)  # noqa: T201
        return 2
    print(_help(package, settings, commands or {}))  # noqa: T201
    return 0


def _help(package: str, settings: Mapping[str, type[Listening]], commands: Mapping[str, str]) -> str:
    lines = [f"usage: python -m {package}"]
    lines += [f"       python -m {package} {name}" for name in commands]
    lines += ["", (sys.modules[package].__doc__ or "").strip(), ""]
    lines += [f"{name}: {text}\n" for name, text in commands.items()]
    lines += [
        "It reads its settings from environment variables (docs/configuration.md). <variable>_FILE may name a file",
        "that holds the value.",
    ]
    for title, cls in settings.items():
        lines += ["", f"{title}:", *_variables(cls)]
    return "\n".join(lines)


def _variables(cls: type[Listening]) -> list[str]:
    """Return a line for each variable, the required ones first."""
    text = environ.generate_help(cls, display_defaults=True)
    lines = [line.replace("(Optional, Default=", "(default: ") for line in text.splitlines()]
    lines = [line.replace("(Optional)", "(optional)").replace("(Required)", "(required)") for line in lines]
    return [f"  {line}" for line in sorted(lines, key=lambda line: "(required)" not in line)]
