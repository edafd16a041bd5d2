"""`quotes list`: the caller's quotes at the payee, the newest first."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Final

import typer
from rich.console import Group
from rich.text import Text

from dfsp_quotes import QuoteClient, State, StoredQuote
from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.failures import BadInputError
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, User
from dfsp_quotes.cli.output import printable, show
from dfsp_quotes.cli.quote_views import plain, state_text, stored_content, time_text

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 10_000
MAX_PAGE: Final = 200
_COLUMNS: Final = ("created", "state", "uuid", "sent", "arrives", "fee", "currency", "receiver", "caller")
_AMOUNTS: Final = frozenset({"sent", "arrives", "fee"})
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")
_AGO: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def add_to(app: typer.Typer) -> None:
    app.command("list", epilog="Example: quotes list --state EXECUTED --since 10m")(list_quotes)


def list_quotes(
    state: Annotated[
        State | None, typer.Option("--state", help="Only quotes in this state.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only quotes reserved at this time or later: 2026-11-21T02:18:51Z, a date, or 10m for ten minutes ago.",
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Only quotes reserved before this time.")
    ] = None,
    caller: Annotated[
        str | None,
        typer.Option(
            "--caller", metavar="NAME", help="Only quotes of this caller; for operators of the payee."
        ),
    ] = None,
    identifier: Annotated[
        str | None,
        typer.Option(
            "--identifier", metavar="TEXT", help="Only quotes for this identifier, without its type."
        ),
    ] = None,
    amount: Annotated[
        str | None,
        typer.Option(
            "--amount", metavar="AMOUNT", help="Only quotes with this source amount or destination amount."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="NUMBER", help=f"How many quotes to show: 1 to {MAX_LIMIT:,}.")
    ] = DEFAULT_LIMIT,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="TEXT", help="Continue an earlier list: its `next`."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", help="Time limit for each page, including repetitions."),
    ] = DEFAULT_TIMEOUT_SECONDS,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            envvar="QUOTES_PAYEE_URL",
            metavar="URL",
            help="Base URL of the payee's dfsp-api; `payee_url` of the configuration.",
        ),
    ] = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """List the caller's quotes at the payee, the newest first. An operator gets those of all callers."""
    if not 1 <= limit <= MAX_LIMIT:
        raise BadInputError(f"--limit must be from 1 to {MAX_LIMIT:,}.")
    if amount is not None and not _AMOUNT.match(amount):
        raise BadInputError("--amount must be a plain decimal number such as 12.50.")
    since_time, until_time = _time("--since", since), _time("--until", until)
    settings = configuration.load(config)
    used = configuration.access(
        settings, url=url, user=user, password_file=password_file, url_key="payee_url"
    )

    async def read() -> tuple[list[StoredQuote], str | None]:
        quotes: list[StoredQuote] = []
        following = after
        async with QuoteClient(used.url, used.user, used.password) as client:
            while len(quotes) < limit:
                pages = client.list_quotes(
                    state=state,
                    since=since_time,
                    until=until_time,
                    caller=caller,
                    identifier=identifier,
                    amount=None if amount is None else Decimal(amount),
                    limit=min(MAX_PAGE, limit - len(quotes)),
                    after=following,
                    timeout=timeout,
                )
                page = await anext(pages)
                quotes += page.quotes
                following = page.next
                if following is None:
                    break
        return quotes, following

    try:
        quotes, following = asyncio.run(read())
    except ValueError as error:
        raise BadInputError(f"{error}.".replace("base_url", "--url", 1)) from None
    content = {
        "quotes": [_content(quote) for quote in quotes],
        "next": following,
    }
    show(content, _view(quotes, following), as_json=as_json)


def _time(option: str, text: str | None) -> datetime | None:
    """Return the time of an option; None without one. Raises BadInputError."""
    if text is None:
        return None
    ago = _AGO.match(text)
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        time = datetime.fromisoformat(text)
        if time.tzinfo is None and len(text) == len("2026-11-21"):
            time = time.replace(tzinfo=UTC)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise BadInputError(
        f"{option} must be a time with Z or an offset such as 2026-11-21T02:18:51Z, a date, or a duration such as 30s, 10m,"
        " 2h or 7d."
    )


def _content(quote: StoredQuote) -> dict[str, object]:
    content = stored_content(quote)
    return content if quote.caller is None else {**content, "caller": quote.caller}


def _view(quotes: list[StoredQuote], following: str | None) -> Group:
    """Return a line for each quote. Long lines are not wrapped, so that other programs can read them."""
    if not quotes:
        text = "No quote fits." if following is None else "No quote fits so far."
        return Group(Text(text, "dim"), *_hint(following))
    has_callers = any(quote.caller is not None for quote in quotes)
    rows = [[Text(name, "dim") for name in _COLUMNS], *(_cells(quote) for quote in quotes)]
    rows = [row if has_callers else row[:-1] for row in rows]
    widths = [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        for cell, width, name in zip(row, widths, _COLUMNS, strict=False):
            cell.align("right" if name in _AMOUNTS else "left", width)
    lines = [Text("  ").join(row) for row in rows]
    for line in lines:
        line.rstrip()
    return Group(*lines, *_hint(following))


def _cells(quote: StoredQuote) -> list[Text]:
    return [
        Text(time_text(quote.created)),
        state_text(quote.state),
        Text(str(quote.uuid)),
        Text(plain(quote.source_amount), "bold"),
        Text(plain(quote.destination_amount)),
        Text(plain(quote.fee)),
        Text(printable(quote.request.currency_code)),
        Text(printable(f"{quote.request.identifier_type}:{quote.request.identifier}")),
        Text(printable(quote.caller or "")),
    ]


def _hint(following: str | None) -> list[Text]:
    return [] if following is None else [Text(f"More with: --after {following}", "dim")]
