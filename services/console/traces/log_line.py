"""One line of a service's log, as the console shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

MAX_SHOWN_CHARACTERS: Final = 2_048

_NS: Final = 1_000_000_000
_MS_NS: Final = 1_000_000


@dataclass(frozen=True)
class LogLine:
    """A line. `time` is Unix time in seconds, when it was logged: for a request, when it was answered."""

    service: str
    time: float
    text: str
    fields: Mapping[str, Any]

    @property
    def is_request(self) -> bool:
        return self.fields.get("event") == "request" and self.duration_ns is not None

    @property
    def trace_id(self) -> str:
        return self.text_of("traceId")

    @property
    def end_ns(self) -> int:
        return round(self.time * _NS)

    @property
    def duration_ns(self) -> int | None:
        value = self.fields.get("duration_ms")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return max(round(value * _MS_NS), 0) if is_number and value is not None else None

    @property
    def status(self) -> int | None:
        value = self.fields.get("status")
        return value if isinstance(value, int) else None

    @property
    def error_id(self) -> str | None:
        return self.text_of("id") or None

    def text_of(self, field: str) -> str:
        """Return a field as text; empty if it is missing or null."""
        value = self.fields.get(field)
        return "" if value is None else str(value)


def parse_line(file_name: str, line: bytes) -> LogLine | None:
    """Parse a line from the log file of a service. Return None if it is not JSON with a time."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Any])
        at = datetime.fromisoformat(fields["time"]).timestamp()
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError, OverflowError):
        return None
    service = fields.get("service")
    text = line.decode(errors="replace")
    shown = text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[: MAX_SHOWN_CHARACTERS - 1]}…"
    return LogLine(service if isinstance(service, str) else file_name, at, shown, fields)
