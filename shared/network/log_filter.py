"""The filters of `make logs`, `quotes logs` and `quotes trace`: which lines of the logs are shown."""

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from network.log_records import LogRecord

# limit for the traces that name a quote, because a client may look up one quote without end
MAX_TRACES = 10_000
# above this number of trace ids it is faster to parse each line than to search it for each of them
_MAX_SEARCHED = 32
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"([0-9]{1,9})([smhd])\Z")
_TIME_OF_DAY = re.compile(r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.[0-9]{1,6})?)?\Z")
_STATUS = re.compile(r"[1-5](?:[0-9]{2}|[xX]{2})\Z")
is_uuid = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z").match
_TIME_START = b'{"time":"'
_TIME_LENGTH = len("2026-11-21T00:00:00.000Z")
_MAX_SHOWN = 64


class LogFilterError(ValueError):
    """The value of a filter is not valid. The message begins with the filter's name in `make logs`."""


@dataclass(frozen=True)
class LogFilter:
    """The conditions for a line; all must be true. Without conditions every line is accepted."""

    since: float | None = None
    """Unix time of the first line. `until` is that of the last one."""
    until: float | None = None
    statuses: tuple[str, ...] = ()
    """Statuses of the answer, such as 503 or 5xx. The line must have one of them."""
    caller: str | None = None
    """Name of the caller, or the name that was attempted if authentication failed."""
    error: str | None = None
    """Id of the error."""
    quote: str | None = None
    """Uuid of a quote, in lower case. Accepts all lines of the traces in which a line names it."""
    trace: str | None = None

    @property
    def is_by_trace(self) -> bool:
        """Whether the accepted lines are those of certain traces."""
        return self.quote is not None or self.trace is not None

    @property
    def accepts_text(self) -> bool:
        """Whether lines that are not JSON can be accepted, such as those of a traceback."""
        return not (self.statuses or self.caller or self.error or self.is_by_trace)

    def is_over(self, now: float) -> bool:
        """Whether no line that is written from `now` on can be accepted."""
        return self.until is not None and now > self.until

    def accepts(self, record: LogRecord) -> bool:
        """Whether all conditions but those for `quote` and `trace` are true. `LogMatcher` checks these two."""
        return (
            (self.since is None or record.time >= self.since)
            and (self.until is None or record.time <= self.until)
            and (not self.statuses or self._has_status(record.status))
            and (
                self.caller is None or self.caller in {record.text_of("caller"), record.text_of("attempted")}
            )
            and (self.error is None or self.error == record.text_of("id"))
        )

    def _has_status(self, status: int) -> bool:
        return str(status) in self.statuses or f"{status // 100}xx" in self.statuses

    def __str__(self) -> str:
        """Return the conditions in words, after "no line has"."""
        conditions = [
            "" if self.trace is None else f"the trace id {self.trace[:_MAX_SHOWN]!r}",
            "" if self.quote is None else f"the quote {self.quote}",
            "" if not self.statuses else f"the status {' or '.join(self.statuses)}",
            "" if self.caller is None else f"the caller {self.caller[:_MAX_SHOWN]!r}",
            "" if self.error is None else f"the error {self.error[:_MAX_SHOWN]!r}",
            "" if self.since is None else f"a time from {format_time(self.since)} on",
            "" if self.until is None else f"a time until {format_time(self.until)}",
        ]
        return " and ".join(filter(None, conditions))


def log_filter(
    now: float | None = None,
    /,
    *,
    since: str | None = None,
    until: str | None = None,
    status: str | None = None,
    caller: str | None = None,
    error: str | None = None,
    quote: str | None = None,
    trace: str | None = None,
) -> LogFilter:
    """Return the filter for the options of a command; None and empty text mean no condition.

    `now` is the Unix time from which ages count; None means the present.     Raises LogFilterError.
    """
    now = time.time() if now is None else now
    if quote and not is_uuid(quote):
        raise LogFilterError(
            f"QUOTE must be the uuid of a quote: 8-4-4-4-12 hex digits, not {quote[:_MAX_SHOWN]!r}"
        )
    wanted = LogFilter(
        since=_time_of("SINCE", since, now),
        until=_time_of("UNTIL", until, now),
        statuses=_statuses(status),
        caller=caller or None,
        error=error or None,
        quote=quote.lower() if quote else None,
        trace=trace or None,
    )
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise LogFilterError("SINCE must be before UNTIL")
    return wanted


