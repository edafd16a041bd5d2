"""Read TOML files that consist of ``[[name]]`` tables. Numbers with a fraction become Decimals, never binary floats."""

import re
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

E = TypeVar("E")


def read_tables(text: str, name: str, entry: type[E]) -> Sequence[tuple[str, E]]:
    """Return the place ("line 7") and the content of each table. Raises ValueError, which names the line at fault."""
    document = tomllib.loads(text, parse_float=Decimal)
    tables = document.pop(name, None)
    if document or not isinstance(tables, list):
        raise ValueError(f"must hold [[{name}]] tables and nothing else")
    places = _places(text, name, len(tables))
    return [(place, _entry(table, entry, place)) for place, table in zip(places, tables, strict=True)]


def _entry(table: Any, entry: type[E], place: str) -> E:  # noqa: ANN401 - as TOML has it
    try:
        return msgspec.convert(table, entry)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise ValueError(f"{place}: {path.rstrip('`')}{': ' if path else ''}{message}") from None


def _places(text: str, name: str, count: int) -> Sequence[str]:
    """Return a text for the place of each table, such as "line 7".

    If not every table has its own ``[[name]]`` line, the text has the table's number instead, such as "account 2".
    """
    header = re.compile(rf"\s*\[\[\s*{name}\s*\]\]")
    lines = [f"line {number}" for number, line in enumerate(text.splitlines(), 1) if header.match(line)]
    return lines if len(lines) == count else [f"{name} {number}" for number in range(1, count + 1)]
