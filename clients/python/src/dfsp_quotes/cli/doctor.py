"""`quotes doctor`: whether all services are ready, and what differs between them."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import urlsplit

import aiohttp
import typer
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.configuration import Access
from dfsp_quotes.cli.failures import BadInputError, CommandError, ExitCode, NoAnswerError, project_packages
from dfsp_quotes.cli.http import Answer, base_url, checked_seconds, fetch, opened_session
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, User
from dfsp_quotes.cli.output import printable, show
from dfsp_quotes.cli.receivers import receiver

DEFAULT_TIMEOUT_SECONDS: Final = 5.0
MAX_SERVICES: Final = 100
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 2.0
"""The header Date has whole seconds, so a smaller difference does not show."""
MIN_CERTIFICATE_DAYS: Final = 14
_SECONDS_PER_DAY: Final = 86_400
_DEFAULT_TLS_PORT: Final = 443
_MAX_PROBLEM_CHARACTERS: Final = 300

Services = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=URL]...",
        show_default=False,
        help="Services to check; by default those of the table `services` of the configuration.",
    ),
]


@dataclass
class Diagnosis:
    """The findings about one service. It is well if it has no problems."""

    name: str
    url: str
    response_ms: float | None = None
    version: str | None = None
    clock_difference_s: float | None = None
    """The service's clock less that of this machine, to a second."""
    certificate_expires: datetime | None = None
    problems: list[str] = field(default_factory=list)


def add_to(app: typer.Typer) -> None:
    app.command("doctor", epilog="Example: quotes doctor --port 8010 --to eur:30754016 --user test")(doctor)