def _time_of(name: str, text: str | None, now: float) -> float | None:
    """Return the Unix time that a text means: an age such as 10m, a time of day, or ISO 8601, without zone in UTC."""
    if not text:
        return None
    if age := _AGE.match(text):
        return now - int(age[1]) * _UNIT_SECONDS[age[2]]
    try:
        if _TIME_OF_DAY.match(text):
            return _last_time_of_day(text, now)
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise LogFilterError(
            f"{name} must be an age such as 90s, 10m, 2h or 1d, or a time such as 18:30, 2026-11-21T18:30 or"
            f" 2026-11-21T18:30:00Z (UTC, unless it has a zone), not {text[:_MAX_SHOWN]!r}"
        ) from None


def _last_time_of_day(text: str, now: float) -> float:
    today = datetime.fromtimestamp(now, UTC)
    found = datetime.fromisoformat(f"{today:%Y-%m-%d}T{text}").replace(tzinfo=UTC)
    return (found if found <= today else found - timedelta(days=1)).timestamp()


def _statuses(text: str | None) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in text.split(",")) if text else ()
    if not all(map(_STATUS.match, parts)):
        raise LogFilterError(
            f"STATUS must be statuses such as 503 or 5xx, with commas between them, not {(text or '')[:_MAX_SHOWN]!r}"
        )
    return tuple(part.lower() for part in parts)


class LogMatcher:
    """Applies a filter to lines in the order of reading, and remembers the traces in which a line names the quote."""

    def __init__(self, wanted: LogFilter) -> None:
        self.filter = wanted
        self.traces: dict[str, None] = {} if wanted.trace is None else {wanted.trace: None}
        self._since, self._until = _iso(wanted.since), _iso(wanted.until)
        self._status = _status_pattern(wanted.statuses)
        texts = (wanted.caller, wanted.error)
        self._needles = [text.encode() for text in texts if text and _is_written_plainly(text)]

    def may_accept(self, line: bytes) -> bool:
        """Whether a line has to be parsed, because it may be accepted. Fast, and false for nearly all other lines."""
        if not line.startswith(b"{"):
            return self.filter.accepts_text
        if line.startswith(_TIME_START):
            at = line[len(_TIME_START) : len(_TIME_START) + _TIME_LENGTH]
            if (self._since and at < self._since) or (self._until and at > self._until):
                return False
        if self._status is not None and not self._status.search(line):
            return False
        return all(needle in line for needle in self._needles)

    def may_note_or_accept(self, line: bytes) -> bool:
        """Whether a line has to be parsed, also to see whether it names the quote."""
        return self.filter.quote is not None or self.may_accept(line)

    def may_be_of_trace(self, line: bytes) -> bool:
        """Whether a line may be of a remembered trace, so that it has to be parsed."""
        if not self.filter.is_by_trace or len(self.traces) > _MAX_SEARCHED:
            return True
        return any(trace.encode() in line for trace in self.traces)

    def note(self, records: Iterable[LogRecord]) -> None:
        """Remember the traces of the records that name the quote."""
        if self.filter.quote is None:
            return
        for record in records:
            if len(self.traces) < MAX_TRACES and record.trace_id and names_quote(record, self.filter.quote):
                self.traces[record.trace_id] = None

    def accepts(self, record: LogRecord) -> bool:
        is_of_trace = not self.filter.is_by_trace or record.trace_id in self.traces
        return is_of_trace and self.filter.accepts(record)


def names_quote(record: LogRecord, uuid: str) -> bool:
    """Whether a line is about the quote: by its field `uuid`, or by its path."""
    return record.text_of("uuid") == uuid or uuid in record.text_of("path").lower()


def _status_pattern(statuses: Iterable[str]) -> "re.Pattern[bytes] | None":
    alternatives = "|".join(status.replace("x", "[0-9]") for status in statuses)
    return re.compile(rf'"status": ?(?:{alternatives})\b'.encode()) if alternatives else None


def _is_written_plainly(text: str) -> bool:
    """Whether each JSON encoder writes the text in the same way."""
    written: Any = json.dumps(text)
    return text.isascii() and written[1:-1] == text


def _iso(at: float | None) -> bytes:
    return b"" if at is None else format_time(at).encode()


def format_time(at: float) -> str:
    try:
        shown = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):  # before the year 1
        shown = datetime.min.replace(tzinfo=UTC)
    return shown.isoformat(timespec="milliseconds").replace("+00:00", "Z")
