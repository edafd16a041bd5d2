"""`quotes quote`, `pay`, `show`, `release` and `requote`."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, TypedDict, TypeVar
from uuid import uuid4

import typer
from rich.console import Group
from rich.text import Text

from dfsp_quotes import Payment, Quote, QuoteClient, Release, Requote, StoredQuote
from dfsp_quotes.cli import configuration
from dfsp_quotes.cli.configuration import Access
from dfsp_quotes.cli.failures import BadInputError, InterruptedCommandError
from dfsp_quotes.cli.options import (
    AsJson,
    ConfigFile,
    PasswordFile,
    Receiver,
    Timeout,
    Url,
    User,
    Uuid,
)
from dfsp_quotes.cli.output import facts, show
from dfsp_quotes.cli.quote_views import (
    amount_rows,
    difference_text,
    explanation_text,
    plain,
    quote_content,
    quote_rows,
    state_text,
    stored_content,
    time_text,
)
from dfsp_quotes.cli.receivers import receiver

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_TRANSFER_TYPE: Final = "p2p"
_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?\Z")

T = TypeVar("T")

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Amount such as 12.50.", show_default=False)]
Currency = Annotated[
    str, typer.Argument(metavar="CURRENCY", help="Code of ISO 4217 such as USD.", show_default=False)
]
Account = Annotated[
    str | None,
    typer.Option(
        "--account", metavar="URL", help="URL of the sender's account; `account` of the configuration."
    ),
]
TransferType = Annotated[
    str | None,
    typer.Option(
        "--transfer-type",
        metavar="TYPE",
        help="Type of the transfer; by default `transfer_type` of the configuration, or p2p.",
    ),
]
Symbol = Annotated[
    str | None,
    typer.Option("--symbol", metavar="TEXT", help="Symbol of the currency; by default its code."),
]
Key = Annotated[
    str | None,
    typer.Option("--key", metavar="KEY", help="Idempotency key; the same key gives the same quote again."),
]
Lifetime = Annotated[
    float | None,
    typer.Option(
        "--lifetime",
        metavar="SECONDS",
        help="Lifetime of the quote, up to the payee's maximum; default: the payee's default.",
    ),
]

_group = typer.Typer(no_args_is_help=True, help="Reserve a quote.")


def add_to(app: typer.Typer) -> None:
    app.add_typer(_group, name="quote")
    app.command("pay", epilog=_example("pay UUID --to eur:30754016"))(pay)
    app.command("show", epilog=_example("show UUID --to eur:30754016"))(show_quote)
    app.command("release", epilog=_example("release UUID --to eur:30754016"))(release)
    app.command("requote", epilog=_example("requote UUID --to eur:30754016"))(requote)


def _example(text: str) -> str:
    return f"Example: quotes {text.replace('UUID', '729bce92-21a4-4a0f-9d6d-ee5a8d1eb1a5')}"


@_group.command("source", epilog=_example("quote source 12.50 USD --to eur:30754016"))
def quote_source(
    amount: Amount,
    currency: Currency,
    to: Receiver,
    account: Account = None,
    transfer_type: TransferType = None,
    symbol: Symbol = None,
    key: Key = None,
    lifetime: Lifetime = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Reserve the amount to send so that AMOUNT arrives."""
    settings = configuration.load(config)
    fields = _fields(settings, amount, currency, to, account, transfer_type, symbol)
    used = configuration.access(settings, url=url, user=user, password_file=password_file)

    used_key = key or str(uuid4())

    async def reserve(client: QuoteClient) -> Quote:
        return await client.quote_source_amount(
            **fields, idempotency_key=used_key, lifetime=_lifetime(lifetime), timeout=timeout
        )

    with _naming(used_key):
        quote = _call(used, reserve)
    _show_quote(quote, as_json=as_json)


