"""`quotes events`: receive events of the integration guide, and let a strategy send a signal."""

import asyncio
import json
import re
import signal
from collections import OrderedDict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import typer
from aiohttp import web
from rich.text import Text
from standardwebhooks import Webhook

from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.configuration import read_password
from dfsp_quotes.cli.failures import BadInputError
from dfsp_quotes.cli.http import call
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, Timeout, User
from dfsp_quotes.cli.output import print_json, print_line, printable, show
from dfsp_quotes.cli.received_events import ERROR_TYPES, read, signature_problem, webhook_of, without_secrets

HOST: Final = "127.0.0.1"
MAX_BODY_BYTES: Final = 1_048_576
MAX_REMEMBERED_IDS: Final = 10_000
MAX_TEXT_CHARACTERS: Final = 200
DEFAULT_TIMEOUT_SECONDS: Final = 10.0
_QUANTITY: Final = re.compile(r"(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?\Z")
_STRATEGY: Final = re.compile(r"[A-Za-z0-9._~-]{1,128}\Z")

_group = typer.Typer(
    no_args_is_help=True, help="Receive events of the integration guide, and send a strategy's signals."
)


class SignalType(StrEnum):
    OPEN = "OPEN"
    CLOSE = "CLOSE"
    REOPEN = "REOPEN"


class Direction(StrEnum):
    BUY = "BUY"
    SELL = "SELL"


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="events")


