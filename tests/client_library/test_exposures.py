"""Exposure limits by the client, on the real chain and on the fake: one suite for both."""

from decimal import Decimal

import pytest

from dfsp_quotes import (
    ExceededLimit,
    Exposure,
    ExposureLimitError,
    ForbiddenError,
    InvalidResponseError,
    QuoteClient,
)
from support.quote_client import PATIENCE_SECONDS, reserve
from support.serving import reply, stub

KWD = {"currency_code": "KWD", "currency_symbol": "KD"}


async def test_an_exposure_limit_is_an_error_with_its_numbers_until_a_quote_ends(server, other_client):
    async with server.payee_client("admin", "admin") as operator:
        first = await reserve(other_client, **KWD, amount=Decimal("12.500"))
        second = await reserve(other_client, **KWD, amount=Decimal("12.500"))
        with pytest.raises(ExposureLimitError) as raised:
            await reserve(other_client, **KWD, amount=Decimal("12.500"))
        full = await operator.exposures(timeout=PATIENCE_SECONDS)
        await other_client.pay(first, timeout=PATIENCE_SECONDS)
        await other_client.release(second, timeout=PATIENCE_SECONDS)
        empty = await operator.exposures(timeout=PATIENCE_SECONDS)

    error, amount = raised.value, first.source_amount
    assert (422, {"amount", "currencyCode"}) == (error.status, set(error.fields))
    assert {
        "amount": ExceededLimit(limit=Decimal(30), exposure=2 * amount, requested=amount),
        "currencyCode": ExceededLimit(limit=Decimal(2), exposure=Decimal(2), requested=Decimal(1)),
    } == error.limits
    limit = {"caller": "other", "currency_code": "KWD", "sum_limit": Decimal(30), "count_limit": 2}
    assert (Exposure(**limit, sum=2 * amount, count=2),) == full
    assert (Exposure(**limit, sum=Decimal(0), count=0),) == empty


async def test_exposures_are_for_operators(server, client):
    async with server.payee_client() as caller:
        with pytest.raises(ForbiddenError):
            await caller.exposures(timeout=PATIENCE_SECONDS)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"exposures": {}},
        {"exposures": [{"caller": "a", "currencyCode": "USD", "sum": "x", "count": 1}]},
        {"exposures": [{"caller": "a", "currencyCode": "USD", "sum": "1", "count": "1"}]},
        {"exposures": [{"caller": "a", "currencyCode": "USD", "sum": "1", "count": -1}]},
    ],
)
async def test_other_content_is_an_invalid_response(content):
    async with stub(reply(200, content)) as server, QuoteClient(server.url, "admin", "admin") as client:
        with pytest.raises(InvalidResponseError):
            await client.exposures()
