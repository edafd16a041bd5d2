"""The command: options, password, reports and exit code."""

import argparse
import asyncio
import os
import shlex
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from getpass import getpass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from dfsp_quotes.conformance.html import html
from dfsp_quotes.conformance.implementation import AMOUNT
from dfsp_quotes.conformance.junit import junit
from dfsp_quotes.conformance.options import SAMPLE, Address, Credentials, Options, Part, Role
from dfsp_quotes.conformance.result import EXIT_NOT_RUN, EXIT_USAGE, NotRunError
from dfsp_quotes.conformance.run import run
from dfsp_quotes.conformance.text import text

PASSWORD: Final = "QUOTES_PASSWORD"  # noqa: S105 - the name of a variable
SECOND_PASSWORD: Final = "QUOTES_SECOND_PASSWORD"  # noqa: S105 - likewise
MAX_PASSWORD_BYTES: Final = 4_096
MAX_SECONDS: Final = 86_400

DESCRIPTION: Final = """\
Check an implementation of the Quote API.

  network, payee     The implementation answers requests itself. The kit plays the service before it.
  chain              All services between the payer and the payee. The kit plays these two: configure the last service
                     so that its next hop is --listen.
  payer, spsp-...    One service, which passes requests on. The kit plays the services before and after it: configure it
                     so that its next hop is --listen, and its central directory --directory.
"""
EXIT_CODES: Final = """\
exit codes:
  0  no check failed
  1  a check of the Quote API failed
  2  an option is wrong
  3  the Quote API's checks passed, but a stronger promise of wire.md is not kept
  4  the kit could not run: the URL cannot be reached, or an address to listen on is taken

example:
  QUOTES_PASSWORD=123 python -m dfsp_quotes.conformance http://127.0.0.1:8010 --user test --html report.html
"""


