"""Expectations that several checks have of a response, and values that they send."""

import asyncio
from collections.abc import Awaitable, Iterable
from decimal import Decimal
from typing import Final, TypeVar
from uuid import uuid4

from dfsp_quotes.conformance.implementation import SOURCE, Implementation, Quote
from dfsp_quotes.conformance.result import Fault, cut
from dfsp_quotes.conformance.wire import Response

AT_ONCE: Final = 16
"""The number of requests that a check of concurrency sends at once."""


T = TypeVar("T")


def new_key() -> str:
    return f"kit-{uuid4()}"


async def at_once(calls: Iterable[Awaitable[T]]) -> list[T]:
    return list(await asyncio.gather(*calls))


def ensure_same(first: Quote, again: Quote, when: str) -> None:
    """Raise Fault unless both responses have the same uuid, amount and expires."""
    if first.response.object != again.response.object:
        one, other = (cut(each.response.body.decode("utf-8", "replace"), 300) for each in (first, again))
        raise Fault(f"{when} the same key gave another quote: first {one}, then {other}.")


def ensure_success(response: Response, what: str) -> None:
    """Raise Fault unless the status is 2xx."""
    if not 200 <= response.status < 300:  # noqa: PLR2004
        raise Fault(f"{what} was answered with {response.outcome}.")


def ensure_error(response: Response, what: str) -> None:
    """Raise Fault unless the status is that of an error."""
    if response.status < 400:  # noqa: PLR2004
        raise Fault(f"{what} was answered with {response.outcome}, which is no error.")


def expect(reply: Response, status: int, id_: str) -> None:
    """Raise Fault unless the reply is this error."""
    if (reply.status, reply.error_id) != (status, id_):
        found = reply.outcome if reply.error_id else f"{reply.status} without the id of an error"
        raise Fault(f"The reply was {found}, not {status} {id_}.")


def ensure_same_reply(first: Response, again: Response) -> None:
    """Raise Fault unless both replies have the same status and body."""
    if (first.status, first.body) != (again.status, again.body):
        raise Fault(f"The replies differ: {shown(first)}, then {shown(again)}.")


def shown(response: Response) -> str:
    return cut(f"{response.status} {response.body.decode('utf-8', 'replace')}", 300)


async def ensure_error_objects(implementation: Implementation) -> None:
    """Raise Fault unless a wrong path and a wrong method are answered with error objects (wire.md §4)."""
    for method, path, status, id_ in (
        ("GET", "/v1/nowhere", 404, "NotFoundError"),
        ("GET", SOURCE, 405, "MethodNotAllowedError"),
    ):
        reply = await implementation.send(method, path)
        expect(reply, status, id_)
        if not all(isinstance(reply.object.get(name), str) for name in ("message", "service", "traceId")):
            raise Fault("The error object lacks message, service or traceId.")


def changed(request: dict[str, str], name: str) -> dict[str, str]:
    """Return the request with another valid value of one field."""
    value = request[name]
    others = {
        "amount": format(Decimal(request["amount"]) + minor_unit(Decimal(request["amount"])), "f"),
        "currencyCode": "EUR" if value != "EUR" else "USD",
        "currencySymbol": "€" if value != "€" else "$",
        "account": value.rstrip("/") + "-other",
        "identifierType": "tel" if value != "tel" else "eur",
        "transferType": "b2p" if value != "b2p" else "p2p",
    }
    return {**request, name: others.get(name, value[:-1] + ("0" if value[-1:] != "0" else "1"))}


def minor_unit(amount: Decimal) -> Decimal:
    """Return the smallest step of amounts that are written like this one: 0.01 for 12.50."""
    return Decimal(1).scaleb(int(amount.as_tuple().exponent))
