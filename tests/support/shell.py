"""Run the commands of the documents in a real shell (sh, with curl and sed)."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```sh\n(.*?)^```$(?:\n\n^```json\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
_END = "-- the command has ended with"
_QUOTES = str(Path(sys.executable).with_name("quotes"))
_VOLATILE = {
    "<uuid>": re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "<time>": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
}


@dataclass(frozen=True)
class Block:
    """A ``sh`` block of a document, and the text of the JSON block directly below it; empty if there is none."""

    command: str
    expected: str

    def __str__(self) -> str:
        return self.command


def blocks(document: str) -> list[Block]:
    """Return the ``sh`` blocks of a document in their order. `document` is its path below the project's folder."""
    return [Block(*found) for found in _BLOCK.findall((ROOT / document).read_text())]


class Shell:
    """A running shell. Later commands can use the variables that earlier commands have set.

    In each command, the texts that are keys of ``replaced`` are replaced by its values, for example addresses.
    """

    def __init__(self, replaced: Mapping[str, str]) -> None:
        if missing := [name for name in ("sh", "curl", "sed") if shutil.which(name) is None]:
            pytest.skip(f"{' and '.join(missing)} not installed")
        self._replaced = {**replaced, ".venv/bin/python": sys.executable, ".venv/bin/quotes": _QUOTES}
        self._process = subprocess.Popen(
            ["sh"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def paste(self, command: str) -> str:
        """Run a command and return the text that it printed. Fails if its exit status is not 0."""
        for text, replacement in self._replaced.items():
            command = command.replace(text, replacement)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\nprintf '\\n%s %s\\n' '{_END}' $?\n")
        self._process.stdin.flush()
        *output, end = self._lines()
        printed = "".join(output).strip()
        assert f"{_END} 0" == end.strip(), f"{command}\n{printed}\n{end}"
        return printed

    def _lines(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield line
            if line.startswith(_END):
                return
        raise AssertionError("the shell has ended")


def assert_shown(expected: str, printed: str) -> None:
    """Fail unless two JSON texts are equal, except for uuids and times. "..." in `expected` stands for any value."""
    shown, actual = (_without_volatile(json.loads(text)) for text in (expected, printed))

    assert shown == _masked(actual, shown)


def _without_volatile(value: Any) -> Any:
    text = json.dumps(value)
    for name, pattern in _VOLATILE.items():
        text = pattern.sub(name, text)
    return json.loads(text)


def _masked(actual: Any, shown: Any) -> Any:
    """Return ``actual`` with "..." in each place where ``shown`` has "..."."""
    match actual, shown:
        case _, "...":
            return "..."
        case dict(), dict():
            return {name: _masked(value, shown.get(name)) for name, value in actual.items()}
        case list(), list() if len(actual) == len(shown):
            return [_masked(*pair) for pair in zip(actual, shown, strict=True)]
        case _:
            return actual
