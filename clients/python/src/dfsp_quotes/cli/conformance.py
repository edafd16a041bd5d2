"""`quotes conformance`: checks an implementation of the Quote API with the conformance kit."""

import asyncio
import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.configuration import read_password
from dfsp_quotes.cli.failures import BadInputError, ExitCode, NoAnswerError
from dfsp_quotes.cli.http import base_url, checked_seconds
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, User
from dfsp_quotes.cli.output import show

if TYPE_CHECKING:
    from dfsp_quotes.conformance import Address, Credentials, Report

SECOND_PASSWORD_VARIABLE: Final = "QUOTES_SECOND_PASSWORD"  # noqa: S105 - the name of the variable
ALL: Final = "all"
_ADDRESS: Final = re.compile(r"(?P<host>[^:/\s]+|\[[0-9a-fA-F:.]+\]):(?P<port>[0-9]{1,5})\Z")
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_EXAMPLE: Final = "Example: quotes conformance http://127.0.0.1:8010 --user test --html report.html"


def add_to(app: typer.Typer) -> None:
    app.command("conformance", epilog=_EXAMPLE)(conformance)


def conformance(
    url: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL]",
            envvar="QUOTES_URL",
            show_default=False,
            help="Base URL of the implementation; by default `url` of the configuration.",
        ),
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role", metavar="ROLE", help="The service behind the URL, or network for all of them."
        ),
    ] = "network",
    part: Annotated[
        str,
        typer.Option(
            "--part", metavar="PART", help="source: the Quote API; promises: our stronger ones; or all."
        ),
    ] = ALL,
    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field", metavar="NAME=VALUE", help="A field of the request, such as identifier=1; repeatable."
        ),
    ] = None,
    second_user: Annotated[
        str | None,
        typer.Option(
            "--second-user", metavar="NAME", help="Another caller, who must not see the quotes of the first."
        ),
    ] = None,
    second_password_file: Annotated[
        Path | None,
        typer.Option(
            "--second-password-file",
            metavar="FILE",
            help="File with its password; else QUOTES_SECOND_PASSWORD.",
        ),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Where the kit plays the next hop of one service."
        ),
    ] = "127.0.0.1:8900",
    directory: Annotated[
        str,
        typer.Option("--directory", metavar="HOST:PORT", help="Where the kit plays the central directory."),
    ] = "127.0.0.1:8901",
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Limit for one response.")
    ] = 10.0,
    max_wait: Annotated[
        float, typer.Option("--max-wait", metavar="SECONDS", help="Limit for the time until a quote expires.")
    ] = 30.0,
    ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="PEM file of the CA of the implementation.")
    ] = None,
    junit: Annotated[Path | None, typer.Option("--junit", metavar="FILE", help="Write JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write one HTML page.")] = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check an implementation of the Quote API. Exit code 1 if a check fails.

    `python -m dfsp_quotes.conformance --help` has further options.
    """
    # no other command needs the kit
    from dfsp_quotes import conformance as kit

    roles, parts = [each.value for each in kit.Role], [each.value for each in kit.Part]
    if role not in roles:
        raise BadInputError(f"--role must be one of {', '.join(roles)}.")
    if part not in {*parts, ALL}:
        raise BadInputError(f"--part must be one of {', '.join(parts)}, {ALL}.")
    request = _request(field or [])
    listening = [_address(name, value) for name, value in (("--listen", listen), ("--directory", directory))]
    _check_ca(ca)
    settings = configuration.load(config)
    access = configuration.access(settings, url=url, user=user, password_file=password_file, url_option="URL")
    options = kit.Options(
        url=base_url(access.url),
        credentials=kit.Credentials(access.user, access.password),
        role=kit.Role(role),
        parts=frozenset(kit.Part) if part == ALL else frozenset({kit.Part(part)}),
        request=request,
        timeout=checked_seconds(timeout),
        max_wait=checked_seconds(max_wait),
        second_caller=_second_caller(second_user, second_password_file),
        listen=listening[0],
        directory=listening[1],
        ca=ca,
    )
    try:
        report = asyncio.run(kit.run(options))
    except kit.NotRunError as error:
        raise NoAnswerError(str(error)) from None
    _write(junit, kit.junit(report))
    _write(html, kit.html(report).encode())
    show(_content(report), _view(kit.text(report)), as_json=as_json)
    if report.failed:
        raise typer.Exit(ExitCode.REFUSED)


def _request(fields: list[str]) -> dict[str, str]:
    """Return the seven fields. Raises BadInputError."""
    from dfsp_quotes.conformance.options import SAMPLE

    made = dict(SAMPLE)
    for each in fields:
        name, equals, value = each.partition("=")
        if name not in made or not equals or not value:
            raise BadInputError(f"--field must be NAME=VALUE, with a NAME of {', '.join(SAMPLE)}.")
        made[name] = value
    if not _AMOUNT.match(made["amount"]):
        raise BadInputError("--field amount must be a plain decimal number such as 12.50.")
    return made


def _address(name: str, value: str) -> "Address":
    from dfsp_quotes.conformance import Address

    found = _ADDRESS.match(value)
    if found is None or int(found["port"]) > 65_535:  # noqa: PLR2004 - the highest port
        raise BadInputError(f"{name} must be HOST:PORT.")
    return Address(found["host"].strip("[]"), int(found["port"]))


def _check_ca(ca: Path | None) -> None:
    if ca is None:
        return
    try:
        ssl.create_default_context(cafile=str(ca))
    except (OSError, ssl.SSLError):
        raise BadInputError(f"--ca must be a PEM file with certificates; {ca} is none.") from None


def _second_caller(name: str | None, file: Path | None) -> "Credentials | None":
    from dfsp_quotes.conformance import Credentials

    if name is None:
        return None
    password = read_password(file) if file is not None else os.environ.get(SECOND_PASSWORD_VARIABLE)
    if password is None:
        raise BadInputError(f"--second-user needs --second-password-file or {SECOND_PASSWORD_VARIABLE}.")
    return Credentials(name, password)


def _write(path: Path | None, content: bytes) -> None:
    if path is None:
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}.") from None


def _content(report: "Report") -> dict[str, object]:
    return {
        "url": report.url,
        "role": report.role.value,
        "began": report.began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "isConformant": not report.failed,
        "checks": [
            {
                "id": each.id,
                "part": each.part.value,
                "section": each.section,
                "outcome": each.outcome.value,
                "message": each.message or None,
                "right": each.right,
            }
            for each in report.results
        ],
    }


def _view(text: str) -> Text:
    view = Text(text.rstrip("\n"))
    for pattern, style in (
        (r"(?m)^ +ok +\S+$", "green"),
        (r"(?m)^ +FAIL +\S+$", "bold red"),
        (r"(?m)^ +skip +\S+$", "dim"),
    ):
        view.highlight_regex(pattern, style)
    return view