def doctor(
    services: Services = None,
    port: Annotated[
        int | None, typer.Option("--port", metavar="PORT", help="Check the services of `make run PORT=...`.")
    ] = None,
    directory_url: Annotated[
        str | None,
        typer.Option(
            "--directory-url",
            envvar="QUOTES_DIRECTORY_URL",
            metavar="URL",
            help="Directory for --to; by default the service central-directory, or `directory_url`.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TYPE:IDENTIFIER", help="Look this receiver up in the directory, too."),
    ] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Time limit of each request.")
    ] = DEFAULT_TIMEOUT_SECONDS,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check readiness, versions, clocks, TLS certificates and the directory. Exit code 1 if there is a problem.

    The payee is not ready on a Postgres whose settings could lose quotes.
    """
    settings = configuration.load(config)
    chosen = _services(services, port, settings)
    seconds = checked_seconds(timeout)
    access = None
    if to is not None:
        receiver(to)
        address = directory_url or chosen.get("central-directory")
        access = configuration.access(
            settings,
            url=address,
            user=user,
            password_file=password_file,
            url_key="directory_url",
            url_option="--directory-url",
        )
        base_url(access.url)
    found, directory = asyncio.run(_diagnose(chosen, seconds, access, to or ""))
    versions = sorted({each.version for each in found if each.version is not None})
    if len(versions) > 1:
        for each in found:
            each.problems.append(f"versions differ: {', '.join(versions)}")
    is_well = not any(each.problems for each in found) and (directory is None or directory["problem"] is None)
    content = {
        "isWell": is_well,
        "services": [_content(each) for each in found],
        "directory": directory,
    }
    show(content, _view(found, directory), as_json=as_json)
    if not is_well:
        raise typer.Exit(ExitCode.REFUSED)


def _services(
    services: list[str] | None, port: int | None, settings: configuration.Configuration
) -> dict[str, str]:
    """Return base URLs by name. Raises BadInputError."""
    chosen: Mapping[str, str] = settings.services
    if port is not None:
        if services:
            raise BadInputError("Give either --port or services, not both.")
        with project_packages():
            # the client alone has no such packages
            from dfsp_quotes.cli.project import topology
        chosen = topology.services(port)
    elif services:
        if not all("=" in each for each in services):
            raise BadInputError("A service must be NAME=URL, such as payer=http://127.0.0.1:8010.")
        chosen = dict(each.split("=", 1) for each in services)
    if not 0 < len(chosen) <= MAX_SERVICES:
        raise BadInputError(
            f"Name 1 to {MAX_SERVICES} services: as NAME=URL, with --port, or in the table services of {settings.path}."
        )
    return {name: base_url(url) for name, url in chosen.items()}


async def _diagnose(
    services: Mapping[str, str], seconds: float, access: Access | None, to: str
) -> tuple[list[Diagnosis], dict[str, object] | None]:
    async with opened_session() as session:
        found = await asyncio.gather(
            *(_diagnose_one(session, name, url, seconds) for name, url in services.items())
        )
        directory = None if access is None else await _look_up(session, access, to, seconds)
    return found, directory


async def _diagnose_one(session: aiohttp.ClientSession, name: str, url: str, seconds: float) -> Diagnosis:
    found = Diagnosis(name, url)
    try:
        ready = await fetch(session, "GET", f"{url}/health/ready", seconds=seconds)
        found.response_ms = round(ready.seconds * 1000, 1)
        found.problems += [*_missing(ready), *_texts(ready.member("warnings"))]
        _compare_clocks(found, ready)
        document = await fetch(session, "GET", f"{url}/openapi.json", seconds=seconds)
        information = document.member("info")
        version = information.get("version") if isinstance(information, dict) else None
        found.version = version[:40] if isinstance(version, str) else None
        if url.startswith("https:"):
            await _read_certificate(found, seconds)
    except NoAnswerError as error:
        found.problems.append(error.message)
    return found


def _missing(ready: Answer) -> list[str]:
    """Return the reasons why a service is not ready."""
    if ready.status == HTTPStatus.OK:
        return []
    reasons = ready.member("missing")
    if not isinstance(reasons, list):
        return [f"not ready: status {ready.status}"]
    return [f"not ready: {each}" for each in _texts(reasons)]


def _texts(values: object) -> list[str]:
    """Return at most ten texts of a list, each cut; an empty result if the value is no list."""
    return [str(each)[:_MAX_PROBLEM_CHARACTERS] for each in values[:10]] if isinstance(values, list) else []


def _compare_clocks(found: Diagnosis, answer: Answer) -> None:
    try:
        shown = parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (ValueError, OverflowError):
        return
    # Date was cut to a whole second somewhere between the request and the response
    earliest, latest = answer.sent_at - 1, answer.sent_at + answer.seconds
    difference = 0.0 if earliest <= shown <= latest else shown - (latest if shown > latest else earliest)
    found.clock_difference_s = round(difference, 1)
    if abs(difference) > MAX_CLOCK_DIFFERENCE_SECONDS:
        found.problems.append(f"the clock differs by {difference:+.1f} s from that of this machine")


async def _read_certificate(found: Diagnosis, seconds: float) -> None:
    """Read when the certificate expires. Raises NoAnswerError."""
    parts = urlsplit(found.url)
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(
                parts.hostname, parts.port or _DEFAULT_TLS_PORT, ssl=ssl.create_default_context()
            )
    except TimeoutError:
        raise NoAnswerError(f"no TLS connection within {seconds:g} s") from None
    except (OSError, ssl.SSLError) as error:
        raise NoAnswerError(f"no TLS connection: {type(error).__name__}") from None
    certificate = writer.get_extra_info("peercert")
    writer.close()
    expires = ssl.cert_time_to_seconds(certificate["notAfter"])
    found.certificate_expires = datetime.fromtimestamp(expires, UTC)
    days = (expires - time.time()) / _SECONDS_PER_DAY
    if days < MIN_CERTIFICATE_DAYS:
        found.problems.append(f"the TLS certificate expires in {days:.1f} days")


async def _look_up(
    session: aiohttp.ClientSession, access: Access, to: str, seconds: float
) -> dict[str, object]:
    identifier_type, identifier = receiver(to)
    query = {"identifierType": identifier_type, "identifier": identifier}
    url, problem = base_url(access.url), None
    spsp_url: object = None
    try:
        answer = await fetch(session, "GET", f"{url}/resources", access=access, query=query, seconds=seconds)
        spsp_url = answer.member("spspReceiver")
        if answer.status != HTTPStatus.OK or not isinstance(spsp_url, str):
            problem = f"status {answer.status}: {str(answer.member('message'))[:_MAX_PROBLEM_CHARACTERS]}"
            spsp_url = None
    except CommandError as error:
        problem = error.message
    return {"url": url, "receiver": to, "spspReceiver": spsp_url, "problem": problem}


def _content(found: Diagnosis) -> dict[str, object]:
    expires = found.certificate_expires
    return {
        "name": found.name,
        "url": found.url,
        "version": found.version,
        "responseMs": found.response_ms,
        "clockDifferenceS": found.clock_difference_s,
        "certificateExpires": None if expires is None else expires.isoformat().replace("+00:00", "Z"),
        "problems": found.problems,
    }


def _view(found: list[Diagnosis], directory: dict[str, object] | None) -> Group:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "service", "version", "response", "clock", "certificate until"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"response", "clock"} else "left")
    problems: list[Text] = []
    for each in found:
        expires = each.certificate_expires
        table.add_row(
            _mark(is_well=not each.problems),
            Text(printable(each.name)),
            Text(printable(each.version or "-")),
            "-" if each.response_ms is None else f"{each.response_ms} ms",
            "-" if each.clock_difference_s is None else f"{each.clock_difference_s:+.0f} s",
            "-" if expires is None else f"{expires:%Y-%m-%d}",
        )
        problems += [_problem(each.name, text) for text in each.problems]
    if directory is None:
        return Group(table, *problems)
    name = printable(f"directory: {directory['receiver']} is at {directory['spspReceiver'] or '-'}")
    line = Text.assemble(_mark(is_well=directory["problem"] is None), " ", name)
    if directory["problem"] is not None:
        problems.append(_problem("directory", str(directory["problem"])))
    return Group(table, line, *problems)


def _mark(*, is_well: bool) -> Text:
    return Text("ok", "green") if is_well else Text("!!", "bold red")


def _problem(name: str, text: str) -> Text:
    return Text.assemble((printable(name), "bold"), ": ", (printable(text), "red"))
