"""`quotes exposures`: what callers with a limit have reserved at the payee."""

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from dfsp_quotes import Exposure, QuoteClient
from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.failures import BadInputError
from dfsp_quotes.cli.options import AsJson, ConfigFile, PasswordFile, User
from dfsp_quotes.cli.output import printable, show
from dfsp_quotes.cli.quote_views import plain

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
NEARLY_FULL: Final = Decimal("0.9")


def add_to(app: typer.Typer) -> None:
    app.command("exposures", epilog="Example: quotes exposures --json")(exposures)


def exposures(
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Time limit, including repetitions.")
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
    """Show what each caller with an exposure limit has reserved; for operators of the payee."""
    settings = configuration.load(config)
    used = configuration.access(
        settings, url=url, user=user, password_file=password_file, url_key="payee_url"
    )

    async def read() -> tuple[Exposure, ...]:
        async with QuoteClient(used.url, used.user, used.password) as client:
            return await client.exposures(timeout=timeout)

    try:
        found = asyncio.run(read())
    except ValueError as error:
        raise BadInputError(f"{error}.".replace("base_url", "--url", 1)) from None
    show({"exposures": [_content(each) for each in found]}, _view(found), as_json=as_json)


def _content(exposure: Exposure) -> dict[str, object]:
    return {
        "caller": exposure.caller,
        "currencyCode": exposure.currency_code,
        "sum": plain(exposure.sum),
        "count": exposure.count,
        "sumLimit": None if exposure.sum_limit is None else plain(exposure.sum_limit),
        "countLimit": exposure.count_limit,
    }


def _view(found: Sequence[Exposure]) -> RenderableType:
    if not found:
        return Text("The payee has no exposure limits.", "dim")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("caller", "currency", "sum", "limit", "quotes", "limit", "used"):
        table.add_column(title, justify="left" if title in {"caller", "currency"} else "right")
    for each in found:
        share = _share(each)
        table.add_row(
            printable(each.caller),
            printable(each.currency_code),
            plain(each.sum),
            "-" if each.sum_limit is None else plain(each.sum_limit),
            str(each.count),
            "-" if each.count_limit is None else str(each.count_limit),
            Text(f"{share:.0%}", "red" if share >= NEARLY_FULL else ""),
        )
    return table


def _share(exposure: Exposure) -> Decimal:
    """Return the larger part of a limit that is used. A limit of zero is used up."""
    pairs = [(exposure.sum, exposure.sum_limit), (Decimal(exposure.count), exposure.count_limit)]
    return max(
        (used / limit if limit else Decimal(1) for used, limit in pairs if limit is not None),
        default=Decimal(0),
    )
