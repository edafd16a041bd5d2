"""Run `quotes` as a process: with pipes, or on a terminal."""

import asyncio
import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support.messages import QUOTE

TO: Final = ("--to", f"{QUOTE['identifierType']}:{QUOTE['identifier']}")
RESERVE: Final = ("quote", "source", "12.50", "USD", *TO, "--timeout", "60")
"""The arguments of the sample request."""
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
PATIENCE_SECONDS: Final = 120.0
COLUMNS: Final = 120
# the first terminal that a new session opens is its own, which a prompt for a password needs
_ON_TERMINAL: Final = (
    "import os, runpy; os.close(os.open(os.ttyname(0), os.O_RDWR));"
    "runpy.run_module('dfsp_quotes.cli', run_name='__main__')"
)


@dataclass(frozen=True)
class Finished:
    """A command that has ended. On a terminal all output is in `output`."""

    code: int
    output: str
    error: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.output)


@dataclass(frozen=True)
class CommandLine:
    """`quotes` with these environment variables and this home folder only."""

    home: Path
    environment: Mapping[str, str]
    command: tuple[str, ...] = (sys.executable, "-m", "dfsp_quotes.cli")

    async def start(self, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.command,
            *map(str, arguments),
            cwd=self.home,
            env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def run(self, *arguments: object) -> Finished:
        process = await self.start(*arguments)
        async with asyncio.timeout(PATIENCE_SECONDS):
            output, error = await process.communicate()
        assert b"Traceback" not in output + error, error.decode()
        assert process.returncode is not None
        return Finished(process.returncode, output.decode(), error.decode())

    async def json(self, *arguments: object) -> Any:
        """Run a command that must succeed, with --json; return its object."""
        done = await self.run(*arguments, "--json")
        assert (0, "") == (done.code, done.error), done
        return done.json

    async def error(self, code: int, *arguments: object) -> str:
        """Run a command that must fail with this exit code; return the one line on stderr, without `error:`."""
        done = await self.run(*arguments)
        assert (code, "") == (done.code, done.output), done
        lines = done.error.splitlines()
        assert 1 == len(lines), done.error
        assert lines[0].startswith("error: ")
        return lines[0].removeprefix("error: ")

    async def on_terminal(self, *arguments: object, keys: Mapping[str, str] | None = None) -> Finished:
        """Run a command on a terminal. `keys` are pressed when the prompt that they belong to has appeared."""
        return await asyncio.to_thread(self._on_terminal, arguments, dict(keys or {}))

    def _on_terminal(self, arguments: tuple[object, ...], keys: dict[str, str]) -> Finished:
        terminal, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
        environment = {**self._environment(), "TERM": "xterm-256color"}
        process = subprocess.Popen(
            [sys.executable, "-c", _ON_TERMINAL, *map(str, arguments)],
            cwd=self.home,
            env=environment,
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
        )
        os.close(side)
        output = b""
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while part := os.read(terminal, 65_536):
                output += part
                for prompt in [each for each in keys if each in output.decode(errors="replace")]:
                    os.write(terminal, f"{keys.pop(prompt)}\n".encode())
        os.close(terminal)
        return Finished(process.wait(PATIENCE_SECONDS), output.decode())

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "COLUMNS": str(COLUMNS),
            **self.environment,
        }


def without_colour(text: str) -> str:
    """Return the output of a terminal as lines without colours."""
    return _COLOUR.sub("", text).replace("\r\n", "\n")
