"""A span: the work of one service for one request, as OpenTelemetry names it.

All text in a span comes from another process. It is cut, and characters that Postgres or a page cannot show are
replaced, before it is stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

MAX_NAME_CHARACTERS: Final = 128
MAX_KEY_CHARACTERS: Final = 64
MAX_VALUE_CHARACTERS: Final = 256
MAX_ATTRIBUTES: Final = 32
MAX_LINKS: Final = 8

L1P_TRACE_ID: Final = "l1p.trace_id"
QUOTE_UUID: Final = "quote.uuid"
CALLER: Final = "enduser.id"
ERROR_ID: Final = "error.type"
ERROR_MESSAGE: Final = "error.message"
STATUS: Final = "http.response.status_code"

Attribute: TypeAlias = str | bool | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """One span. `start_ns` is Unix time in nanoseconds; ids are lower-case hexadecimal digits."""

    trace_id: str
    span_id: str
    parent_id: str | None
    service: str
    name: str
    start_ns: int
    duration_ns: int
    is_error: bool
    attributes: Mapping[str, Attribute]
    links: tuple[tuple[str, str], ...] = ()
    """Trace id and span id of spans that have a part in this one, such as the statement that served many requests."""

    @property
    def is_shared(self) -> bool:
        """Whether the span is of a batch or a statement: it serves several requests, and has links to them."""
        return self.l1p_trace_id is None and bool(self.links)

    @property
    def l1p_trace_id(self) -> str | None:
        return self._text(L1P_TRACE_ID)

    @property
    def quote_uuid(self) -> str | None:
        found = self._text(QUOTE_UUID)
        return None if found is None else found.lower()

    @property
    def caller(self) -> str | None:
        return self._text(CALLER)

    @property
    def error_id(self) -> str | None:
        return self._text(ERROR_ID)

    @property
    def status(self) -> int | None:
        """Return the status code of the HTTP response."""
        value = self.attributes.get(STATUS)
        return value if isinstance(value, int) else None

    def _text(self, key: str) -> str | None:
        value = self.attributes.get(key)
        return None if value is None else str(value)


def clean(text: str, max_characters: int) -> str:
    """Return the text cut to `max_characters`, with `?` for each control, invisible or unpaired character."""
    cut = text if len(text) <= max_characters else f"{text[: max_characters - 1]}…"
    return cut if cut.isprintable() else "".join(each if each.isprintable() else "?" for each in cut)