@_group.command("listen", epilog="Example: quotes events listen --port 8090 --secret-file whsec.txt")
def listen(
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 8090,
    secret_file: Annotated[
        Path | None,
        typer.Option(
            "--secret-file",
            metavar="FILE",
            help="File with the signing secret (whsec_...). Without it, signatures are not verified.",
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", metavar="NUMBER", help="End after this number of events.")
    ] = None,
    respond: Annotated[
        str | None,
        typer.Option(
            "--respond", metavar="TYPE", help="Refuse each event with this error type of the guide."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event.")] = False,
) -> None:
    """Receive events at a local webhook, verify and print them until Ctrl-C. Exit code 1 if one had a problem."""
    if respond is not None and respond not in ERROR_TYPES:
        raise BadInputError(f"--respond must be one of {', '.join(ERROR_TYPES)}.")
    if not 0 <= port <= 65_535:  # noqa: PLR2004 - the highest port
        raise BadInputError("--port must be from 0 to 65535.")
    if count is not None and count < 1:
        raise BadInputError("--count must be above 0.")
    verifier = None if secret_file is None else webhook_of(read_password(secret_file))
    listener = _Listener(verifier, respond, count, as_json=as_json)
    asyncio.run(listener.run(port))
    if listener.problems:
        raise typer.Exit(1)


@_group.command(
    "trigger",
    epilog="Example: quotes events trigger gold OPEN BUY XAUUSD 10 --url http://127.0.0.1:8017 --user engine",
)
def trigger(
    strategy: Annotated[
        str, typer.Argument(metavar="STRATEGY", help="Id of the strategy.", show_default=False)
    ],
    type_: Annotated[
        SignalType, typer.Argument(metavar="TYPE", help="OPEN, CLOSE or REOPEN.", show_default=False)
    ],
    direction: Annotated[
        Direction, typer.Argument(metavar="DIRECTION", help="BUY or SELL.", show_default=False)
    ],
    ticker: Annotated[
        str, typer.Argument(metavar="TICKER", help="Instrument such as XAUUSD.", show_default=False)
    ],
    quantity: Annotated[str, typer.Argument(metavar="QUANTITY", help="Number of units.", show_default=False)],
    position: Annotated[
        str | None,
        typer.Option("--position", metavar="ID", help="Id of the position; by default a new one."),
    ] = None,
    signal_id: Annotated[
        str | None,
        typer.Option(
            "--signal-id", metavar="ID", help="The same id again changes nothing; by default a new one."
        ),
    ] = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="QUOTES_INTEGRATIONS_URL",
            metavar="URL",
            help="Base URL of the integrations; `integrations_url` of the configuration.",
        ),
    ] = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a strategy send a signal: an event to each integration that is enabled for it. The caller is the engine."""
    if not _STRATEGY.match(strategy):
        raise BadInputError("STRATEGY must be 1 to 128 of A-Z a-z 0-9 . _ ~ and -.")
    if not _QUANTITY.match(quantity):
        raise BadInputError("QUANTITY must be a plain decimal number such as 10 or 0.5.")
    content = {
        "signalId": signal_id or str(uuid4()),
        "type": type_.value,
        "direction": direction.value,
        "ticker": ticker,
        "proquantPositionId": position or uuid4().hex,
    }
    # the quantity as it was written: a float would change its digits
    body = f'{json.dumps(content)[:-1]}, "quantity": {quantity}}}'.encode()
    used = configuration.access(
        configuration.load(config),
        url=url,
        user=user,
        password_file=password_file,
        url_key="integrations_url",
    )
    answer = call("POST", f"/v1/strategies/{strategy}/signals", access=used, body=body, seconds=timeout)
    events = answer.get("events") if isinstance(answer, dict) else None
    view = Text.assemble(
        ("sent", "green"), f" {type_} {direction} {quantity} {printable(ticker)}: events: {events}"
    )
    show({**content, "quantity": quantity, "events": events}, view, as_json=as_json)


class _Listener:
    """A webhook on this machine."""

    def __init__(
        self, verifier: Webhook | None, respond: str | None, count: int | None, *, as_json: bool
    ) -> None:
        self.problems = 0
        self._verifier = verifier
        self._respond = respond
        self._left = count
        self._as_json = as_json
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._end = asyncio.Event()

    async def run(self, port: int) -> None:
        """Listen until the last event, SIGINT or SIGTERM. Raises BadInputError if the port is taken."""
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/{path:.*}", self._receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port).start()
        except OSError as error:
            await runner.cleanup()
            raise BadInputError(f"Port {port} cannot be used: {error.strerror}.") from None
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._end.set)
        url = f"http://{HOST}:{runner.addresses[0][1]}/"
        if self._as_json:
            print_json({"listening": url}, indent=None)
        else:
            print_line(Text.assemble("listening at ", (url, "bold"), "; Ctrl-C ends"))
        await self._end.wait()
        await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        self._show(request, await request.read())
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._end.set()
        if self._respond is None:
            return web.Response()
        return web.json_response({"type": self._respond}, status=400, headers={"x-proquant-error": "1"})

    def _show(self, request: web.Request, body: bytes) -> None:
        event, problems = read(body)
        webhook_id = request.headers.get("webhook-id")
        signature = "unverified"
        if self._verifier is not None:
            problem = signature_problem(self._verifier, request.headers, body)
            signature = "valid" if problem is None else "invalid"
            problems += [] if problem is None else [f"signature: {problem}"]
        self.problems += len(problems)
        is_repetition = self._is_repetition(webhook_id)
        if self._as_json:
            content = {
                "received": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "path": request.path,
                "webhookId": webhook_id,
                "signature": signature,
                "isRepetition": is_repetition,
                "problems": problems,
                "event": without_secrets(event),
            }
            print_json(content, indent=None)
            return
        style = {"valid": "green", "invalid": "bold red"}.get(signature, "dim")
        line = Text.assemble(
            f"{datetime.now(UTC):%H:%M:%S}  ",
            (printable(str((event or {}).get("type")))[:MAX_TEXT_CHARACTERS], "bold"),
            "  signature ",
            (signature, style),
            ("  again" if is_repetition else "", "yellow"),
            f"  {printable(json.dumps((event or {}).get('data')))[:MAX_TEXT_CHARACTERS]}",
        )
        print_line(line)
        for problem in problems:
            print_line(Text(f"  {printable(problem)}", "red"))

    def _is_repetition(self, webhook_id: str | None) -> bool:
        if webhook_id is None:
            return False
        is_repetition = webhook_id in self._seen
        self._seen[webhook_id] = None
        if len(self._seen) > MAX_REMEMBERED_IDS:
            self._seen.popitem(last=False)
        return is_repetition
