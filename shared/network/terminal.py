"""Prints whole lines for people. They have colours on a terminal, and are plain text in a file or pipe."""

import os
import re
import select
import sys
import threading
from typing import TextIO

_COLOURS = {
    "dim": "2",
    "bold": "1",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}
# text from a log or from a peer must not control the terminal that shows it
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Terminal:
    """Prints lines; any thread may use it. When the reader (a pipe or a window) has closed, output is dropped."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._has_colour = _shows_colour(self._stream) if colour is None else colour
        self._lock = threading.Lock()
        self._is_closed = False

    def print_line(self, line: str = "") -> None:
        with self._lock:
            if self._is_closed:
                return
            encoding = self._stream.encoding or "utf-8"
            try:
                self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                self._stream.flush()
            except OSError:
                self._is_closed = True
                # else the interpreter flushes the buffer once more when it exits, and prints a traceback
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def has_reader(self) -> bool:
        """Whether the output still has a reader. It notices a closed pipe even if nothing has been written."""
        if not self._is_closed and not self._stream.isatty():
            poll = select.poll()
            poll.register(self._stream.fileno(), 0)
            self._is_closed = any(event & select.POLLERR for _, event in poll.poll(0))
        return not self._is_closed

    def colour(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._has_colour and text else text


def escape_controls(text: str) -> str:
    r"""Return the text with control characters and direction marks replaced by `\x..`."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _shows_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