@_group.command("destination", epilog=_example("quote destination 13.75 USD --to eur:30754016"))
def quote_destination(
    amount: Amount,
    currency: Currency,
    to: Receiver,
    account: Account = None,
    transfer_type: TransferType = None,
    symbol: Symbol = None,
    key: Key = None,
    lifetime: Lifetime = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Reserve the amount that arrives if AMOUNT is sent, fee included."""
    settings = configuration.load(config)
    fields = _fields(settings, amount, currency, to, account, transfer_type, symbol)
    used = configuration.access(settings, url=url, user=user, password_file=password_file)

    used_key = key or str(uuid4())

    async def reserve(client: QuoteClient) -> Quote:
        return await client.quote_destination_amount(
            **fields, idempotency_key=used_key, lifetime=_lifetime(lifetime), timeout=timeout
        )

    with _naming(used_key):
        quote = _call(used, reserve)
    _show_quote(quote, as_json=as_json)


def pay(
    uuid: Uuid,
    to: Receiver,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Pay against exactly the terms of a quote. Paying again changes nothing."""
    used, look_up = _look_up_of(uuid, to, timeout, url, user, password_file, config)

    async def look_up_and_pay(client: QuoteClient) -> tuple[StoredQuote, Payment]:
        quote = await look_up(client)
        return quote, await client.pay(quote, timeout=timeout)

    quote, payment = _call(used, look_up_and_pay)
    content = {
        "uuid": str(payment.uuid),
        "state": payment.state.value,
        "currencyCode": quote.request.currency_code,
        "sourceAmount": plain(payment.source_amount),
        "destinationAmount": plain(payment.destination_amount),
        "fee": plain(payment.fee),
        "executed": time_text(payment.executed),
        "traceId": payment.trace_id,
    }
    currency = quote.request.currency_code
    view = facts(
        [
            ("paid", str(payment.uuid)),
            ("state", state_text(payment.state)),
            ("sent", Text(f"{plain(payment.source_amount)} {currency}", "bold")),
            ("arrives", f"{plain(payment.destination_amount)} {currency}"),
            ("fee", f"{plain(payment.fee)} {currency}"),
            ("executed", time_text(payment.executed)),
            ("trace id", payment.trace_id),
        ]
    )
    show(content, view, as_json=as_json)


def show_quote(
    uuid: Uuid,
    to: Receiver,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show a quote as the receiver's DFSP has it stored."""
    used, look_up = _look_up_of(uuid, to, timeout, url, user, password_file, config)
    quote = _call(used, look_up)
    executed = None if quote.executed is None else time_text(quote.executed)
    content = stored_content(quote)
    rows: list[tuple[str, str | Text]] = [("created", time_text(quote.created))]
    if executed is not None:
        rows.append(("executed", executed))
    if quote.released is not None:
        rows.append(("released", time_text(quote.released)))
    if quote.explanation is not None:
        rows.append(("fee by", explanation_text(quote.explanation)))
    view = facts([("quote", str(quote.uuid)), ("state", state_text(quote.state)), *amount_rows(quote), *rows])
    show(content, view, as_json=as_json)


def release(
    uuid: Uuid,
    to: Receiver,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Give up a quote, which then cannot be paid. Releasing it again changes nothing."""
    used, look_up = _look_up_of(uuid, to, timeout, url, user, password_file, config)

    async def look_up_and_release(client: QuoteClient) -> Release:
        return await client.release(await look_up(client), timeout=timeout)

    found = _call(used, look_up_and_release)
    content = {
        "uuid": str(found.uuid),
        "state": found.state.value,
        "released": time_text(found.released),
        "traceId": found.trace_id,
    }
    view = facts(
        [
            ("quote", str(found.uuid)),
            ("state", state_text(found.state)),
            ("released", time_text(found.released)),
            ("trace id", found.trace_id),
        ]
    )
    show(content, view, as_json=as_json)


def requote(
    uuid: Uuid,
    to: Receiver,
    key: Key = None,
    lifetime: Lifetime = None,
    timeout: Timeout = DEFAULT_TIMEOUT_SECONDS,
    url: Url = None,
    user: User = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Reserve new terms for the request of a quote, and show the difference."""
    used, look_up = _look_up_of(uuid, to, timeout, url, user, password_file, config)

    used_key = key or str(uuid4())

    async def look_up_and_requote(client: QuoteClient) -> Requote:
        return await client.requote(
            await look_up(client), idempotency_key=used_key, lifetime=_lifetime(lifetime), timeout=timeout
        )

    with _naming(used_key):
        found = _call(used, look_up_and_requote)
    content = {
        **quote_content(found.quote),
        "previousUuid": str(found.previous.uuid),
        "difference": plain(found.difference),
        "feeDifference": plain(found.fee_difference),
    }
    currency = found.quote.request.currency_code
    view = facts(
        [
            *quote_rows(found.quote),
            ("instead of", str(found.previous.uuid)),
            ("difference", difference_text(found.difference, currency)),
            ("of the fee", difference_text(found.fee_difference, currency)),
        ]
    )
    show(content, view, as_json=as_json)


class _Fields(TypedDict):
    """The seven fields of the Quote API, as the client takes them."""

    currency_code: str
    currency_symbol: str
    amount: Decimal
    account: str
    identifier: str
    identifier_type: str
    transfer_type: str


def _fields(
    settings: configuration.Configuration,
    amount: str,
    currency: str,
    to: str,
    account: str | None,
    transfer_type: str | None,
    symbol: str | None,
) -> _Fields:
    if not _AMOUNT.match(amount):
        raise BadInputError("AMOUNT must be a plain decimal number such as 12.50.")
    identifier_type, identifier = receiver(to)
    return {
        "currency_code": currency,
        "currency_symbol": symbol or currency,
        "amount": Decimal(amount),
        "account": settings.text("--account", account, "account"),
        "identifier": identifier,
        "identifier_type": identifier_type,
        "transfer_type": transfer_type or settings.texts.get("transfer_type", DEFAULT_TRANSFER_TYPE),
    }


def _call(used: Access, action: Callable[[QuoteClient], Awaitable[T]]) -> T:
    """Run an action with a client. Raises BadInputError for an argument that cannot be right, QuoteError."""

    async def run() -> T:
        async with QuoteClient(used.url, used.user, used.password) as client:
            return await action(client)

    try:
        return asyncio.run(run())
    except ValueError as error:
        raise BadInputError(f"{error}.".replace("base_url", "--url", 1)) from None


@contextmanager
def _naming(key: str) -> Iterator[None]:
    """Let Ctrl-C during a reservation name the key: without it the caller could not repeat the request."""
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedCommandError(
            f"Interrupted. The quote may be reserved all the same: the same command with --key {key} shows it.",
            {"idempotencyKey": key},
        ) from None


def _lifetime(seconds: float | None) -> timedelta | None:
    """Return a lifetime. Raises BadInputError."""
    if seconds is None:
        return None
    try:
        lifetime = timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise BadInputError("--lifetime must be a number of seconds") from None
    if lifetime < timedelta(milliseconds=1):
        raise BadInputError("--lifetime must be at least 0.001 seconds")
    return lifetime


def _look_up_of(
    uuid: str,
    to: str,
    timeout: float,
    url: str | None,
    user: str | None,
    password_file: Path | None,
    config: Path | None,
) -> tuple[Access, Callable[[QuoteClient], Awaitable[StoredQuote]]]:
    """Return the access, and the look-up of a quote. Raises BadInputError."""
    settings = configuration.load(config)
    identifier_type, identifier = receiver(to)
    used = configuration.access(settings, url=url, user=user, password_file=password_file)

    async def look_up(client: QuoteClient) -> StoredQuote:
        return await client.look_up(
            uuid, identifier=identifier, identifier_type=identifier_type, timeout=timeout
        )

    return used, look_up


def _show_quote(quote: Quote, *, as_json: bool) -> None:
    receiver_text = f"{quote.request.identifier_type}:{quote.request.identifier}"
    hint = Text(f"Pay with: quotes pay {quote.uuid} --to {receiver_text}", "dim")
    show(quote_content(quote), Group(facts(quote_rows(quote)), hint), as_json=as_json)
