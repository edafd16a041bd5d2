"""The log of a service: one line of JSON for each request and event. On a terminal the lines have a readable form.

Lines are buffered for a fifth of a second and written together. A line about an error is written at once, with all
lines before it. Text that a peer controls is shortened, and its invisible characters are escaped, before it is cached
or logged.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from chassis.log_file import LogFile

FLUSH_SECONDS: Final = 0.2
MIN_FLUSH_INTERVAL_SECONDS: Final = 0.01
MAX_BUFFERED_LINES: Final = 1_000
URGENT_STATUS: Final = 500
"""A response with this status or a higher one is logged at once."""
MAX_PATH_CHARACTERS: Final = 256
MAX_VALUE_CHARACTERS: Final = 4_096


def url_for_log(url: object) -> str:
    """Return a URL that a peer sent, without user and password, cut to 200 characters."""
    return repr(str(url).rpartition("@")[2])[:200]


def iso_time(seconds: float) -> str:
    """Return Unix time as ISO 8601 text in UTC, with milliseconds and Z."""
    whole, rest = divmod(int(seconds * 1_000), 1_000)
    return f"{_iso_second(whole)}.{rest:03d}Z"


@lru_cache(maxsize=8)
def _iso_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


class LogWriter:
    """Writes log lines to a file descriptor, many with one system call. Rotates ``file`` if it is given."""

    def __init__(self, descriptor: int | None = None, file: LogFile | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self.file = file
        self._buffer: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._flushed = 0.0

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        """Write lines that have no newlines yet. With ``now`` they are written within a hundredth of a second.

        Even with ``now`` they are not written one by one: under overload there are thousands of errors and no time to
        spare.
        """
        self._buffer.extend(lines)
        if len(self._buffer) >= MAX_BUFFERED_LINES or (
            now and time.monotonic() - self._flushed >= MIN_FLUSH_INTERVAL_SECONDS
        ):
            self.flush()
        elif self._timer is None or now:
            self._flush_in(MIN_FLUSH_INTERVAL_SECONDS if now else FLUSH_SECONDS)

    def _flush_in(self, seconds: float) -> None:
        due = time.monotonic() + seconds
        if self._timer is not None and self._due <= due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        try:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.flush)
        except RuntimeError:  # before the event loop starts and after it ends
            self.flush()

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._flushed = time.monotonic()
        if not self._buffer:
            return
        data = memoryview(b"\n".join(self._buffer) + b"\n")
        self._buffer.clear()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            if self.file is not None:
                self.file.rotate_if_full()
        except OSError:  # a full disk or a closed pipe must not stop payments
            return


class Logs:
    """The log of one service."""

    def __init__(self, service: str, writer: LogWriter | None = None, *, human: bool | None = None) -> None:
        self.writer = writer or LogWriter()
        self._service = service
        is_human = sys.stdout.isatty() if human is None else human
        self._console: Callable[..., str] | None = None
        if is_human:
            from structlog.dev import ConsoleRenderer  # to import it is a tenth of a start

            self._console = ConsoleRenderer(repr_native_str=True)

    def info(self, event: str, **fields: object) -> None:
        self._log("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._log("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._log("error", event, fields)

    def _log(self, level: str, event: str, fields: Mapping[str, object]) -> None:
        members = {"level": level, "service": self._service, "event": event, **fields}
        members = {name: _cut(value) for name, value in members.items()}
        self.write([_json({"time": iso_time(time.time()), **members})], now=level != "info")

    def write(self, lines: Iterable[bytes], *, now: bool) -> None:
        """Write lines of JSON, such as :meth:`access_line` returns. ``now`` means the same as in `LogWriter.write`."""
        self.writer.write(lines if self._console is None else map(self._for_terminal, lines), now=now)

    def _for_terminal(self, line: bytes) -> bytes:
        assert self._console is not None  # noqa: S101 - checked by the caller
        event: dict[str, Any] = json.loads(line)
        event["timestamp"] = event.pop("time")
        if not event["event"].isprintable():  # the renderer escapes the other fields
            event["event"] = ascii(event["event"])
        return self._console(None, event["level"], event).encode("utf-8", "replace")

    def access_line(
        self,
        at: str,
        trace_id: str,
        caller: str | None,
        method: str,
        path: str,
        status: int,
        seconds: float,
        error: tuple[str, str | None] | None,
        key: str | None = None,
        uuid: str | None = None,
        attempted: str | None = None,
    ) -> bytes:
        """Return the log line of one answered request.

        ``at`` comes from `iso_time` and ``trace_id`` from `trace_id_from`. ``caller`` and ``method`` must have few
        different values, because a part of the line is cached for each of them. ``error`` is the id and the cause of
        an error; None after a success. ``key`` is an idempotency key (visible ASCII characters), ``uuid`` that of a
        quote, and ``attempted`` the name of a caller that could not be authenticated.
        """
        # nearly every line shares this part with others; to serialise each whole line took three times as long
        pattern = _request_pattern(self._service, caller, method, status, error and error[0])
        more = "" if uuid is None else f',"uuid":"{uuid}"'
        if key is not None:  # not cached, because each key occurs only a few times
            more += (
                f',"key":"{key}"' if '"' not in key and "\\" not in key else f',"key":{_json(key).decode()}'
            )
        if attempted is not None:
            more += f',"attempted":{_text(attempted)}'
        members = at, trace_id, _short_text(path[:MAX_PATH_CHARACTERS]), seconds * 1_000, more
        return (pattern % (members if error is None else (*members, _text(error[1])))).encode()


def _text(value: str | None) -> str:
    is_short = value is not None and len(value) <= MAX_PATH_CHARACTERS
    return _short_text(value) if is_short else _json(_cut(value)).decode()


@lru_cache(maxsize=256)
def _short_text(text: str | None) -> str:
    return _json(text).decode()


@lru_cache(maxsize=256)
def _request_pattern(service: str, caller: str | None, method: str, status: int, error_id: str | None) -> str:
    """Return a log line with placeholders for time, trace id, path, milliseconds, more members, and an error's cause."""
    level = "info" if status < 400 else "warning" if status < 500 else "error"  # noqa: PLR2004
    first = _members({"level": level, "service": service, "event": "request"})
    second = _members({"caller": caller, "method": method})
    error = "" if error_id is None else "," + _members({"id": error_id})
    first, second, error = (part.replace("%", "%%") for part in (first, second, error))
    cause = "" if error_id is None else ',"cause":%s'
    start = f'{{"time":"%s",{first},"traceId":"%s",{second},"path":%s,"status":{status},"duration_ms":%.3f%s'
    return start + error + cause + "}"


