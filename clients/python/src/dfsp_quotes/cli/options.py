"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option("--url", envvar="QUOTES_URL", metavar="URL", help="Base URL of the service."),
]
User = Annotated[
    str | None, typer.Option("--user", envvar="QUOTES_USER", metavar="NAME", help="Name of the caller.")
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file",
        metavar="FILE",
        help="File with the password. Without it: QUOTES_PASSWORD, the configuration file, or a prompt.",
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar="QUOTES_CONFIG",
        metavar="FILE",
        help="Configuration file; by default ~/.config/dfsp-quotes.toml.",
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="SECONDS", help="Time limit of the whole call, with repetitions."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object, also for an error.")]
Receiver = Annotated[
    str,
    typer.Option("--to", metavar="TYPE:IDENTIFIER", help="The receiver, such as eur:30754016."),
]
Uuid = Annotated[str, typer.Argument(metavar="UUID", help="Uuid of the quote.", show_default=False)]
