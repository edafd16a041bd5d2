"""`quotes trace`: the way of a request through the services, as a waterfall."""

import re
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dfsp_quotes.cli.failures import BadInputError, CommandError, project_packages
from dfsp_quotes.cli.options import AsJson
from dfsp_quotes.cli.output import printable, show

if TYPE_CHECKING:
    from dfsp_quotes.cli.project.traces import Hop, Trace

BAR_CHARACTERS: Final = 32
MAX_TEXT_CHARACTERS: Final = 120
_EXAMPLE: Final = "Example: quotes trace 729bce92-21a4-4a0f-9d6d-ee5a8d1eb1a5"
_WANTED: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")

Wanted = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        show_default=False,
        help="Trace id, or the uuid of a quote: then its reservation and all other requests about it.",
    ),
]
Data = Annotated[
    Path, typer.Option("--data", metavar="FOLDER", help="Data folder of `make run`, which has the logs.")
]


def add_to(app: typer.Typer) -> None:
    app.command("trace", epilog=_EXAMPLE)(trace)


def trace(wanted: Wanted, data: Data = Path(".data"), as_json: AsJson = False) -> None:
    """Show the way of a request through the services, from the log files of `make run`."""
    if not _WANTED.match(wanted):
        raise BadInputError("ID must be a trace id or a uuid: 1 to 64 of A-Z a-z 0-9 - _ and the full stop.")
    folder = data.expanduser() / "logs"
    if not folder.is_dir():
        raise BadInputError(f"There is no folder {folder}; --data names the data folder of `make run`.")
    with project_packages():
        # the client alone has no such packages
        from dfsp_quotes.cli.project.traces import find_traces
    try:
        traces = find_traces(folder, wanted)
    except OSError as error:
        raise BadInputError(f"A log in {folder} cannot be read: {error.strerror}.") from None
    if not traces:
        raise CommandError(f"No line in {folder} has this trace id, and none names a quote with this uuid.")
    content = {"traces": [_content(each) for each in traces]}
    show(content, Group(*(_view(each) for each in traces)), as_json=as_json)


def _content(found: "Trace") -> dict[str, object]:
    return {
        "traceId": found.trace_id,
        "started": found.hops[0].started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "durationMs": round(found.duration_ms, 3),
        "hops": [
            {
                "service": hop.service,
                "offsetMs": hop.offset_ms,
                "durationMs": hop.duration_ms,
                "status": hop.status,
                "text": hop.text,
                "error": hop.error or None,
            }
            for hop in found.hops
        ],
    }


def _view(found: "Trace") -> Group:
    first = found.hops[0]
    started = first.started.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    title = Text.assemble(
        (found.trace_id, "bold"), f"  {started} UTC  {found.duration_ms:.1f} ms\n", _cut(first.text)
    )
    table = Table.grid(padding=(0, 2))
    for justify in ("left", "left", "right", "left"):
        table.add_column(no_wrap=True, justify=justify)
    table.add_column(overflow="fold")
    for number, hop in enumerate(found.hops):
        style = _style(hop.status)
        # each hop has the same method and path as the first one, but for the directory
        text = "" if number == 0 or hop.text == first.text else hop.text
        table.add_row(
            Text(printable(hop.service)),
            Text(bar(hop, found.duration_ms).ljust(BAR_CHARACTERS), style),
            "" if hop.status is None else f"{hop.duration_ms:.1f} ms",
            Text("" if hop.status is None else str(hop.status), style),
            Text(_cut(f"{text}  {hop.error}".strip())),
        )
    return Group(title, table)


def _cut(text: str) -> str:
    return printable(text[:MAX_TEXT_CHARACTERS])


def bar(hop: "Hop", total_ms: float) -> str:
    """Return the hop's part of the trace's time, between leading spaces. An event is one point."""
    scale = BAR_CHARACTERS / total_ms if total_ms else 0.0
    begin = min(int(hop.offset_ms * scale), BAR_CHARACTERS - 1)
    if hop.status is None:
        return " " * begin + "·"
    length = max(1, min(round(hop.duration_ms * scale), BAR_CHARACTERS - begin))
    return " " * begin + "█" * length


def _style(status: int | None) -> str:
    if status is None:
        return "dim"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return "red"
    return "yellow" if status >= HTTPStatus.BAD_REQUEST else "green"
