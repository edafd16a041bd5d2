"""`quotes logs`: the log lines of the services of `make run`."""

import signal
from pathlib import Path
from typing import Annotated, Final

import typer

from dfsp_quotes.cli.failures import project_packages
from dfsp_quotes.cli.output import print_json

_EXAMPLE: Final = "Example: quotes logs --since 10m --status 5xx"
_Text = str | None


def add_to(app: typer.Typer) -> None:
    app.command("logs", epilog=_EXAMPLE)(logs)


def logs(
    since: Annotated[
        _Text,
        typer.Option(
            "--since", metavar="TIME", help="From this time on: 90s, 10m, 2h or 1d ago, 18:30, or ISO 8601."
        ),
    ] = None,
    until: Annotated[_Text, typer.Option("--until", metavar="TIME", help="Until this time.")] = None,
    status: Annotated[
        _Text, typer.Option("--status", metavar="STATUS", help="With these statuses: 503, 5xx, or 404,5xx.")
    ] = None,
    caller: Annotated[
        _Text,
        typer.Option(
            "--caller", metavar="NAME", help="Of this caller, and of failed authentications with this name."
        ),
    ] = None,
    error: Annotated[
        _Text, typer.Option("--error", metavar="ID", help="With this error id, such as QuoteExpiredError.")
    ] = None,
    quote: Annotated[
        _Text, typer.Option("--quote", metavar="UUID", help="All lines of the traces that name this quote.")
    ] = None,
    trace: Annotated[
        _Text, typer.Option("--trace", metavar="ID", help="With this trace id, hop by hop.")
    ] = None,
    service: Annotated[_Text, typer.Option("--service", metavar="NAME", help="Of this service.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Then show new lines until Ctrl-C.")] = False,
    data: Annotated[
        Path, typer.Option("--data", metavar="FOLDER", help="Data folder of `make run`, which has the logs.")
    ] = Path(".data"),
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object; with --follow, one line of JSON for each line."),
    ] = False,
) -> None:
    """Show log lines of the services of `make run`: the last 200, or the last 10,000 that match all options."""
    with project_packages():
        # an installation of only the client does not have these packages
        from dfsp_quotes.cli.project import log_lines
    wanted = log_lines.filter_of(
        since=since, until=until, status=status, caller=caller, error=error, quote=quote, trace=trace
    )
    folder = data.expanduser()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not as_json:
        log_lines.show(folder, wanted, service, follow=follow)
    elif follow:
        log_lines.follow_json(folder, wanted, service)
    else:
        print_json(log_lines.collect(folder, wanted, service))