def _members(event: dict[str, Any]) -> str:
    """Return the JSON of an object without its braces."""
    return _json(event)[1:-1].decode()


def _json(event: object) -> bytes:
    """Return JSON. If it has an invisible character or lone surrogate, all but ASCII characters are escaped."""
    try:
        line = orjson.dumps(event, default=str)
    except orjson.JSONEncodeError:
        pass
    else:
        if (line.isascii() and b"\x7f" not in line) or line.decode().isprintable():
            return line
    return json.dumps(event, default=str, separators=(",", ":")).encode()


def _cut(value: object) -> object:
    """Cut long text in its middle. The end stays, because the end of a traceback names the error."""
    if not isinstance(value, str) or len(value) <= MAX_VALUE_CHARACTERS:
        return value
    half = MAX_VALUE_CHARACTERS // 2
    return f"{value[:half]} … {value[-half:]}"


class StandardLogging(logging.Handler):
    """Sends the warnings and errors that libraries log with ``logging`` to a service's log."""

    def __init__(self, logs: Logs) -> None:
        super().__init__(logging.WARNING)
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, Any] = {"logger": record.name}
        if record.exc_info:
            fields["cause"] = logging.Formatter().formatException(record.exc_info)
        log = self._logs.warning if record.levelno < logging.ERROR else self._logs.error
        log(record.getMessage(), **fields)
