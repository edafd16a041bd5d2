"""QuoteClient: reserves, pays, releases, looks up, lists and requotes, and repeats what is safe to repeat."""

import asyncio
import json
import logging
import random
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from http import HTTPStatus
from types import TracebackType
from typing import Final, Self
from uuid import UUID, uuid4

from dfsp_quotes import arguments
from dfsp_quotes.quotes import (
    AuditProof,
    Exposure,
    Operation,
    Payment,
    Quote,
    QuotePage,
    QuoteRequest,
    Release,
    Requote,
    State,
    StoredQuote,
    Terms,
)
from dfsp_quotes.responses import (
    error_of,
    read_audit_proof,
    read_checkpoint,
    read_consistency,
    read_exposures,
    read_page,
    read_payment,
    read_quote,
    read_release,
    read_stored_quote,
)
from dfsp_quotes.retries import delay_seconds
from dfsp_quotes.transport import MAX_PAGE_BYTES, Message, Reply, Transport

DEFAULT_TIMEOUT_SECONDS: Final = 10.0
DEFAULT_LIMIT: Final = 50

_log: Final = logging.getLogger("dfsp_quotes")


class QuoteClient:
    """A client of one DFSP's Quote API.

    `async with QuoteClient("https://dfsp.example", "alice", password) as client: ...`

    Every method takes `timeout`, the seconds for the whole call. Within them the client repeats a request whose outcome
    is unknown: after 502, 503, 504 and broken connections, always with the same idempotency key, with growing random
    delays and with the delay of `Retry-After`. Any other response is final.

    Methods raise TypeError or ValueError for an argument that cannot be right, before anything is sent, and a QuoteError
    of the error's own class for everything else.
    """

    def __init__(
        self, base_url: str, name: str, password: str, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        """Create a client of the server at `base_url`. `ssl_context` replaces the system's TLS settings."""
        self._base_url = arguments.base_url(base_url)
        self._name = arguments.user_name(name)
        self._transport = Transport(self._base_url, self._name, arguments.password(password), ssl_context)
        self._jitter = random.Random()  # noqa: S311 - it spreads delays

    def __repr__(self) -> str:
        return f"QuoteClient({self._base_url!r}, {self._name!r})"

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def quote_source_amount(
        self,
        *,
        currency_code: str,
        currency_symbol: str,
        amount: Decimal,
        account: str,
        identifier: str,
        identifier_type: str,
        transfer_type: str,
        idempotency_key: str | None = None,
        lifetime: timedelta | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - the services get it too
    ) -> Quote:
        """Reserve a quote for the amount to send so that `amount` arrives (Quote API §IV).

        Without `idempotency_key` the client makes one; it is on the quote and on every error. The same arguments with
        the same key give the same quote, also after it has expired: for new terms use a new key, or `requote`.
        `lifetime` is how long the quote shall be good, up to a maximum of the payee; None for the payee's default.
        """
        request = _request(
            Operation.QUOTE_SOURCE_AMOUNT,
            currency_code=currency_code,
            currency_symbol=currency_symbol,
            amount=amount,
            account=account,
            identifier=identifier,
            identifier_type=identifier_type,
            transfer_type=transfer_type,
        )
        return await self._reserve(request, idempotency_key, lifetime, timeout)

    async def quote_destination_amount(
        self,
        *,
        currency_code: str,
        currency_symbol: str,
        amount: Decimal,
        account: str,
        identifier: str,
        identifier_type: str,
        transfer_type: str,
        idempotency_key: str | None = None,
        lifetime: timedelta | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> Quote:
        """Reserve a quote for the amount that arrives if `amount` is sent, fee included (Quote API §IV).

        `idempotency_key` and `lifetime` are as for `quote_source_amount`.
        """
        request = _request(
            Operation.QUOTE_DESTINATION_AMOUNT,
            currency_code=currency_code,
            currency_symbol=currency_symbol,
            amount=amount,
            account=account,
            identifier=identifier,
            identifier_type=identifier_type,
            transfer_type=transfer_type,
        )
        return await self._reserve(request, idempotency_key, lifetime, timeout)

    async def requote(
        self,
        quote: Terms,
        *,
        idempotency_key: str | None = None,
        lifetime: timedelta | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> Requote:
        """Reserve new terms for the request of a quote, under a new key. The quote itself does not change."""
        _require_terms(quote)
        return Requote(
            quote=await self._reserve(quote.request, idempotency_key, lifetime, timeout), previous=quote
        )

    async def pay(
        self,
        quote: Terms,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> Payment:
        """Pay against exactly the terms of a quote (Quote API §III). A quote is paid once, however often it is sent.

        Also a quote that seems to be expired is sent: if it was paid before, the response is that payment.
        """
        _require_terms(quote)
        body = {
            **_fields(quote.request),
            "sourceAmount": _amount(quote.source_amount),
            "destinationAmount": _amount(quote.destination_amount),
        }
        message = Message("PUT", f"/v1/payments/{quote.uuid}", str(uuid4()), json.dumps(body).encode())
        return read_payment(await self._call(message, timeout), message, quote.uuid)

    async def release(
        self,
        quote: Terms,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> Release:
        """Give up a quote, so that it cannot be paid any more. A repetition changes nothing.

        Raises QuoteExecutedError if it was paid, QuoteExpiredError if it has expired.
        """
        _require_terms(quote)
        query = {
            "identifierType": quote.request.identifier_type,
            "identifier": quote.request.identifier,
        }
        message = Message("DELETE", f"/v1/quote/{quote.uuid}", str(uuid4()), query=query)
        return read_release(await self._call(message, timeout), message, quote.uuid)

    async def look_up(
        self,
        uuid: UUID | str,
        *,
        identifier: str,
        identifier_type: str,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> StoredQuote:
        """Return a quote that these credentials reserved. Identifier and type lead to the DFSP that stores it."""
        wanted = arguments.uuid(uuid)
        query = {
            "identifierType": arguments.text("identifier_type", identifier_type),
            "identifier": arguments.text("identifier", identifier),
        }
        message = Message("GET", f"/v1/quote/{wanted}", str(uuid4()), query=query)
        return read_stored_quote(await self._call(message, timeout), message, wanted)

    async def audit_checkpoint(
        self,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> str:
        """Return the last checkpoint of the payee's audit log: a signed note, in the form of C2SP's tlog-checkpoint.

        `base_url` must be that of the payee, and the caller one of its operators.
        """
        message = Message("GET", "/v1/audit/checkpoint", str(uuid4()))
        return read_checkpoint(await self._call(message, timeout), message)

    async def audit_proof(
        self,
        uuid: UUID | str,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> AuditProof:
        """Return the events of a quote in the payee's audit log, with the proofs that they are in it.

        `base_url` must be that of the payee. The caller has reserved the quote, or is an operator of the payee. An event
        is in the log about a second after it happened.
        """
        wanted = arguments.uuid(uuid)
        message = Message("GET", f"/v1/audit/proof/{wanted}", str(uuid4()))
        return read_audit_proof(await self._call(message, timeout), message, wanted)

    async def audit_consistency(
        self,
        first: int,
        second: int,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> tuple[bytes, ...]:
        """Return the proof that the audit log with `second` leaves begins with the one that has `first` leaves.

        `base_url` must be that of the payee, and the caller one of its operators.
        """
        query = {"from": str(int(first)), "to": str(int(second))}
        message = Message("GET", "/v1/audit/consistency", str(uuid4()), query=query)
        return read_consistency(await self._call(message, timeout), message)

    def list_quotes(
        self,
        *,
        state: State | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        caller: str | None = None,
        identifier: str | None = None,
        amount: Decimal | None = None,
        limit: int = DEFAULT_LIMIT,
        after: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> AsyncIterator[QuotePage]:
        """Return the pages of a list of quotes that these credentials reserved, the newest first.

        `async for page in client.list_quotes(state=State.EXECUTED): ...`

        `base_url` must be that of the payee: a list does not pass along the chain. The quotes fit all filters: they were
        reserved at `since` or later and before `until`, and their source amount or destination amount is `amount`. An
        operator gets the quotes of all callers, or of `caller`. A page has at most `limit` quotes. `after` is the `next`
        of an earlier page. `timeout` is for each page.
        """
        query = {
            "state": None if state is None else arguments.state(state),
            "since": None if since is None else arguments.time("since", since),
            "until": None if until is None else arguments.time("until", until),
            "caller": None if caller is None else arguments.text("caller", caller),
            "identifier": None if identifier is None else arguments.text("identifier", identifier),
            "amount": None if amount is None else _amount(arguments.amount(amount)),
            "limit": arguments.limit(limit),
            "after": None if after is None else arguments.text("after", after),
        }
        given = {name: value for name, value in query.items() if value is not None}
        return self._pages(given, arguments.timeout(timeout))

    async def exposures(
        self,
        *,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,  # noqa: ASYNC109 - likewise
    ) -> tuple[Exposure, ...]:
        """Return the exposures that have a limit at the payee, by caller and currency. For its operators only.

        `base_url` must be that of the payee.
        """
        message = Message("GET", "/v1/exposures", str(uuid4()), max_reply_bytes=MAX_PAGE_BYTES)
        return read_exposures(await self._call(message, timeout), message)

    async def _pages(self, query: dict[str, str], seconds: float) -> AsyncIterator[QuotePage]:
        while True:
            message = Message("GET", "/v1/quotes", str(uuid4()), query=query, max_reply_bytes=MAX_PAGE_BYTES)
            page = read_page(await self._call(message, seconds), message)
            yield page
            if page.next is None:
                return
            query = {**query, "after": page.next}

    async def _reserve(
        self, request: QuoteRequest, key: str | None, lifetime: timedelta | None, seconds: float
    ) -> Quote:
        message = Message(
            "POST",
            f"/v1/{request.operation}",
            str(uuid4()),
            json.dumps(_fields(request)).encode(),
            idempotency_key=str(uuid4()) if key is None else arguments.idempotency_key(key),
            lifetime_ms=None if lifetime is None else arguments.lifetime_ms(lifetime),
        )
        return read_quote(await self._call(message, seconds), message, request)

    async def _call(self, message: Message, seconds: float) -> Reply:
        """Send a message until its reply is final or the time is used up. Return a 200; raise the error of others."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + arguments.timeout(seconds)
        reply, failures = await self._transport.send(message, seconds), 0
        while reply.may_repeat:
            failures += 1
            delay = delay_seconds(failures, reply.retry_after, self._jitter)
            if delay >= deadline - clock():
                break
            _log.info(
                "%s %s: %s; attempt %d follows in %.2f s (trace id %s)",
                message.method,
                message.path,
                reply.outcome,
                failures + 1,
                delay,
                message.trace_id,
            )
            await asyncio.sleep(delay)
            left = deadline - clock()
            if left <= 0:
                break
            reply = await self._transport.send(message, left)
        if reply.status == HTTPStatus.OK and reply.problem is None:
            return reply
        raise error_of(reply, message, is_repeated=failures > 0)


def _request(
    operation: Operation,
    *,
    currency_code: str,
    currency_symbol: str,
    amount: Decimal,
    account: str,
    identifier: str,
    identifier_type: str,
    transfer_type: str,
) -> QuoteRequest:
    return QuoteRequest(
        operation=operation,
        currency_code=arguments.text("currency_code", currency_code),
        currency_symbol=arguments.text("currency_symbol", currency_symbol),
        amount=arguments.amount(amount),
        account=arguments.text("account", account),
        identifier=arguments.text("identifier", identifier),
        identifier_type=arguments.text("identifier_type", identifier_type),
        transfer_type=arguments.text("transfer_type", transfer_type),
    )


def _require_terms(quote: object) -> None:
    if not isinstance(quote, Terms):
        raise TypeError(f"quote must be a Quote or a StoredQuote, not {type(quote).__name__}")


def _fields(request: QuoteRequest) -> dict[str, str]:
    """Return the seven fields as the Quote API names them."""
    return {
        "currencyCode": request.currency_code,
        "currencySymbol": request.currency_symbol,
        "amount": _amount(request.amount),
        "account": request.account,
        "identifier": request.identifier,
        "identifierType": request.identifier_type,
        "transferType": request.transfer_type,
    }


def _amount(amount: Decimal) -> str:
    return format(amount, "f")
