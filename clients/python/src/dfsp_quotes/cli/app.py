"""The commands of `quotes`, and the way from their failures to exit codes."""

import sys
from importlib.metadata import version
from typing import Annotated

import typer
from typer.exceptions import TyperException

from dfsp_quotes import QuoteError
from dfsp_quotes.cli import (
    audit,
    conformance,
    directory,
    doctor,
    events,
    exposures,
    fees,
    logs,
    quote,
    quote_list,
    trace,
    users,
)
from dfsp_quotes.cli.configuration import is_utf8
from dfsp_quotes.cli.failures import BadInputError, CommandError, ExitCode, failure_of
from dfsp_quotes.cli.output import show_failure

app = typer.Typer(
    name="quotes",
    no_args_is_help=True,
    # a traceback with local variables would show passwords
    pretty_exceptions_enable=False,
    help="Reserve quotes, pay against them, and look after the services that do it.",
    epilog="Example: quotes quote source 12.50 USD --to eur:30754016",
)
quote.add_to(app)
quote_list.add_to(app)
exposures.add_to(app)
trace.add_to(app)
logs.add_to(app)
fees.add_to(app)
users.add_to(app)
audit.add_to(app)
doctor.add_to(app)
directory.add_to(app)
events.add_to(app)
conformance.add_to(app)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"quotes {version('dfsp-quotes')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del show_version  # its callback has printed it


def run(arguments: list[str] | None = None) -> int:
    """Run a command line; return its exit code."""
    used = sys.argv[1:] if arguments is None else arguments
    try:
        if not all(map(is_utf8, used)):
            raise BadInputError("An argument is not UTF-8.")
        code = app(args=used, prog_name="quotes", standalone_mode=False)
        sys.stdout.flush()
    except TyperException as error:
        # without arguments the help was printed, and there is nothing to add
        failure: CommandError = BadInputError(error.format_message().replace("Value error, ", ""))
        if not failure.message:
            return ExitCode.BAD_INPUT
    except QuoteError as error:
        failure = failure_of(error)
    except CommandError as error:
        failure = error
    except (typer.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    else:
        return int(code or 0)
    show_failure(failure, as_json="--json" in used)
    return failure.exit_code
