"""How a log record looks to a person: one short line."""

import zlib
from http import HTTPStatus

from network import plan
from network.records import Hop, Record, clock
from network.terminal import Terminal, plain

_SERVICE_COLOURS = ("cyan", "green", "yellow", "blue", "magenta")
_SHOWN_ELSEWHERE = {"time", "level", "service", "event", "traceId"}
_LONGEST = 300
_WIDEST_NAME = max(len(name) for name in plan.NAMES)


def service(name: str, terminal: Terminal) -> str:
    """A service's name in a column of its own and its colour."""
    known = plan.NAMES.index(name) if name in plan.NAMES else zlib.crc32(name.encode())
    return terminal.paint(f"{name:<{_WIDEST_NAME}}", _SERVICE_COLOURS[known % len(_SERVICE_COLOURS)])


def line(record: Record, terminal: Terminal, *, at: float | None = None) -> str:
    """A line of `make logs`; what is not JSON is shown as it is."""
    name = service(record.service, terminal)
    if not record.fields:
        return f"{' ' * 12}  {name}  {plain(record.text)}"
    shown = request(record, terminal) if record.is_request else _event(record, terminal)
    return f"{clock(record.at if at is None else at)}  {name}  {shown}"


def hop(one: Hop, terminal: Terminal) -> str:
    """A line of one call's way: the time is when the hop began."""
    return line(one.record, terminal, at=one.began if one.record.is_request else None)


def request(record: Record, terminal: Terminal) -> str:
    """`POST /v1/quoteSourceAmount  200  4.2 ms  test  <trace id>`, with the error where there is one."""
    path = plain(f"{record.word('method')} {record.word('path')}"[:_LONGEST])
    parts = [
        f"{path:<29}",
        terminal.paint(str(record.status), status_colour(record.status)),
        f"{record.duration_ms:7.1f} ms",
        plain(record.word("caller")[:_LONGEST]) or "-",
        terminal.paint(plain(record.trace_id), "dim"),
    ]
    return "  ".join([*parts, *_error(record, terminal)])


def status_colour(status: int) -> str:
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "red"
    return "yellow" if status >= HTTPStatus.BAD_REQUEST else "green"


def _error(record: Record, terminal: Terminal) -> list[str]:
    told = ": ".join(word for name in ("id", "cause") if (word := record.word(name)))
    return [terminal.paint(plain(told[:_LONGEST]), status_colour(record.status))] if told else []


def _event(record: Record, terminal: Terminal) -> str:
    level = record.word("level")
    rest = [f"{name}={value}" for name, value in record.fields.items() if name not in _SHOWN_ELSEWHERE]
    parts = [level if level not in {"", "info"} else "", record.word("event"), *rest, record.trace_id]
    told = plain(" ".join(part for part in parts if part))
    colours = {"error": "red", "critical": "red", "warning": "yellow"}
    return terminal.paint(told, colours[level]) if level in colours else told
