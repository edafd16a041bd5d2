"""Formats a log record as one short line that people can read."""

import zlib
from http import HTTPStatus

from network import topology
from network.log_records import LoggedHop, LogRecord, time_of_day
from network.terminal import Terminal, escape_controls

_SERVICE_COLOURS = ("cyan", "green", "yellow", "blue", "magenta")
_FIELDS_WITH_A_COLUMN = {"time", "level", "service", "event", "traceId"}
_MAX_TEXT_LENGTH = 300
_NAME_WIDTH = max(len(name) for name in topology.SERVICE_NAMES)


def service_column(name: str, terminal: Terminal) -> str:
    """Return a service's name in the service's colour, with spaces up to the width of the column."""
    names = topology.SERVICE_NAMES
    number = names.index(name) if name in names else zlib.crc32(name.encode())
    return terminal.colour(f"{name:<{_NAME_WIDTH}}", _SERVICE_COLOURS[number % len(_SERVICE_COLOURS)])


def format_record(record: LogRecord, terminal: Terminal, *, time: float | None = None) -> str:
    """Return a record as a line of `make logs`. Text that is not JSON is not changed."""
    name = service_column(record.service, terminal)
    if not record.fields:
        return f"{' ' * 12}  {name}  {escape_controls(record.text)}"
    text = format_request(record, terminal) if record.is_request else _format_event(record, terminal)
    return f"{time_of_day(record.time if time is None else time)}  {name}  {text}"


def format_hop(hop: LoggedHop, terminal: Terminal) -> str:
    """Return a line for one hop of a request. The time in the line is the time at which the hop started."""
    return format_record(hop.record, terminal, time=hop.start_time if hop.record.is_request else None)


def format_request(record: LogRecord, terminal: Terminal) -> str:
    """Return `POST /v1/quoteSourceAmount  200  4.2 ms  test  <trace id>`, followed by the error if there is one."""
    request_line = f"{record.text_of('method')} {record.text_of('path')}"
    parts = [
        f"{escape_controls(request_line[:_MAX_TEXT_LENGTH]):<29}",
        terminal.colour(str(record.status), status_colour(record.status)),
        f"{record.duration_ms:7.1f} ms",
        _format_caller(record),
        terminal.colour(escape_controls(record.trace_id), "dim"),
    ]
    uuid = record.text_of("uuid")
    if uuid and uuid not in request_line:
        parts.append(terminal.colour(f"quote {escape_controls(uuid[:_MAX_TEXT_LENGTH])}", "dim"))
    return "  ".join([*parts, *_format_error(record, terminal)])


def _format_caller(record: LogRecord) -> str:
    name = record.text_of("caller")
    attempted = record.text_of("attempted")
    text = f"{attempted[:_MAX_TEXT_LENGTH]} (refused)" if attempted and not name else name[:_MAX_TEXT_LENGTH]
    return escape_controls(text) or "-"


def status_colour(status: int) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "red"
    return "yellow" if status >= HTTPStatus.BAD_REQUEST else "green"


def _format_error(record: LogRecord, terminal: Terminal) -> list[str]:
    text = ": ".join(value for name in ("id", "cause") if (value := record.text_of(name)))
    if not text:
        return []
    return [terminal.colour(escape_controls(text[:_MAX_TEXT_LENGTH]), status_colour(record.status))]


def _format_event(record: LogRecord, terminal: Terminal) -> str:
    level = record.text_of("level")
    fields = [f"{name}={value}" for name, value in record.fields.items() if name not in _FIELDS_WITH_A_COLUMN]
    parts = [level if level != "info" else "", record.text_of("event"), *fields, record.trace_id]
    text = escape_controls(" ".join(part for part in parts if part))
    colours = {"error": "red", "critical": "red", "warning": "yellow"}
    return terminal.colour(text, colours[level]) if level in colours else text