class UsageError(Exception):
    """An option or a value for it is wrong; the message says which."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m dfsp_quotes.conformance",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("url", help="base URL of the implementation")
    add("--role", choices=[*Role], default=Role.NETWORK, help="the service behind the URL (default: network)")
    add("--part", choices=[*Part, "all"], default="all", help="the checks to make (default: all)")
    add("--user", default="test", help="name for HTTP Basic (default: test)")
    add("--password-file", type=Path, help=f"file with the password; else {PASSWORD}, else a prompt")
    add("--second-user", help="another caller, who must not see the first one's quotes")
    add(
        "--second-password-file",
        type=Path,
        help=f"file with its password; else {SECOND_PASSWORD}, else a prompt",
    )
    add(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a field of the request, for a receiver that the network knows; repeatable",
    )
    add(
        "--execute",
        default="PUT /v1/payments/{uuid}",
        help="method and path of a transfer (default: %(default)s)",
    )
    add(
        "--timeout",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="limit for one response (default: 10)",
    )
    add(
        "--max-wait", type=_seconds, default=30.0, metavar="SECONDS", help="limit for an expiry (default: 30)"
    )
    add(
        "--clock-tolerance",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="how much the clocks may differ (default: 1)",
    )
    add(
        "--lifetime-ms",
        type=_milliseconds,
        metavar="MS",
        help="send X-Quote-Lifetime-Ms where a quote shall expire soon, for implementations that know it",
    )
    add(
        "--listen",
        type=_address,
        default="127.0.0.1:8900",
        metavar="HOST:PORT",
        help="next hop of the implementation",
    )
    add("--listen-url", metavar="URL", help="URL of --listen as the implementation reaches it")
    add(
        "--directory",
        type=_address,
        default="127.0.0.1:8901",
        metavar="HOST:PORT",
        help="its central directory",
    )
    add(
        "--restart",
        metavar="COMMAND",
        help="restarts the implementation, to check that quotes are persistent",
    )
    add("--ca", type=Path, metavar="FILE", help="PEM file of the CA of the implementation's certificate")
    add("--junit", type=Path, metavar="FILE", help="write JUnit XML")
    add("--html", type=Path, metavar="FILE", help="write one HTML page")
    return made


def main(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> int:
    """Run the command and return its exit code; argparse exits with 2 for wrong options."""
    parsed = parser().parse_args(arguments)
    try:
        options = _options(parsed, environment)
        report = asyncio.run(run(options))
    except UsageError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    except NotRunError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_NOT_RUN
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        return EXIT_NOT_RUN
    sys.stdout.write(text(report))
    try:
        if parsed.junit:
            parsed.junit.write_bytes(junit(report))
        if parsed.html:
            parsed.html.write_text(html(report), encoding="utf-8")
    except OSError as error:
        sys.stderr.write(f"The report cannot be written to {error.filename}: {error.strerror}.\n")
        return EXIT_NOT_RUN
    return report.exit_code


def _options(parsed: argparse.Namespace, environment: Mapping[str, str]) -> Options:
    """Return the options. Raises UsageError."""
    method, _, path = parsed.execute.partition(" ")
    if not method.isalpha() or not path.startswith("/") or "{uuid}" not in path:
        raise UsageError(f"--execute is {parsed.execute!r}; it must be like 'PUT /v1/payments/{{uuid}}'.")
    if parsed.ca:
        try:
            ssl.create_default_context(cafile=str(parsed.ca))
        except OSError as error:
            raise UsageError(
                f"--ca: {parsed.ca} is no PEM file with certificates: {error.strerror}."
            ) from error
    first = Credentials(parsed.user, _password(parsed.user, parsed.password_file, PASSWORD, environment))
    second = parsed.second_user and Credentials(
        parsed.second_user,
        _password(parsed.second_user, parsed.second_password_file, SECOND_PASSWORD, environment),
    )
    return Options(
        url=_url(parsed.url),
        credentials=first,
        role=Role(parsed.role),
        parts=frozenset(Part) if parsed.part == "all" else frozenset({Part(parsed.part)}),
        request=_request(parsed.field),
        execute_method=method.upper(),
        execute_path=path,
        timeout=parsed.timeout,
        max_wait=parsed.max_wait,
        clock_tolerance=parsed.clock_tolerance,
        lifetime_ms=parsed.lifetime_ms,
        second_caller=second or None,
        listen=parsed.listen,
        listen_url=parsed.listen_url and _url(parsed.listen_url),
        directory=parsed.directory,
        restart=_restart(parsed.restart) if parsed.restart else None,
        ca=parsed.ca,
    )


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        raise UsageError(f"{value!r} is not a URL: {error}.") from error
    if (
        parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
    ):
        raise UsageError(f"{value!r} must be an http or https URL without user, query and fragment.")
    return value.rstrip("/")


def _request(fields: Sequence[str]) -> dict[str, str]:
    made = dict(SAMPLE)
    for each in fields:
        name, equals, value = each.partition("=")
        if name not in SAMPLE or not equals or not value:
            raise UsageError(f"--field {each!r} must be NAME=VALUE, with a NAME of {', '.join(SAMPLE)}.")
        made[name] = value
    if not AMOUNT.fullmatch(made["amount"]):
        raise UsageError(f"--field amount={made['amount']} must be a decimal number such as 12.50.")
    return made


def _password(name: str, file: Path | None, variable: str, environment: Mapping[str, str]) -> str:
    """Return a password: from its file, from the environment, or typed at a prompt."""
    if file is not None:
        try:
            with file.open("rb") as opened:
                return opened.read(MAX_PASSWORD_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"The password file {file} cannot be read: {error}.") from error
    if variable in environment:
        return environment[variable]
    if not sys.stdin.isatty():
        raise UsageError(f"There is no password for {name}: set {variable}, or use a password file.")
    return getpass(f"Password of {name}: ")


def _restart(command: str) -> Callable[[], Awaitable[None]]:
    """Return a function that runs a command, without a shell. It raises NotRunError if the command fails."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--restart {command!r}: {error}.") from error

    async def restart() -> None:
        try:
            process = await asyncio.create_subprocess_exec(*words)
        except OSError as error:
            raise NotRunError(f"--restart {command!r} cannot be started: {error.strerror}.") from error
        if code := await process.wait():
            raise NotRunError(f"--restart {command!r} failed with exit code {code}.")

    return restart


def _seconds(value: str) -> float:
    seconds = float(value)
    if not 0 < seconds <= MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_SECONDS}")
    return seconds


def _milliseconds(value: str) -> int:
    milliseconds = int(value)
    if not 0 < milliseconds <= MAX_SECONDS * 1_000:
        raise argparse.ArgumentTypeError(f"must be more than 0 and at most {MAX_SECONDS * 1_000}")
    return milliseconds


def _address(value: str) -> Address:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) <= 65_535):  # noqa: PLR2004
        raise argparse.ArgumentTypeError(f"{value!r} must be HOST:PORT")
    return Address(host.strip("[]"), int(port))
