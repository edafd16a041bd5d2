"""Results on stdout: for people, in colour on a terminal, or as JSON."""

import json
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from dfsp_quotes.cli.failures import CommandError


def show(content: Mapping[str, object], view: RenderableType, *, as_json: bool) -> None:
    """Print a result: its JSON object, or its view."""
    if as_json:
        print_json(content)
    else:
        Console(soft_wrap=True).print(view)


def print_line(line: Text) -> None:
    """Print a line at once, so that a reader of a pipe sees it."""
    Console(soft_wrap=True).print(line)
    sys.stdout.flush()


def print_json(content: Mapping[str, object], *, indent: int | None = 2) -> None:
    """Print an object at once."""
    sys.stdout.write(json.dumps(content, indent=indent) + "\n")
    sys.stdout.flush()


def show_failure(error: CommandError, *, as_json: bool) -> None:
    """Print a failure: as JSON on stdout, or as one line on stderr."""
    if as_json:
        print_json({"error": {"message": error.message, "exitCode": error.exit_code, **error.details}})
    else:
        line = Text.assemble(("error:", "bold red"), " ", printable(error.message))
        Console(stderr=True, soft_wrap=True).print(line)


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Return a table of names and values."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, "dim"), value if isinstance(value, Text) else Text(printable(value)))
    return table


def printable(text: str) -> str:
    """Replace characters that a terminal would carry out or not show. Line ends are among them."""
    return "".join(character if character.isprintable() else "?" for character in text)
