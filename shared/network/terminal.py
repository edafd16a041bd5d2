"""What people read: whole lines, in colour where a terminal shows it, plain otherwise."""

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
# what a log or a peer brings may not steer the terminal it is shown on
_STEERING = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Terminal:
    """`gone` says that nobody reads any more (a closed pipe or window); what is said then is lost."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colour = _shows_colour(self._stream) if colour is None else colour
        self._lock = threading.Lock()
        self.gone = False

    def say(self, line: str = "") -> None:
        with self._lock:
            if self.gone:
                return
            encoding = self._stream.encoding or "utf-8"
            try:
                self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
                self._stream.flush()
            except OSError:
                self.gone = True
                # what is still buffered goes nowhere, or the interpreter's own last flush would complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())

    def is_read(self) -> bool:
        """Say whether anybody still reads: also of a pipe that nothing was written to since its end closed."""
        if not self.gone and not self._stream.isatty():
            poll = select.poll()
            poll.register(self._stream.fileno(), 0)
            self.gone = any(event & select.POLLERR for _, event in poll.poll(0))
        return not self.gone

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if self._colour and text else text


def plain(text: str) -> str:
    """Return the text with control characters written out."""
    return _STEERING.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _shows_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
